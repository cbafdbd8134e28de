"""Which weights a folder holds: trained anew under the same name they are another model."""

import hashlib
from pathlib import Path

_BLOCK, _BLOCKS = 4096, 256
"""Of a larger file this many blocks of so many bytes are read, evenly apart: training changes weights everywhere."""


def version_with(path: str, chat_template: str | None) -> str:
    """`folder_version`, and where the folder's chat template is replaced, 16 hex digits for both together."""
    version = folder_version(path)
    if chat_template is None:
        return version
    return hashlib.sha256(f"{version}\n{chat_template}".encode()).hexdigest()[:16]


def folder_version(path: str) -> str:
    """16 hex digits for the weights, tokenizer and settings in a model's folder; empty for a model of a hub."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for file in sorted(file for kind in ("*.safetensors", "*.json", "*.jinja") for file in folder.glob(kind)):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        _read(file, digest)
    return digest.hexdigest()[:16]


def _read(file: Path, digest: "hashlib._Hash") -> None:
    apart = max(_BLOCK, file.stat().st_size // _BLOCKS)
    with file.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
            data.seek(apart - _BLOCK, 1)
