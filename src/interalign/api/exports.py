"""The trees of a run as training data, and why there is none."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from interalign.errors import ConfigError, did_you_mean
from interalign.files import refuse_full_folder, refuse_outputs, write_file_atomically
from interalign.panel import PANEL, with_panel
from interalign.registries import LOG_FORMATS

if TYPE_CHECKING:
    from interalign.eval.panel_weights import MemberWeight
    from interalign.store import Store
    from interalign.tree import JudgedTree

_FOR_ROWS: Final = (
    "--pairs", "--min-margin", "--min-agreement", "--audit", "--keep-leaks", "--keep-cut", "--panel-weights",
    "--rows-per-file",
)  # fmt: skip
"""Options that only training rows have."""


def export(
    run: Path | str,
    out: Path | str,
    *,
    format: str,  # noqa: A002  (the option's name)
    pairs: Literal["best-worst", "all"] = "best-worst",
    judge: str | None = None,
    min_margin: float | None = None,
    min_agreement: float | None = None,
    audit: Literal["drop", "keep"] = "keep",
    keep_leaks: bool = False,
    keep_cut: bool = False,
    panel_weights: Sequence[str] = (),
    rows_per_file: int | None = None,
) -> int:
    """Write the trees of `run` as training rows to `out`, Parquet if it ends so, else JSON lines; number of rows.

    The file appears whole or not at all. Beside it, `out` with `.card.json` behind its name says what the rows were
    made from (docs/data-format.md). With `rows_per_file` `out` is a new folder, of Parquet files with so many rows each
    (`train-00000-of-00005.parquet`).

    `format`: sft, dpo, kto, rm, grpo, listwise, messages, user, or a plug-in's (`interalign.registries.FORMATS`).
    Preferences are those of `judge`, by default the panel of a run with several judges, else the last judge that gave a
    readable answer. `panel` for a run with one judge: of all judges that were asked about it since. Replies that repeat
    the inducer's note are left out, with what follows them, unless `keep_leaks`; those that were cut at their length
    limit are learnt in no row unless `keep_cut`. A turn gives no row if its clearest pair has a margin below
    `min_margin`, or if fewer than the share `min_agreement` of the run's judges prefer the chosen reply. `audit="drop"`
    leaves out user messages with a finding (`audit`), and what follows them. `panel_weights` (`labels`, `truth`, or
    files of `calibrate --json`, one a judge): the panel weighs its members by their accuracy there.

    `inspect`, or another of `interalign.registries.LOG_FORMATS`, is no training data but the whole run as the log of
    another program, with what `judge` said, or all judges; the number of conversations. The other options do not apply.
    """
    if format in LOG_FORMATS.names():
        rest = [pairs != "best-worst", min_margin is not None, min_agreement is not None, audit != "keep", keep_leaks,
                keep_cut, bool(panel_weights), rows_per_file is not None]  # fmt: skip
        return _export_log(run, Path(out), format, judge, dict(zip(_FOR_ROWS, rest, strict=True)))
    from interalign.store import Store
    from interalign.training.data_card import Tally, card_beside, write_card
    from interalign.training.export import export_format, rows, write_rows
    from interalign.training.leak_proof import LeakProof
    from interalign.training.row_filters import RowFilters
    from interalign.training.user_seats import UserSeats, facts_for_card

    if rows_per_file is not None and rows_per_file < 1:
        raise ConfigError(f"rows_per_file={rows_per_file}: a file has at least one row")
    if audit not in ("drop", "keep"):
        raise ConfigError(f"audit={audit!r}: write drop or keep")
    card = card_beside(Path(out))
    _refuse_places(out, card, [run, *filter(is_weight_file, panel_weights)], in_folder=rows_per_file is not None)
    with Store.open(Path(run)) as store:
        store.refuse_personas("export")
        name = judge or store.newest_judge()
        members = _panel_of_all(store, run, judge)
        weights = _weights(store, panel_weights, name) if panel_weights else ()
        store.panel_weights = {each.judge: each.weight for each in weights} or None
        trees = store.judged_trees()
        judged = (with_panel(tree, members, store.panel_weights) if members else tree for tree in trees)
        tally = Tally()
        drops = audit == "drop"
        people = lru_cache(256)(store.find_persona)
        rubric = store.run.begun_with.rubric if store.run else None
        proof = LeakProof(people, rubric, notes=not keep_leaks)
        filters = RowFilters(min_margin, min_agreement, drops, people)
        keeps = {"keep_leaks": keep_leaks, "keep_cut": keep_cut}
        seats = UserSeats(store.run, people)
        made = rows(
            tally.counting(judged), format, pairs, judge=name, filters=filters, proof=proof, seats=seats, **keeps
        )
        written = write_rows(made, Path(out), rows_per_file)
        if card is not None:
            warnings = list(store.judge_warnings(name))
            chosen = {"format": format, "pairs": pairs, "judge": name, "keep_cut": keep_cut, "keep_leaks": keep_leaks,
                      "min_margin": min_margin, "min_agreement": min_agreement, "audit": audit,
                      "left_out": dict(filters.left_out), "judge_warnings": warnings,
                      **({"panel_weights": [each.model_dump() for each in weights]} if weights else {}),
                      **facts_for_card(export_format(format), seats, proof.facts)}  # fmt: skip
            write_card(card, Path(out), (Path(run), store.run), written, tally, chosen)
        return written


def _export_log(run: Path | str, out: Path, name: str, judge: str | None, given: Mapping[str, bool]) -> int:
    """Write the run as another program's log; ConfigError for options that only training rows have."""
    from interalign.eval.log_format import LogFormat
    from interalign.store import Store

    if wrong := [option for option, is_given in given.items() if is_given]:
        raise ConfigError(f"{', '.join(wrong)}: for training rows only; --format {name} leaves nothing out")
    log_format, _ = LOG_FORMATS.load(name)
    if not isinstance(log_format, LogFormat):
        raise ConfigError(f"log format {name!r} is {type(log_format).__name__}; expected a LogFormat")
    if out.suffix.lower() not in log_format.suffixes:
        raise ConfigError(f"--out {out}: --format {name} writes a file called *{' or *'.join(log_format.suffixes)}")
    refuse_outputs([out], inputs=[run])
    with Store.open(Path(run)) as store:
        store.refuse_personas("export")
        if judge is not None and judge not in store.judges():
            _panel_of_all(store, run, judge)
        written: list[int] = []
        write_file_atomically(out, lambda target: written.append(log_format.write(store, target, judge)))
        return written[0]


