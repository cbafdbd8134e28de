"""`interalign merge`: the shards of a run, brought into one file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interalign.cli.exit_codes import Debug, errors_as_exit_codes, say
from interalign.cli.live_display import one_line

if TYPE_CHECKING:
    from interalign.store.shard_merge import Merged


def merge(
    run: Annotated[Path, typer.Argument(metavar="OUT.db", help="The run file to make or extend.", show_default=False)],
    inputs: Annotated[list[Path], typer.Argument(metavar="IN.db...", help="Run files of one run.", show_default=False)],
    debug: Debug = False,
) -> None:
    """Bring the shards of a run into OUT.db. Trees that are missing, failed or unfinished are named (exit code 1)."""
    from interalign import api

    with errors_as_exit_codes(debug):
        merged = api.merge(run, inputs)
    for line in merged_lines(merged, run):
        say(one_line(line))
    if not merged.is_whole:
        raise typer.Exit(1)


def merged_lines(merged: "Merged", out: Path) -> Iterator[str]:
    """What came of a merge."""
    files = "1 file" if merged.files == 1 else f"{merged.files:,} files"
    yield f"{merged.done:,} of {merged.trees:,} trees done in {out}, out of {files}"
    if merged.shared.trees:
        yield f"in several files, taken once: {merged.shared}"
    for shard, trees in merged.missing.items():
        of = f" of shard {shard}" if shard else ""
        mend = f"run it with --shard {shard} and merge again, or " if shard else ""
        yield f"missing: {trees}{of}; {mend}run the same command on {out} without --shard"
    for what, named in (("unfinished", merged.unfinished), ("failed", merged.failed)):
        if named.trees:
            yield f"{what}: {named}; run the shard again and merge, or the same command on {out} without --shard"
