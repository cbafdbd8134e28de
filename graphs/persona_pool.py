"""Growing a pool by self-generation (ALOE paper, persona pool): a model is shown some of it and asked for more.

plan -> ask, side by side -> fold -> plan ... Calls are numbered, and their replies are read in the order of the
numbers. What a call is shown depends on its number and on the calls before its block alone, never on what happens to
be there already: so the same replies give the same pool at any concurrency, and a larger target begins with the same.
"""

import operator
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, NamedTuple, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from interalign.agents.numbered_people import Entry
from interalign.errors import ConfigError
from interalign.nearest_text import NearestNeighbour, NearestText
from interalign.seeds import addressed_rng

Kind = Literal["profile", "personality"]
Lines = tuple[str, ...]
PER_CALL: Final = 20
EXAMPLES: Final = 5
"""As in the paper."""
_FIRST_BLOCK, _BLOCK = 4, 16
"""Calls that are shown examples from the same pool; few at first, so that a model that cannot do it costs little."""
_WINDOW: Final = 10
"""Calls over which the acceptance rate is measured, once there are as many as in the first block."""
_DRY: Final = 0.02
"""Share of what was asked for below which a model has no more to give."""


class Written(NamedTuple):
    """What came of one call."""

    number: int
    """From 0."""
    entries: tuple[Entry, ...]


class Judged(NamedTuple):
    """What became of one item."""

    entry: Entry
    is_kept: bool
    reason: str
    near: NearestNeighbour
    """The most similar one of the seeds and of what was kept before; 0 where nothing was compared."""


@dataclass(frozen=True)
class PoolWork:
    """Run context of the graph: one kind of text to collect, and how."""

    kind: Kind
    target: int
    seeds: tuple[Lines, ...]
    """What the first calls are shown; not part of the pool, but nothing kept may be like them."""
    seed: int
    threshold: float
    index: NearestText
    """Holds the seeds; whatever is kept is added."""
    ask: Callable[[int, Sequence[Lines]], Awaitable[Written]]
    """Make the call with this number, with these examples."""
    plan: Callable[[Sequence[int]], None]
    """Told of the calls that come next."""
    save: Callable[[int, Sequence[Judged]], Awaitable[None]]
    """Keep on record what became of the items of a call."""


class PoolState(TypedDict, total=False):
    """State of the graph. In: nothing."""

    number: int
    """The next call."""
    shown: int
    """Kept when the block of the next call began."""
    asked: tuple[int, ...]
    written: Annotated[tuple[Written, ...], operator.add]
    kept: tuple[Lines, ...]
    by_call: tuple[int, ...]
    """How many each call added."""
    reasons: Counter[str]
    """Why items were dropped."""
    is_dry: bool


class _Call(TypedDict):
    number: int
    examples: tuple[Lines, ...]


class Pool(NamedTuple):
    """What was collected, and how it went."""

    kind: Kind
    target: int
    kept: tuple[Lines, ...]
    by_call: tuple[int, ...]
    reasons: Counter[str]
    is_dry: bool

    @property
    def rate(self) -> float:
        """Share of the items asked for that was kept, over the last calls."""
        last = self.by_call[-_WINDOW:]
        return sum(last) / (PER_CALL * len(last)) if last else 1.0

    @property
    def curve(self) -> tuple[float, ...]:
        """The same for each ten calls in turn."""
        parts = [self.by_call[start : start + _WINDOW] for start in range(0, len(self.by_call), _WINDOW)]
        return tuple(round(sum(part) / (PER_CALL * len(part)), 3) for part in parts)


