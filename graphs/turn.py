"""The one turn graph: user -> inducer -> candidates side by side -> judge -> annotate.

Nothing else says who speaks when. Growing a tree, evaluating a model and stepping by hand all run this graph; they
differ in who sits in the seats.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, cast

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from interalign.agents.audit import audit_user_message
from interalign.agents.ending import ENDED, without_mark
from interalign.agents.judge import compare_siblings, rank_siblings, score_siblings
from interalign.agents.leaks import LEAK, leaked_words
from interalign.agents.notes import says_nothing
from interalign.agents.protocols import (
    At,
    Candidate,
    CandidateAsk,
    Hook,
    HookView,
    Inducer,
    InducerAsk,
    Judge,
    ListJudge,
    UserAsk,
    UserRole,
)
from interalign.config import HookPoint, Judging
from interalign.errors import BadContentError, ConfigError, InteralignError
from interalign.personas import Persona
from interalign.seeds import addressed_seed
from interalign.tree import Annotation, Frozen, Message, Node, Score, Verdict


@dataclass(frozen=True)
class Seats:
    """Who sits where: the run context of every graph. Roles come in here, never as globals."""

    user: UserRole
    candidates: Mapping[str, Candidate]
    """By name, in order; a turn's replies go round this table."""
    inducer: Inducer | None = None
    """None: no notes, and no reply is hinted."""
    judges: Mapping[str, Judge] = field(default_factory=dict)
    """By name; several are a panel, none: the replies are not judged."""
    judging: Judging = "compare"
    aspects: bool = False
    """Scores have content, style and engagement beside the whole."""
    branch: int = 1
    """Replies per turn, the hinted one included."""
    hooks: Mapping[HookPoint, Sequence[tuple[str, Hook]]] = field(default_factory=dict)
    system: str | None = None
    """System message of the candidates' requests."""
    checks_notes: bool = True
    """A note of nothing is no hint, and hinted replies are checked for the note's words. False: as runs begun with
    prompts of version 1 do it, so that they go on as they began."""
    hint_wording: str = ""
    """The hint's prompt without any note: its words in a reply are a leak as well."""


class Conversation(Frozen):
    """What stays the same over the turns of one tree."""

    tree: str
    case: str
    """Addresses the user's randomness: conversations of one case meet the same user whoever answers."""
    seed: int
    """Seed of the run."""
    persona: Persona
    turns: int
    samples: int = 3
    """How many answers may be asked for at one place until one can be used."""
    end_mark: str | None = None
    """Ends the path in whose user message it stands; None: every path has all its turns."""

    def at(self, node: str, *address: str | int) -> At:
        """Where a role is asked to make or judge `node`; `address` seeds its randomness."""
        seed = addressed_seed(self.seed, self.case, *address)
        return At(tree=self.tree, node=node, seed=seed, samples=self.samples)


class Turn(Frozen):
    """A finished turn: what is saved, whole or not at all."""

    user: Node
    replies: tuple[Node, ...]
    verdicts: tuple[Verdict, ...]
    scores: tuple[Score, ...]
    annotations: tuple[Annotation, ...]
    ended: bool = False
    """The user ended the talk with this message: the path is not continued."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The messages of the turn."""
        return self.user, *self.replies


class TalkEndedError(InteralignError):
    """The user ended the talk and said nothing more: there is no turn. `note` says so at the reply before."""

    def __init__(self, note: Annotation) -> None:
        super().__init__("the user has ended this talk; begin another one")
        self.note = note


class Farewell(Frozen):
    """What comes of a turn in which the user only ended the talk: no message, and a note at the reply before."""

    annotations: tuple[Annotation, ...]


def _joined(earlier: Sequence[Annotation], later: Sequence[Annotation]) -> tuple[Annotation, ...]:
    return *earlier, *later  # not `+`: what comes back from a checkpoint is a list


class TurnState(TypedDict, total=False):
    """State of the turn graph. In: the first three; `transcript` ends with the reply that is continued, if any."""

    conversation: Conversation
    parent: Node | None
    transcript: tuple[Message, ...]
    user: Node
    ended: bool
    hint: str | None
    replies: tuple[Node, ...]
    verdicts: tuple[Verdict, ...]
    scores: tuple[Score, ...]
    annotations: Annotated[tuple[Annotation, ...], _joined]


