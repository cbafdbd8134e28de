"""What a run exports, for tests that compare two runs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import interalign as ia


def data_of(run: Path, *, keep_cut: bool = False) -> dict[str, bytes]:
    """The exported rows by format: the whole conversations and the pairs."""
    data = {}
    with TemporaryDirectory() as folder:
        for name in ("messages", "dpo"):
            ia.export(run, Path(folder, name), format=name, keep_cut=keep_cut)
            data[name] = Path(folder, name).read_bytes()
    return data
