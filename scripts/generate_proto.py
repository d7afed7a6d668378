"""Write the Python modules of the ``.proto`` files, and the services that follow from the ports.

``python scripts/generate_proto.py`` writes below `jts_storage/proto`; with ``--check`` it only
compares and fails when they differ. It needs the oldest protoc that is supported: what that makes
runs with all later releases of protobuf, and not the other way round.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "jts_storage" / "proto"
FOLDER = Path("jts/storage/v1")
PACKAGE = "jts_storage.proto.jts.storage.v1"


def main() -> int:
    for name, text in generated().items():
        target = PROTO / FOLDER / name
        if "--check" not in sys.argv[1:]:
            target.write_text(text)
        elif not target.exists() or target.read_text() != text:
            sys.stderr.write(f"{name} is not what its .proto says: run `make remote`.\n")
            return 1
    return 0


def generated() -> dict[str, str]:
    sources = sorted(path.name for path in (PROTO / FOLDER).glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        included = str(files("grpc_tools") / "_proto")
        names = [str(FOLDER / source) for source in sources]
        arguments = [f"-I{PROTO}", f"-I{included}", f"--python_out={folder}", f"--pyi_out={folder}"]
        if protoc.main(["protoc", *arguments, *names]) != 0:
            raise SystemExit("protoc refused the .proto files")
        made = sorted((Path(folder) / FOLDER).iterdir())
        return {path.name: _in_package(path.read_text()) for path in made}


def _in_package(text: str) -> str:
    """protoc imports by the folders below its root, which here is a package."""
    imported = text.replace("from jts.storage.v1 import", f"from {PACKAGE} import")
    return imported.replace(", _Mapping]", ", _Mapping[str, object]]")  # as mypy --strict wants it


if __name__ == "__main__":
    raise SystemExit(main())