async def user(state: TurnState, runtime: Runtime[Seats]) -> dict[str, Any]:
    """The persona speaks."""
    if runtime.context is None:  # LangGraph's own answer would be an AttributeError about None
        raise ConfigError("nobody sits in the seats of the turn graph; run it with context=Seats(...)")
    conversation, parent = state["conversation"], state["parent"]
    turn = 1 if parent is None else parent.turn + 1
    node_id = "u" if parent is None else f"{parent.id}/u"
    ask = UserAsk(
        at=conversation.at(node_id, turn, "user"),
        persona=conversation.persona,
        transcript=state["transcript"],
        turn=turn,
        end_mark=conversation.end_mark,
    )
    said = await runtime.context.user(ask)
    text, ends = without_mark(said.text, conversation.end_mark)
    if not text:
        raise TalkEndedError(_ended_at(parent))
    node = Node(id=node_id, parent=parent and parent.id, turn=turn, role="user", text=text, by="user", call=said.call)
    notes = (*_audited(node, state), *([_ended_at(node)] if ends else []))
    return {"user": node, "ended": ends, "transcript": (*state["transcript"], node.message), "annotations": notes}


def _ended_at(node: Node | None) -> Annotation:
    """A note at the last message of a path that the user ended; BadContentError if there is none."""
    if node is None:
        raise BadContentError("the user ended the talk before its first message")
    return Annotation(node=node.id, name=ENDED, by="user", value=node.turn)


def _audited(node: Node, state: TurnState) -> tuple[Annotation, ...]:
    """A note of what a user agent should not do, if the message does it."""
    earlier = [message.content for message in state["transcript"] if message.role == "user"]
    replies = [message.content for message in state["transcript"] if message.role == "assistant"]
    marks = audit_user_message(node.text, earlier, replies)
    return (Annotation(node=node.id, name="audit", by="interalign", value=list(marks)),) if marks else ()


async def inducer(state: TurnState, runtime: Runtime[Seats]) -> dict[str, Any]:
    """Somebody who does not know the persona writes down what has come to light."""
    if runtime.context.inducer is None:
        return {"hint": None}
    node, seats = state["user"], runtime.context
    said = await runtime.context.inducer(
        InducerAsk(at=state["conversation"].at(node.id, node.id, "inducer"), transcript=state["transcript"])
    )
    notes = Annotation(node=node.id, name="hint", by="inducer", value=said.text)
    # Handed on, a note of nothing would make a "hinted" reply that differs from a plain one by its prompt alone.
    hint = None if seats.checks_notes and says_nothing(said.text) else said.text
    return {"hint": hint, "annotations": (notes,)}


async def candidates(state: TurnState, runtime: Runtime[Seats]) -> dict[str, Any]:
    """All replies of the turn, side by side; the first one is tailored with the notes, if there are any."""
    seats = runtime.context
    names = list(seats.candidates)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_reply(state, seats, names[index % len(names)], index + 1))
            for index in range(seats.branch)
        ]
    replies = tuple(task.result() for task in tasks)
    leak = _leak(state, seats, replies[0])
    return {"replies": replies, "annotations": (leak,)} if leak else {"replies": replies}


def _leak(state: TurnState, seats: Seats, first: Node) -> Annotation | None:
    """A note of the words that the hinted reply has from the note, if there are any."""
    hint = state["hint"]
    if hint is None or not seats.checks_notes:
        return None
    talk = [message.content for message in state["transcript"]]
    found = leaked_words(first.text, hint, talk, seats.hint_wording)
    return Annotation(node=first.id, name=LEAK, by="interalign", value=list(found)) if found else None


async def _reply(state: TurnState, seats: Seats, name: str, number: int) -> Node:
    asked = state["user"]
    parent = state["parent"]
    node_id = str(number) if parent is None else f"{parent.id}/{number}"
    hint = state["hint"] if number == 1 else None
    ask = CandidateAsk(
        at=state["conversation"].at(node_id, node_id, "candidate"),
        transcript=state["transcript"],
        hint=hint,
        system=seats.system,
    )
    said = await seats.candidates[name](ask)
    return Node(
        id=node_id,
        parent=asked.id,
        turn=asked.turn,
        role="assistant",
        text=said.text,
        by=name,
        hinted=hint is not None,
        call=said.call,
    )


