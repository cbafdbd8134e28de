"""Keep conversations that were recorded elsewhere in a run file of their own."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from interalign.conversations import ImportedTrees
from interalign.files import sha256
from interalign.personas import content_hash
from interalign.store import Store
from interalign.version import __version__


def keep_import(path: Path, file: Path, found: ImportedTrees) -> bool:
    """Write all of an import to the run file, or nothing; False if it is there already.

    Raises ConfigError for a file that holds another run, and leaves none behind that it made.
    """
    with Store.create_or_open(path) as store:
        try:
            return store.keep_import(path.stem, _identity(file, found), __version__, found.personas, found.found.each)
        except BaseException:
            if store.is_new:
                store.discard()
            raise


def _identity(file: Path, found: ImportedTrees) -> Mapping[str, JsonValue]:
    return {
        "file": file.name,
        "sha256": sha256(file),
        "format": found.format,
        "rows": found.rows,
        "skipped": len(found.skipped),
        "personas": f"sha256:{content_hash(found.personas)}",
        "turns": found.turns,
    }
