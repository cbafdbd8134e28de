"""Estimate what a run will take: one tree is grown by the real graphs over a ledger that only counts calls."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from interalign.agents.own_prompts import read_prompts
from interalign.config import EvaluationSettings, RunSettings, Runtime, SimulationSettings, identity_of
from interalign.graphs.policy import branching_policy, caterpillar
from interalign.graphs.seats import all_evaluation_seats, simulation_seats
from interalign.ledger.budget import Prices
from interalign.model_spec import ModelSpec
from interalign.people.source import persona_source
from interalign.personas import Persona
from interalign.records import RunRecord, Usage
from interalign.run.branching import BranchPlan, branched_seats, simulation_plan
from interalign.run.counting import (
    BYTES_A_TOKEN,
    REPLY_TOKENS,
    WORLD_TOKENS,
    CountedCall,
    CountingLedger,
    Unasked,
    count_calls,
)
from interalign.run.plan import EvaluationPlan, Plan
from interalign.run.session import recorded_hashes, refuse_fewer, refuse_strangers
from interalign.shard import places
from interalign.store import Store
from interalign.tree import Frozen
from interalign.version import __version__

RunKind = Literal["simulation", "evaluation"]

UNMEASURED_SECONDS = 1.0
"""What a call is taken to last, in words, where none of its role is on record. The world takes no time."""
BYTES_A_CALL, BYTES_A_REPLY_BYTE = 520, 0.5
"""Disk space of a call, beside that of its reply's own words: bench/speed.py finds 38 kB for 60 calls."""


class EstimateLine(Frozen):
    """What one model is expected to be asked for in one role."""

    role: str
    model: str
    used: Usage


class Estimate(Frozen):
    """What a run is expected to take from here to its end."""

    trees: int
    """Trees or conversations that are not done yet."""
    lines: tuple[EstimateLine, ...]
    seconds: float
    unmeasured: tuple[str, ...]
    """The roles of which no call is on record: `seconds` takes each of theirs to last `UNMEASURED_SECONDS`."""
    bytes_on_disk: int
    basis: str
    """What the figures rest on."""
    what: str = "trees"
    """What `trees` counts."""

    def __str__(self) -> str:
        """A table, and a line each for time, disk and what all that rests on."""
        shown = [("role", "model", "calls", "tokens in", "tokens out", "USD")]
        every = [*self.lines, EstimateLine(role="total", model="", used=self.total)]
        shown += [(line.role, line.model, *_figures(line.used)) for line in every]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        rows = (
            "  ".join(cell.ljust(width) if place < 2 else cell.rjust(width) for place, (cell, width) in enumerate(row))
            for row in (zip(cells, widths, strict=True) for cells in shown)
        )
        size = f"{self.bytes_on_disk / 1e6:,.1f} MB"
        return "\n".join(
            [
                f"Expected for {self.trees:,} {self.what}; nothing was asked, nothing was written.",
                *(row.rstrip() for row in rows),
                f"about {_duration(self.seconds)}{self._supposed()}, {size} on disk",
                f"({self.basis})",
            ]
        )

    def _supposed(self) -> str:
        if not self.unmeasured:
            return ""
        roles = ", ".join(self.unmeasured)
        return f" if a call takes {UNMEASURED_SECONDS:g} s (how long one of {roles} takes is not known yet)"

    @property
    def total(self) -> Usage:
        """All lines together; `usd` None if the price of one of them is not known."""
        none = Usage(calls=0, prompt_tokens=0, completion_tokens=0, bad=0, usd=0.0)
        return sum((line.used for line in self.lines), start=none)


async def estimate_simulation(
    run: Path, settings: SimulationSettings, personas: Sequence[Persona], runtime: Runtime, *, forks: bool = False
) -> Estimate:
    """What `run_simulation` with the same arguments is expected to take; nothing is asked and nothing written.

    Raises ConfigError where that would refuse to go on. With `forks` a copy goes on, which grows every tree anew.
    """
    plan, source = simulation_plan(run, settings, personas)
    refuse_strangers(plan.personas, settings)
    record = _Record(run, "simulation", settings, {"personas": source}, plan, forks=forks)
    counting = CountingLedger(record.reply_tokens)
    seats, start = simulation_seats(settings, counting, Unasked, record.prompts), None
    if isinstance(plan, BranchPlan):
        seats, start = branched_seats(seats, plan.point.path, plan.point.system)
    await count_calls(counting, seats, settings, plan.personas[0], branching_policy(settings.policy), start)
    refuse_fewer(run, settings.trees, record.planned)
    asked = len(places(settings.shard, settings.trees))
    return _estimate(counting.made, record, asked - record.done, runtime)


async def estimate_evaluation(
    run: Path, settings: EvaluationSettings, cases: Sequence[Persona], runtime: Runtime, *, forks: bool = False
) -> Estimate:
    """What `run_evaluation` with the same arguments is expected to take; as `estimate_simulation`."""
    plan = EvaluationPlan(settings, cases)
    refuse_strangers(plan.personas, settings)
    source = {"cases": persona_source(settings.cases, cases)}
    record = _Record(run, "evaluation", settings, source, plan, forks=forks)
    counting = CountingLedger(record.reply_tokens)
    every = all_evaluation_seats(settings, counting, Unasked, record.prompts)
    for seats in every.values():
        await count_calls(counting, seats, settings, cases[0], caterpillar)
    met, of_a_case = len(cases[: settings.limit]), settings.repeats * len(every)
    refuse_fewer(run, met * of_a_case, record.planned)
    asked = len(places(settings.shard, met)) * of_a_case
    return _estimate(counting.made, record, asked - record.done, runtime, grown=len(every))


