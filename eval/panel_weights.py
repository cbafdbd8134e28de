"""How much each judge of a panel counts: the log-odds of its accuracy, as calibration found it.

A judge that is right with probability p, independently of the others, is to have the weight log(p / (1 - p)) in a vote
(Nitzan and Paroush 1982). p is estimated by (right answers + 1) / (answers + 2), so that no judge is infallible because
its sample was small; one that is right half of the time or less gets 0.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interalign.errors import ConfigError, did_you_mean
from interalign.eval.calibration import LABELS, TRUTH, Figure, as_json, calibrate
from interalign.panel import PANEL
from interalign.store import Store
from interalign.tree import Frozen


class MemberWeight(Frozen):
    """One judge of a panel."""

    judge: str
    weight: float
    """0: it has no vote."""
    accuracy: float
    """Share of its answers to comparisons that were those of the reference."""
    n: int
    """These answers."""
    against: str
    """What it was calibrated against: `truth`, `labels` or another judge."""


def weight_of(accuracy: float, n: int) -> float:
    """The weight of a judge of whose `n` answers this share was right."""
    p = (accuracy * n + 1) / (n + 2)
    return max(0.0, math.log(p / (1 - p)))


def panel_weights(store: Store, given: Sequence[str]) -> tuple[MemberWeight, ...]:
    """The weights of the judges of a panel, from `labels` or `truth` in the run, or from files of `calibrate --json`.

    The panel of the run, or all judges that were asked, if it was begun with one. Raises ConfigError for a run without
    several judges, a file that is no calibration, a member without one or with two, and if no member is better than a
    coin.
    """
    members = store.panel() or [judge for judge in store.judges() if judge != PANEL]
    if len(members) < 2:
        raise ConfigError(f"--panel-weights: {store.path} was judged by {len(members)} judges; a panel has several")
    in_run = [word for word in given if word in (TRUTH, LABELS)]
    if in_run and len(given) > 1:
        raise ConfigError(f"--panel-weights {in_run[0]}: stands alone; or give calibrations of all members as files")
    found = [*_in_run(store, members, in_run[0])] if in_run else _in_files(members, given)
    if not any(each.weight for each in found):
        raise ConfigError("--panel-weights: by these calibrations no judge of the panel is better than a coin")
    return tuple(found)


def _in_run(store: Store, members: Sequence[str], against: str) -> Iterator[MemberWeight]:
    for member in members:
        yield _member(as_json(calibrate(store, against, member)), member)


def _in_files(members: Sequence[str], given: Sequence[str]) -> list[MemberWeight]:
    found: dict[str, MemberWeight] = {}
    for name in given:
        facts = _calibration(Path(name))
        judge = str(facts["judge"])
        if judge not in members:
            near = did_you_mean(judge, members)
            has = ", ".join(members)
            raise ConfigError(f"{name}: calibrates {judge}, which is no judge of the panel; it has {has}{near}")
        if judge in found:
            raise ConfigError(f"{name}: a second calibration of {judge}; give one a judge")
        found[judge] = _member(facts, name)
    if missing := [member for member in members if member not in found]:
        raise ConfigError(
            f"--panel-weights: no calibration of {missing[0]}; make one with `interalign calibrate RUN.db --judge "
            f"{missing[0]} --against labels --json > FILE.json`"
        )
    return [found[member] for member in members]


def _calibration(file: Path) -> Mapping[str, Any]:
    """What `calibrate --json` wrote to this file; ConfigError for anything else."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--panel-weights {file}: cannot be read as JSON ({reason}); give labels, truth or files of "
            "`interalign calibrate --json`"
        ) from None
    if not isinstance(facts, dict) or not {"judge", "against", "figures"} <= facts.keys():
        raise ConfigError(f"--panel-weights {file}: is no output of `interalign calibrate --json`")
    return facts


def _member(facts: Mapping[str, Any], where: str) -> MemberWeight:
    """The weight by a calibration as JSON; ConfigError, naming `where` it stands, if it holds no comparisons."""
    accuracy = _accuracy(facts["figures"])
    if accuracy is None:
        raise ConfigError(f"--panel-weights {where}: is no output of `interalign calibrate --json`")
    if accuracy.value is None:
        raise ConfigError(
            f"--panel-weights {where}: {facts['judge']} has no accuracy there, since no comparison of its was "
            "calibrated; weights come from comparisons"
        )
    weight = weight_of(accuracy.value, accuracy.n)
    return MemberWeight(
        judge=str(facts["judge"]), weight=weight, accuracy=accuracy.value, n=accuracy.n, against=str(facts["against"])
    )


def _accuracy(figures: object) -> Figure | None:
    """The figure, checked; None if it is none."""
    found = figures.get("accuracy") if isinstance(figures, dict) else None
    value, n = (found.get("value"), found.get("n")) if isinstance(found, dict) else (None, None)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        return None
    if value is None:
        return Figure(None, None, n)
    is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return Figure(float(value), None, n) if is_share and n else None


def weight_lines(found: Sequence[MemberWeight]) -> Iterator[str]:
    """The weights in words, for the notes of a report."""
    against = sorted({each.against for each in found})
    shown = ", ".join(f"{each.judge} {each.weight:.2f} (accuracy {each.accuracy:.2f} of {each.n:,})" for each in found)
    yield f"The panel weighs its members by their accuracy against {' and '.join(against)}: {shown}."
    if out := [each.judge for each in found if not each.weight]:
        yield f"Without a vote, since no better than a coin: {', '.join(out)}."
