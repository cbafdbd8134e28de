"""How well a model plays each seat, before anybody pays for a run: fixed personas, talks and pairs, one verdict a seat.

Everything is asked as a run asks it, with the newest prompts or with one's own. The figures are shares of few messages:
they tell a model that cannot play a seat from one that can, and do not rank two that can.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast

from interalign.agents.audit import ANSWERS, COPIES, ENDS, REFUSES, REPEATS, THIRD_PERSON, audit_user_message
from interalign.agents.leaks import leaked_words
from interalign.agents.notes import says_nothing
from interalign.agents.own_prompts import read_prompts
from interalign.agents.protocols import (
    At,
    Candidate,
    CandidateAsk,
    ChoiceOpinion,
    Comparison,
    Inducer,
    InducerAsk,
    Judge,
    UserAsk,
    UserRole,
)
from interalign.agents.registry import Kind, Role, seat_role
from interalign.agents.templates import PromptSet
from interalign.config import Runtime, SeatParameters, SimulationSettings
from interalign.errors import BadContentError, ConfigError
from interalign.graphs.many_trees import unwrapped
from interalign.graphs.unrecorded import Unrecorded
from interalign.model_spec import ModelSpec
from interalign.models.resolve import resolve_model
from interalign.personas import Persona
from interalign.run.session import close_models
from interalign.tree import Frozen, Message

T = TypeVar("T")
LIMITS: Final[Mapping[str, tuple[Literal["at most", "at least"], float]]] = {
    "speaks as the assistant": ("at most", 0.25),
    "third person": ("at most", 0.05),
    "refuses": ("at most", 0.05),
    "copies the assistant": ("at most", 0.10),
    "repeats itself": ("at most", 0.10),
    "recites the profile": ("at most", 0.10),
    "unusable": ("at most", 0.02),
    "empty notes": ("at most", 0.15),
    "told facts noted": ("at least", 0.50),
    "facts noted that were not told": ("at most", 0.10),
    "hinted replies that leak": ("at most", 0.05),
    "readable": ("at least", 0.95),
    "both orders agree": ("at least", 0.60),
    "right on known pairs": ("at least", 0.65),
    "first shown preferred": ("at most", 0.65),
}
"""Figure -> how it must be for the seat; docs/running.md has the table."""
_REPLIES: Final = (
    "That sounds like a lot. What would help you most at the moment?",
    "You could start with one small step this week. How much time do you have for it?",
)
_RECITED: Final = 3


class SeatFigures(Frozen):
    """A model in one seat."""

    seat: Kind
    n: int
    """Answers asked for."""
    figures: dict[str, float | None]
    """Shares, 0 to 1; None where nothing could be counted."""

    @property
    def misses(self) -> tuple[str, ...]:
        """The figures outside their limits, in words."""
        return tuple(
            f"{name} {value:.0%} ({LIMITS[name][0]} {LIMITS[name][1]:.0%})"
            for name, value in self.figures.items()
            if name in LIMITS and value is not None and not _within(value, *LIMITS[name])
        )

    @property
    def verdict(self) -> str:
        """One line on whether the model can play the seat, and why not."""
        if not self.misses:
            return f"can play the {self.seat}"
        return f"cannot play the {self.seat}: {', '.join(self.misses)}"


def _within(value: float, how: str, limit: float) -> bool:
    return value <= limit if how == "at most" else value >= limit


class _Talk(NamedTuple):
    message: str
    told: tuple[str, ...]
    untold: tuple[str, ...]


class _Pair(NamedTuple):
    persona: Persona
    message: str
    better: str
    worse: str


async def probe(
    spec: str,
    runtime: Runtime,
    parameters: SeatParameters = SeatParameters(),  # noqa: B008  (frozen)
    *,
    prompts: str | None = None,
    repeats: int = 1,
) -> tuple[SeatFigures, ...]:
    """The figures of the model `spec` in every seat. Raises ConfigError if there is none, or for the world's.

    `prompts` is a folder with prompts of one's own, as of a run. The user and the candidate, which sample, are asked
    `repeats` times, each time with other seeds; the inducer and the judge, which do not, once.
    """
    if ModelSpec.parse(spec).is_world:
        raise ConfigError(f"{spec} understands only the world's own talk; the probe is in English: name a real model")
    asked = SimulationSettings(prompts=prompts, user=spec, inducer=spec, candidate=spec, judge=spec)
    wording, ledger = read_prompts(asked, None), Unrecorded()
    model = resolve_model(spec, runtime)

    def seat(kind: Kind) -> Role:
        return seat_role(kind, spec, getattr(parameters, kind), ledger, lambda _: model, wording)

    asking = asyncio.Semaphore(runtime.concurrency)
    try:
        async with unwrapped():
            return await _every_seat(seat, asking, wording, repeats)
    finally:
        await close_models([model])


async def _every_seat(
    seat: Callable[[Kind], Role], asking: asyncio.Semaphore, wording: PromptSet, repeats: int
) -> tuple[SeatFigures, ...]:
    user = await _user(cast(UserRole, seat("user")), asking, repeats)
    inducer = await _inducer(cast(Inducer, seat("inducer")), asking)
    candidate = await _candidate(cast(Candidate, seat("candidate")), asking, wording, repeats)
    return user, inducer, candidate, await _judge(cast(Judge, seat("judge")), asking)


async def _all(asked: Iterable[Callable[[], Awaitable[T]]], asking: asyncio.Semaphore) -> list[T | None]:
    """All answers in order, None for one that could not be used."""

    async def one(ask: Callable[[], Awaitable[T]]) -> T | None:
        async with asking:
            try:
                return await ask()
            except BadContentError:
                return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(ask)) for ask in asked]
    return [task.result() for task in tasks]


async def _user(role: UserRole, asking: asyncio.Semaphore, repeats: int) -> SeatFigures:
    marks = {ANSWERS: 0, THIRD_PERSON: 0, REFUSES: 0, COPIES: 0, REPEATS: 0, ENDS: 0}
    unusable = recited = n = 0
    talks = [(persona, seed, list[Message]()) for seed in range(repeats) for persona in personas()]
    for turn in range(1, len(_REPLIES) + 2):
        asks = [
            UserAsk(at=_at(f"{turn}/{persona.id}", seed), persona=persona, transcript=tuple(talk), turn=turn)
            for persona, seed, talk in talks
        ]
        said = await _all([lambda ask=ask: role(ask) for ask in asks], asking)  # type: ignore[misc]
        for (persona, _, talk), message in zip(talks, said, strict=True):
            n += 1
            text = message.text if message else "..."
            unusable += message is None
            recited += _recites(text, persona)
            own, replies = ([m.content for m in talk if m.role == side] for side in ("user", "assistant"))
            for mark in audit_user_message(text, own, replies):
                marks[mark] += 1
            talk.append(Message(role="user", content=text))
            if turn <= len(_REPLIES):
                talk.append(Message(role="assistant", content=_REPLIES[turn - 1]))
    counts = {
        "speaks as the assistant": marks[ANSWERS], "third person": marks[THIRD_PERSON], "refuses": marks[REFUSES],
        "copies the assistant": marks[COPIES], "repeats itself": marks[REPEATS], "says goodbye": marks[ENDS],
        "recites the profile": recited, "unusable": unusable,
    }  # fmt: skip
    return SeatFigures(seat="user", n=n, figures={name: count / n for name, count in counts.items()})


def _recites(text: str, persona: Persona) -> bool:
    """Whether a message has most of the longer words of three facts or more."""
    said = set(_long_words(text))
    known = [words for fact in persona.profile if (words := set(_long_words(fact)))]
    return sum(len(words & said) > len(words) / 2 for words in known) >= _RECITED


def _long_words(text: str) -> list[str]:
    return [word for word in "".join(c if c.isalnum() else " " for c in text.casefold()).split() if len(word) > 3]


async def _inducer(role: Inducer, asking: asyncio.Semaphore) -> SeatFigures:
    talks = _talks()
    asks = [InducerAsk(at=_at(talk.message), transcript=_said(talk.message)) for talk in talks]
    heard = await _all([lambda ask=ask: role(ask) for ask in asks], asking)  # type: ignore[misc]
    notes = [note.text.casefold() if note else "" for note in heard]
    told = [word in note for note, talk in zip(notes, talks, strict=True) for word in talk.told]
    untold = [word in note for note, talk in zip(notes, talks, strict=True) for word in talk.untold]
    figures = {
        "empty notes": _share([says_nothing(note) for note in notes]),
        "told facts noted": _share(told),
        "facts noted that were not told": _share(untold),
    }
    return SeatFigures(seat="inducer", n=len(talks), figures=figures)


async def _candidate(role: Candidate, asking: asyncio.Semaphore, prompts: PromptSet, repeats: int) -> SeatFigures:
    """With notes that say more than the message does, so that what is repeated can only come from them."""
    wording = prompts.render("candidate_hint", message="", hint="")
    talks = zip(personas(), _talks())  # noqa: B905
    cases = [(talk.message, "\n".join(persona.profile[:3])) for persona, talk in talks] * repeats
    asks = [
        CandidateAsk(at=_at(message, number), transcript=_said(message), hint=note)
        for number, (message, note) in enumerate(cases)
    ]
    heard = await _all([lambda ask=ask: role(ask) for ask in asks], asking)  # type: ignore[misc]
    leaks = [
        bool(leaked_words(reply.text, note, [message], wording))
        for reply, (message, note) in zip(heard, cases, strict=True)
        if reply
    ]
    figures = {"hinted replies that leak": _share(leaks), "unusable": _share([reply is None for reply in heard])}
    return SeatFigures(seat="candidate", n=len(cases), figures=figures)


async def _judge(role: Judge, asking: asyncio.Semaphore) -> SeatFigures:
    pairs = known_pairs()
    asks = [_comparison(pair, first) for pair in pairs for first in (True, False)]
    heard = await _all([lambda ask=ask: role.compare(ask) for ask in asks], asking)  # type: ignore[misc]
    said = [opinion.value if opinion else None for opinion in cast(Sequence[ChoiceOpinion | None], heard)]
    orders = list(zip(said[::2], said[1::2], strict=True))
    both = [(a, b) for a, b in orders if a is not None and b is not None]
    named = [value for value in said if value in ("A", "B")]
    figures = {
        "readable": _share([value is not None for value in said]),
        "both orders agree": _share([{a, b} in ({"A", "B"}, {"tie"}) for a, b in both]),
        "right on known pairs": _share([(a, b) == ("A", "B") for a, b in both]),
        "first shown preferred": _share([value == "A" for value in named]),
    }
    return SeatFigures(seat="judge", n=len(asks), figures=figures)


def _comparison(pair: _Pair, better_first: bool) -> Comparison:
    first, second = (pair.better, pair.worse) if better_first else (pair.worse, pair.better)
    return Comparison(
        at=_at(f"{pair.message}/{better_first}"), persona=pair.persona, transcript=_said(pair.message),
        first=first, second=second,
    )  # fmt: skip


def _at(node: str, seed: int = 0) -> At:
    return At(tree="probe", node=node, seed=seed)


def _said(message: str) -> tuple[Message, ...]:
    return (Message(role="user", content=message),)


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def personas() -> list[Persona]:
    """Twelve of the packaged people, each with another personality."""
    profiles, styles = (_lines("people", f"{name}.jsonl") for name in ("profiles", "personalities"))
    return [
        Persona(id=profile["id"], profile=tuple(profile["facts"]), personality=style["text"])
        for profile, style in list(zip(profiles, styles, strict=False))[:12]
    ]


def _talks() -> list[_Talk]:
    rows = _lines("run", "probe_data", "talks.jsonl")
    return [_Talk(row["message"], tuple(row["told"]), tuple(row["untold"])) for row in rows]


def known_pairs() -> list[_Pair]:
    """Pairs of replies of which one plainly suits the user: the other goes against a fact or the wished style."""
    return [
        _Pair(
            Persona(id=f"pair{number}", profile=tuple(row["profile"]), personality=row["personality"]),
            row["message"], row["better"], row["worse"],
        )
        for number, row in enumerate(_lines("run", "probe_data", "pairs.jsonl"))
    ]  # fmt: skip


def _lines(*path: str) -> list[dict[str, Any]]:
    text = files("interalign").joinpath(*path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]
