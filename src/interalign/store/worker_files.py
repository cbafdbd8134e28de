"""The files of a run's worker processes, in the folder `RUN.db.workers`, and what a killed run left there."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from interalign.errors import ConfigError, LockedError
from interalign.records import TreeRecord
from interalign.store.lock import is_locked
from interalign.store.shard_merge import bring_back, copy_to_judge, split_batch, split_off
from interalign.store.store import Store


def split(run: Store, workers: int) -> list[Path]:
    """A file for each worker, with its share of the unfinished trees."""
    files = _new_files(run, workers)
    split_off(run, files)
    return files


def split_to_judge(run: Store, workers: int, trees: Callable[[], Iterator[TreeRecord]]) -> list[Path]:
    """A file for each worker, with a copy of its share of these finished trees."""
    files = _new_files(run, workers)
    for number, file in enumerate(files):
        copy_to_judge(run, file, islice(trees(), number, None, workers))
    return files


def _new_files(run: Store, workers: int) -> list[Path]:
    folder = folder_of(run.path)
    folder.mkdir()
    return [folder / f"{number}.db" for number in range(1, workers + 1)]


def split_one(run: Store, number: int, trees: Sequence[TreeRecord]) -> Path:
    """One more such file, with these trees."""
    file = _new_file(run, number)
    split_batch(run, file, trees)
    return file


def split_one_to_judge(run: Store, number: int, trees: Sequence[TreeRecord]) -> Path:
    """One more file for judges, with a copy of these finished trees."""
    file = _new_file(run, number)
    copy_to_judge(run, file, iter(trees))
    return file


def _new_file(run: Store, number: int) -> Path:
    folder = folder_of(run.path)
    folder.mkdir(exist_ok=True)
    return folder / f"{number}.db"


def gather_one(run: Store, file: Path) -> None:
    """Bring what was grown in one of these files into the run, and remove the file."""
    bring_back(run, [file])
    file.unlink()


def recover(file: Path) -> None:
    """Bring what the write-ahead log of a killed worker holds into its file, so that the file alone is all of it."""
    with Store.create_or_open(file):
        pass


def gather(run: Store) -> None:
    """Bring everything that workers have grown into the run, and remove their files; nothing if there are none.

    LockedError if a worker of an earlier command is still at work.
    """
    folder = folder_of(run.path)
    if not folder.is_dir():
        return
    if run.run is None:
        raise ConfigError(f"{folder} holds what workers grew for a run that is gone; remove it, or restore the run")
    files = sorted(folder.glob("*.db"))
    busy = next(filter(is_locked, files), None)
    if busy is not None:
        raise LockedError(f"{busy} is being written by a worker of an earlier command; wait until it ends")
    bring_back(run, files)
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()


def folder_of(run: Path) -> Path:
    """Where the files of this run's workers lie while they are at work."""
    return run.with_name(run.name + ".workers")