async def plan(state: PoolState, runtime: Runtime[PoolWork]) -> dict[str, Any]:
    """The numbers of the calls that come next: at most the rest of a block, and no more than seem to be needed."""
    if runtime.context is None:
        raise ConfigError("the persona graph has nothing to collect; run it with context=PoolWork(...)")
    work, number, kept = runtime.context, state.get("number", 0), state.get("kept", ())
    missing = work.target - len(kept)
    if missing <= 0 or state.get("is_dry", False):
        return {"asked": ()}
    rate = max(_pool(work, state).rate, 1 / PER_CALL)
    asked = tuple(range(number, min(_block(number)[1], number + -int(-missing // (PER_CALL * rate)))))
    work.plan(asked)
    return {"asked": asked, "shown": len(kept) if number == _block(number)[0] else state.get("shown", 0)}


def _block(number: int) -> tuple[int, int]:
    """Where the block of a call begins, and where it ends."""
    if number < _FIRST_BLOCK:
        return 0, _FIRST_BLOCK
    start = number - (number - _FIRST_BLOCK) % _BLOCK
    return start, start + _BLOCK


async def calls(state: PoolState, runtime: Runtime[PoolWork]) -> list[Send] | str:
    """The calls of a round side by side, or the end."""
    work = runtime.context
    pool = (*work.seeds, *state.get("kept", ())[: state["shown"]]) if state["asked"] else ()
    sends = [Send("ask", _Call(number=number, examples=_drawn(work, number, pool))) for number in state["asked"]]
    return sends or END


def _drawn(work: PoolWork, number: int, pool: Sequence[Lines]) -> tuple[Lines, ...]:
    rng = addressed_rng(work.seed, work.kind, number, "examples")
    return tuple(rng.sample(pool, min(EXAMPLES, len(pool))))


async def ask(state: _Call, runtime: Runtime[PoolWork]) -> dict[str, Any]:
    """One call: 20 more, please."""
    return {"written": (await runtime.context.ask(state["number"], state["examples"]),)}


async def fold(state: PoolState, runtime: Runtime[PoolWork]) -> dict[str, Any]:
    """Judge the new items, call by call in the order of their numbers, until the target is reached or no more comes."""
    work = runtime.context
    kept, by_call = list(state.get("kept", ())), list(state.get("by_call", ()))
    reasons, is_dry = Counter(state.get("reasons", Counter())), False
    new = {written.number: written for written in state["written"] if written.number in state["asked"]}
    for number in state["asked"]:
        enough = work.target - len(kept) if not is_dry else 0
        judged = judge(new[number].entries, work, enough)
        kept += [each.entry.lines for each in judged if each.is_kept]
        reasons.update(each.reason for each in judged if not each.is_kept)
        by_call.append(sum(each.is_kept for each in judged))
        is_dry = is_dry or (len(kept) < work.target and _runs_dry(by_call))
        await work.save(number, judged)
    return {
        "number": state["asked"][-1] + 1, "kept": tuple(kept), "by_call": tuple(by_call), "reasons": reasons,
        "is_dry": is_dry,
    }  # fmt: skip


def judge(entries: Sequence[Entry], work: PoolWork, enough: int) -> list[Judged]:
    """What becomes of the items of one call, of which at most `enough` are needed."""
    usable = [entry for entry in entries if not entry.fault] if enough > 0 else []
    offered = iter(work.index.offer([" ".join(entry.lines) for entry in usable], enough))
    found = []
    for entry in entries:
        if enough > 0 and entry.fault:
            found.append(Judged(entry, is_kept=False, reason=entry.fault, near=NearestNeighbour(0.0)))
            continue
        offer = next(offered, None)
        if offer is None:
            found.append(
                Judged(entry, is_kept=False, reason="came when the pool was complete", near=NearestNeighbour(0.0))
            )
        else:
            reason = "" if offer[0] else "is too much like another one"
            found.append(Judged(entry, is_kept=offer[0], reason=reason, near=offer[1]))
    return found


def _runs_dry(by_call: Sequence[int]) -> bool:
    last = by_call[-_WINDOW:]
    return len(last) >= _FIRST_BLOCK and sum(last) < _DRY * PER_CALL * len(last)


def _pool(work: PoolWork, state: PoolState) -> Pool:
    return Pool(
        work.kind,
        work.target,
        state.get("kept", ()),
        state.get("by_call", ()),
        state.get("reasons", Counter()),
        state.get("is_dry", False),
    )


@cache
def pool_graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled graph; its context is `PoolWork`."""
    graph = StateGraph(PoolState, context_schema=PoolWork)
    graph.add_node(plan)
    graph.add_node(ask, input_schema=_Call)
    graph.add_node(fold)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", calls, ["ask", END])
    graph.add_edge("ask", "fold")
    graph.add_edge("fold", "plan")
    return graph.compile(name="personas")


async def grow_pool(work: PoolWork) -> Pool:
    """Collect until the target is reached or the model has no more to give."""
    state = await pool_graph().ainvoke(PoolState(), context=work, config={"recursion_limit": 10**6})
    return _pool(work, state)  # type: ignore[arg-type]