async def judge(state: TurnState, runtime: Runtime[Seats]) -> dict[str, Any]:
    """Somebody who knows the persona says which reply suits it, or how well each does."""
    seats, node = runtime.context, state["user"]
    at = state["conversation"].at(node.id, node.id, "judge")
    siblings = (at, state["conversation"].persona, state["transcript"], state["replies"])
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_judged(role, name, seats, siblings)) for name, role in seats.judges.items()]
    words = [word for task in tasks for word in task.result()]
    return {
        "verdicts": tuple(word for word in words if isinstance(word, Verdict)),
        "scores": tuple(word for word in words if isinstance(word, Score)),
    }


async def _judged(
    role: Judge, name: str, seats: Seats, siblings: tuple[At, Persona, tuple[Message, ...], tuple[Node, ...]]
) -> Sequence[Verdict | Score]:
    """What one judge says about the replies of a turn."""
    if seats.judging == "compare":
        return await compare_siblings(role, name, *siblings)
    if seats.judging == "list":
        return await rank_siblings(cast(ListJudge, role), name, *siblings)
    return await score_siblings(role, name, *siblings, aspects=seats.aspects)


def _hooks_at(point: HookPoint) -> Callable[[TurnState, Runtime[Seats]], Awaitable[dict[str, Any]]]:
    """The node at which the plug-ins of this point note what they see; LangGraph knows it by the point's name."""

    async def note(state: TurnState, runtime: Runtime[Seats]) -> dict[str, Any]:
        hooks, view = runtime.context.hooks.get(point, ()), _view(state)
        added = [
            Annotation(node=node, name=name, by=by, value=value)
            for by, hook in hooks
            for node, values in (await hook(view)).items()
            for name, value in values.items()
        ]
        return {"annotations": tuple(added)}

    return note


def _view(state: TurnState) -> HookView:
    node = state["user"]
    return HookView(
        at=state["conversation"].at(node.id, node.id, "hook"),
        persona=state["conversation"].persona,
        transcript=state["transcript"],
        user=node,
        hint=state.get("hint"),
        replies=state.get("replies", ()),
        verdicts=state.get("verdicts", ()),
        scores=state.get("scores", ()),
    )


TURN: tuple[tuple[str, Any, HookPoint | None], ...] = (
    ("user", user, None),
    ("after_user", _hooks_at("after_user"), "after_user"),
    ("inducer", inducer, None),
    ("before_candidates", _hooks_at("before_candidates"), "before_candidates"),
    ("candidates", candidates, None),
    ("after_candidates", _hooks_at("after_candidates"), "after_candidates"),
    ("judge", judge, None),
    ("annotate", _hooks_at("after_judge"), "after_judge"),
)
"""The nodes of a turn in the order they run: name, node, and the point whose hooks it asks."""
EVERY_POINT = frozenset(point for *_, point in TURN if point is not None)


@cache
def turn_graph(points: frozenset[HookPoint] = EVERY_POINT) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The compiled turn graph with nodes for the hooks at these points; its context is `Seats`.

    A run leaves out the points where no plug-in waits: every step of LangGraph costs 0.2 ms.
    """
    graph = StateGraph(TurnState, context_schema=Seats)
    graph.add_sequence([(name, node) for name, node, point in TURN if point is None or point in points])
    graph.add_edge(START, "user")
    return graph.compile(name="turn")


async def run_turn(
    conversation: Conversation, parent: Node | None, transcript: tuple[Message, ...], seats: Seats
) -> Turn | Farewell:
    """One turn after `parent` (None: the first one), by the turn graph; a Farewell if the user had no more to say."""
    state = TurnState(conversation=conversation, parent=parent, transcript=transcript)
    points = frozenset(point for point, hooks in seats.hooks.items() if hooks)
    try:
        # By version 2 of its output LangGraph does not also collect what each step changed, which nobody reads here.
        done = (await turn_graph(points).ainvoke(state, context=seats, version="v2")).value
    except TalkEndedError as error:
        return Farewell(annotations=(error.note,))
    return Turn(**{name: done[name] for name in Turn.model_fields})
