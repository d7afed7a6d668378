"""Import many files, one after the other, with one report."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData, NotFound
from jts_storage.readers import text_files
from jts_storage.readers.sources import FORMATS
from jts_storage.usecases import import_candles
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.import_candles import ImportProgress
from jts_storage.usecases.import_options import ImportOptions
from jts_storage.usecases.results import FilesResult, ImportResult, total_of


class ImportFiles:
    """Imports files as `ImportCandles` does each, and keeps on where one stops.

    With ``on_error="stop"`` the first file that is refused ends the import; with ``"quarantine"``
    it is named in the result, and the others are imported.
    """

    def __init__(self, storage: AnyStorage) -> None:
        self._storage = storage

    async def run(
        self,
        paths: Iterable[Path | str],
        timeframe: Timeframe | None = None,
        *,
        symbol: str | None = None,
        exchange: str = "",
        symbol_from_name: bool = False,
        options: ImportOptions | None = None,
        progress: Callable[[ImportProgress], None] | None = None,
    ) -> FilesResult:
        """Import files, those of folders, and those that patterns such as ``data/*.csv`` match.

        :param symbol_from_name: the name of each file says whose candles it holds.
        :raises NotFound: there is no such file, or none in a folder or of a pattern.
        """
        options = options or ImportOptions()
        found = files_of(paths)
        done: list[ImportResult] = []
        refused: dict[str, str] = {}
        left: tuple[str, ...] = ()
        for number, path in enumerate(found, 1):
            try:
                result = await import_candles.ImportCandles(self._storage).run(
                    path,
                    timeframe,
                    symbol=symbol_of(path) if symbol_from_name else symbol,
                    exchange=exchange,
                    options=_fitting(options, path) if len(found) > 1 else options,
                    progress=_shifted(progress, done, number - 1, len(found)),
                )
                done.append(result)
            except (InvalidData, NotFound) as exc:
                refused[text_files.shown(path)] = str(exc)
                if options.on_error == "stop":
                    left = tuple(map(text_files.shown, found[number:]))
                    break
        total = total_of(done, f"{len(done):,} files")
        return FilesResult(files=tuple(done), refused=refused, left=left, total=total)


def files_of(paths: Iterable[Path | str]) -> list[Path]:
    """Return the files that are meant, each once, those of a folder or a pattern by name.

    :raises NotFound: there is none.
    """
    found: dict[Path, None] = {}
    for given in map(Path, paths):
        its = [given]
        if given.is_dir():
            its = [path for path in sorted(given.rglob("*")) if _is_readable(path)]
        elif is_pattern(given):
            pattern = str(given.relative_to(given.anchor))
            its = [path for path in sorted(Path(given.anchor).glob(pattern)) if path.is_file()]
        if not its:
            raise NotFound(
                f"There is no file to import in {given}.",
                remedy=f"Known suffixes are {', '.join(FORMATS)}.",
            )
        found |= dict.fromkeys(its)
    return list(found)


def is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def symbol_of(path: Path) -> str:
    """Return the name of a file without what says its format: ``BRK.B`` of ``BRK.B.csv.gz``."""
    plain = path.with_suffix("") if text_files.compression_of(path) else path
    return plain.stem if plain.suffix.lower() in FORMATS else plain.name


def _is_readable(path: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.parts[-1:])
    return path.is_file() and not is_hidden and text_files.suffix_of(path) in FORMATS


def _fitting(options: ImportOptions, path: Path) -> ImportOptions:
    """The options without what is said of lines, for a file among others that has none."""
    if FORMATS.get(text_files.suffix_of(path)) in (None, "csv"):
        return options
    return replace(options, layout=replace(options.layout, skip_lines=0))


def _shifted(
    progress: Callable[[ImportProgress], None] | None,
    done: list[ImportResult],
    number: int,
    count: int,
) -> Callable[[ImportProgress], None] | None:
    """Report the progress of one file as that of all."""
    if progress is None:
        return None
    before = sum(result.read for result in done)

    def tell(at: ImportProgress) -> None:
        fraction = (number + (at.fraction or 0.0)) / count
        progress(ImportProgress(before + at.rows, fraction, at.read_bytes))

    return tell
