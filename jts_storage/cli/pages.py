"""Pages that are opened from a file: no network, no library, their data packed into them."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

from jts_storage.errors import InvalidData

_FOLDER = Path(__file__).parent


def filled(template: str, data: Any) -> str:
    """A page of a template of this folder, with what all pages have in common and its data."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Browsers inflate it in a moment. In Base64 nothing looks like the end of a script element.
    packed = base64.b64encode(zlib.compress(text.encode())).decode()
    page = _read(template).replace("@STYLE@", _read("page.css"))
    return page.replace("@HELPERS@", _read("page.js")).replace("@DATA@", packed)


def data_of(text: str) -> dict[str, Any]:
    """What a page shows, read from the page."""
    packed = text.partition('id="data" type="text/plain">')[2].partition("</script>")[0]
    data: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return data


def write(path: Path, text: str) -> None:
    """:raises InvalidData: it cannot be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InvalidData(f"{path} cannot be written: {exc.strerror}.") from exc


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