def _figures(used: Usage) -> tuple[str, str, str, str]:
    usd = "unknown" if used.usd is None else f"{used.usd:,.2f}" if used.usd == 0 or used.usd >= 1 else f"{used.usd:.4f}"
    return f"{used.calls:,}", f"{used.prompt_tokens:,}", f"{used.completion_tokens:,}", usd


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class _Record:
    """What is known from the run file, if there is one already."""

    def __init__(
        self, run: Path, kind: RunKind, settings: RunSettings, source: Mapping[str, str], plan: Plan, *, forks: bool
    ) -> None:
        self.done = self.planned = 0
        self.reply_tokens: dict[str, int] = {}
        self.call_seconds: dict[str, float] = {}
        recorded = None
        if run.exists():
            with Store.open(run) as store:
                recorded = recorded_hashes(store.run)
                if store.run is not None and not forks:
                    asked = {**identity_of(settings, **read_prompts(settings, recorded).identity), **source}
                    _refuse_changes(store, store.run, kind, plan, asked)
                    store.refuse_other_part(settings.shard)
                    branches, count, part = store.branches(), store.count_trees(), store.part
                    ended = [tree for tree in branches if (known := store.tree_record(tree)) and known.status == "done"]
                    self.done = plan.planned(count.get("done", 0), ended)
                    self.planned = part.trees if part else plan.planned(sum(count.values()), branches)
                used = {role: use for role, use in store.usage().items() if use.calls and use.completion_tokens}
                times = [time for time in store.role_times() if time.seconds is not None]
                self.call_seconds = {time.role: time.seconds / time.calls for time in times if time.seconds}
                self.reply_tokens = {role: ceil(use.completion_tokens / use.calls) for role, use in used.items()}
        self.prompts = read_prompts(settings, recorded)

    def knows_time(self, call: CountedCall) -> bool:
        """Whether it is known how long a call of this role takes; those of the world take no time."""
        return ModelSpec.parse(call.model).is_world or call.place.role in self.call_seconds

    def seconds(self, call: CountedCall) -> float:
        """How long it is taken to last."""
        if ModelSpec.parse(call.model).is_world:
            return 0.0
        return self.call_seconds.get(call.place.role, UNMEASURED_SECONDS)


def _refuse_changes(store: Store, run: RunRecord, kind: RunKind, plan: Plan, asked: Mapping[str, JsonValue]) -> None:
    """ConfigError where the run itself would refuse to go on. What is not looked at here (weights) is as it was."""
    unsaid = dict.fromkeys(("end_mark", "repeats", "aspects", "rubric", "system"))
    if not isinstance(plan, BranchPlan):
        store.begin_run(store.path.stem, kind, {**run.identity, **unsaid, **asked}, __version__)
    elif run.kind != "import" or run.grown_with is not None:  # else there is nothing to differ from
        known = run.identity if run.grown_with is None else run.grown_with
        kept = {name: known[name] for name in ("personas",) if name in known}
        store.begin_branches(store.path.stem, {**known, **unsaid, **asked, **kept}, __version__)


def _estimate(made: Sequence[CountedCall], record: _Record, left: int, runtime: Runtime, grown: int = 1) -> Estimate:
    """The calls of `grown` trees, as many times as it takes for the trees that are left."""
    prices, times = Prices(runtime.prices), left / grown
    lines = []
    for role, model in dict.fromkeys((call.place.role, call.model) for call in made):
        calls = [call for call in made if (call.place.role, call.model) == (role, model)]
        used = Usage(
            calls=round(len(calls) * times),
            prompt_tokens=round(sum(call.prompt_tokens for call in calls) * times),
            completion_tokens=round(sum(call.completion_tokens for call in calls) * times),
            bad=0,
        )
        cost = prices.usd(model, used.prompt_tokens, used.completion_tokens)
        lines.append(EstimateLine(role=role, model=model, used=used.model_copy(update={"usd": cost})))
    return Estimate(
        trees=left,
        lines=tuple(lines),
        seconds=max(
            _sequential_seconds(made, record) if left else 0.0,
            sum(map(record.seconds, made)) * times / runtime.concurrency,
        ),
        unmeasured=tuple(dict.fromkeys(call.place.role for call in made if not record.knows_time(call))),
        bytes_on_disk=round(sum(map(_bytes_on_disk, made)) * times),
        basis=_basis(record),
    )


def _sequential_seconds(made: Sequence[CountedCall], record: _Record) -> float:
    """Seconds of one tree's calls that must wait for each other: of each turn and role one."""
    steps: dict[tuple[int, str], float] = {}
    for call in made:
        step = (call.place.node.partition("|")[0].count("/"), call.place.role)
        steps[step] = max(steps.get(step, 0.0), record.seconds(call))
    return sum(steps.values())


def _bytes_on_disk(call: CountedCall) -> float:
    return BYTES_A_CALL + BYTES_A_REPLY_BYTE * BYTES_A_TOKEN * call.completion_tokens


def _basis(record: _Record) -> str:
    measured = ", ".join(f"{role} {tokens}" for role, tokens in record.reply_tokens.items())
    assumed = ", ".join(f"{role} {tokens}" for role, tokens in REPLY_TOKENS.items() if role not in record.reply_tokens)
    timed = ", ".join(f"{role} {seconds:.2g}" for role, seconds in record.call_seconds.items())
    parts = [
        f"replies as long as those on record (tokens: {measured})" if measured else "",
        f"replies taken to have so many tokens: {assumed}, the world's {WORLD_TOKENS}" if assumed else "",
        f"{BYTES_A_TOKEN} bytes a token",
        f"calls as long as those on record (seconds: {timed})" if timed else "",
        "no retries",
    ]
    return "; ".join(part for part in parts if part)