def _refuse_places(out: Path | str, card: Path | None, inputs: Sequence[Path | str], *, in_folder: bool) -> None:
    """ConfigError if what is written would replace a run, an input, or a folder that has something in it."""
    if in_folder:
        refuse_full_folder(Path(out), inputs=inputs)
    refuse_outputs([card] if in_folder else [out, card], inputs=inputs)


def _panel_of_all(store: "Store", run: Path | str, judge: str | None) -> list[str]:
    """The members where `panel` means all judges that were asked since; ConfigError for one that never was."""
    members = store.judges() if judge == PANEL and not store.panel() else []
    if judge is not None and judge not in store.judges() and len(members) < 2:
        near = did_you_mean(judge, store.judges())
        has = ", ".join(store.judges()) or "none at all"
        raise ConfigError(f"{run} has no verdict by {judge!r}; it has {has}{near}")
    return members


def is_weight_file(word: str) -> bool:
    """Whether a word of `panel_weights` names a file."""
    return word not in ("labels", "truth")


def _weights(store: "Store", given: Sequence[str], judge: str | None) -> "tuple[MemberWeight, ...]":
    """The weights of the panel; ConfigError if the rows are not by the panel."""
    from interalign.eval.panel_weights import panel_weights

    if judge != PANEL:
        raise ConfigError(f"--panel-weights: the rows are by {judge}; add --judge {PANEL}")
    return panel_weights(store, given)


def export_shortfalls(run: Path | str, judge: str | None = None, *, format: str = "dpo") -> list[str]:  # noqa: A002
    """What fell short in what `export` with this judge writes, and why to distrust the judge, a line each.

    Of a `format` that is made of the user's side, also which conversations have no known persona.
    """
    from interalign.store import Store
    from interalign.training.export import export_format
    from interalign.training.user_seats import unknown_personas

    with Store.open(Path(run)) as store:
        unknown = unknown_personas(store) if export_format(format).user_rows is not None else None
        found = store.shortfalls(judge or store.newest_judge())
        lines = (unknown, str(found), *(f"warning: {each}" for each in found.warnings))
        return [line for line in lines if line]


def why_empty(run: Path | str, format: str, *, filtered: bool = False) -> str:  # noqa: A002  (the option's name)
    """One line that says why `export` found no row, and what to do. `filtered`: it was asked to leave out turns."""
    from interalign.store import Store
    from interalign.training.export import export_format, without_leaks

    with Store.open(Path(run)) as store:
        trees = list(store.judged_trees())
        known = store.personas()
    if not trees:
        return "no tree of the run is finished yet; run `interalign simulate` again to go on"
    for_user = export_format(format).user_rows is not None
    if for_user and not any(tree.tree.persona in known for tree in trees):
        return "no conversation of the run has a known persona, which a user agent plays"
    if filtered and not export_format(format).needs_judge:
        return "the audit finds fault with the first message of every conversation; leave --audit drop out"
    if for_user:
        return "every user message was cut at its length limit (--keep-cut keeps it), or copied from another tree"
    if not export_format(format).needs_judge:
        if any(tree.cut for tree in trees):
            return "every conversation begins with a message that was cut at its length limit; --keep-cut keeps it"
        return "no tree of the run has a reply"
    if not any(tree.judges() for tree in trees):
        return "the replies were never judged; `interalign judge` does it"
    if all(len(tree.tree.children(turn.id)) < 2 for tree in trees for turn in tree.tree.turns()):
        return "one reply a turn leaves nothing to prefer; simulate with --branch 2 or more"
    if not any(without_leaks(tree) for tree in trees):
        return "every reply, or what it answers, repeats the inducer's note; --keep-leaks keeps them"
    if all(_too_few_whole(tree) for tree in trees):
        return "too few replies were not cut at their length limit; raise max_tokens, or --keep-cut keeps them"
    if filtered:
        return "no turn holds what --min-margin, --min-agreement or --audit drop ask for; ask for less"
    return "no judge preferred one reply to another: every verdict is a tie or missing"


def _too_few_whole(tree: "JudgedTree") -> bool:
    """Whether replies were cut, and no turn has two others."""
    turns = tree.tree.turns()
    return bool(tree.cut) and all(
        len([reply for reply in tree.tree.children(turn.id) if reply.id not in tree.cut]) < 2 for turn in turns
    )
