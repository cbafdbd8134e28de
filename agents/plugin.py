"""Roles that are not prompted models: somebody's function, object, Runnable or graph, kept on record like any call."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast
from uuid import uuid4

from pydantic import BaseModel, JsonValue, RootModel, ValidationError

from interalign.agents.agent_state import ask_graph, interrupt_of, packed, paths, remembered, tools_used
from interalign.agents.asking import ASKING, Asking, Invocation
from interalign.agents.protocols import (
    At,
    CandidateAsk,
    ChoiceOpinion,
    Comparison,
    HookView,
    InducerAsk,
    Listing,
    RankingOpinion,
    Said,
    ScoreOpinion,
    Scoring,
    UserAsk,
)
from interalign.agents.source_lines import raised_at
from interalign.agents.speaker import Heard, Speaker
from interalign.agents.templates import PromptSet
from interalign.agents.watchdog import ASKED, Asked, watch_this_loop
from interalign.config import Parameters
from interalign.errors import BadContentError, FailedTreeError, RoleError, StopError
from interalign.ledger import Calls
from interalign.models.base import ChatModel
from interalign.models.call_state import CALL, CallState
from interalign.records import AgentRecord, Call, Place, Reply
from interalign.seeds import addressed_seed
from interalign.tree import Message, Node

T = TypeVar("T")
Answer = TypeVar("Answer", bound=BaseModel)
TextAsk = UserAsk | InducerAsk | CandidateAsk
Resolve = Callable[[str], ChatModel]
"""From a model's name to the model, for what a role itself asks."""


class RecordedRole:
    """A plug-in text role: its answers are committed to the ledger and replayed from it.

    One that takes a second argument called `state` gets the JSON value that it answered with in its own turn before, on
    this path, None at first; it answers with a pair: what it says, and its state from now on.
    """

    def __init__(
        self, kind: str, spec: str, role: Callable[[Any], Awaitable[Said]], ledger: Calls, resolve: Resolve
    ) -> None:
        self._call = _Recorder(kind, spec, ledger, resolve)
        self._role = self._with_state if takes_state(role) else role
        self._stateful: Callable[[Any, Any], Awaitable[Any]] = cast(Any, role)
        self._invocation = partial(Invocation, kind, ledger=ledger, resolve=resolve)
        self._spec = spec

    async def __call__(self, ask: TextAsk) -> Said:
        """What the plug-in says; RoleError if it raises or answers with the wrong type."""
        return await self._call(ask, self._role, Said)

    async def _with_state(self, ask: TextAsk) -> Said:
        before = paths(ask.at.node, ask.transcript)
        found = remembered(self._invocation(ask.at), self._spec, before)
        state = None if found is None else json.loads(found[1])
        answer = await self._call.awaited(lambda asked: self._stateful(asked, state), ask)
        if not isinstance(answer, tuple) or len(answer) != 2:
            given, label = type(answer).__name__, self._call.label
            expected = "a pair: what it says, its state"
            raise RoleError(f"{label} answered {given}, expected {expected}", self._spec, given)
        said, state = answer
        keep_agent(AgentRecord(before[0][1], packed(self._written(state))))
        return cast(Said, said)

    def _written(self, state: object) -> bytes:
        try:
            return json.dumps(state, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise RoleError(
                f"{self._call.label} has a state that is no JSON value ({error})", self._spec, "state"
            ) from None


class RecordedJudge:
    """A plug-in judge: an object with `compare`, `score`, `rank` or several of them."""

    def __init__(self, spec: str, judge: Any, ledger: Calls, resolve: Resolve) -> None:
        self._call = _Recorder("judge", spec, ledger, resolve)
        self._judge = judge

    async def compare(self, ask: Comparison) -> ChoiceOpinion:
        """The plug-in's choice; RoleError if it raises, has no `compare`, or answers with the wrong type."""
        return await self._call(ask, self._method("compare", "--judging score"), ChoiceOpinion)

    async def score(self, ask: Scoring) -> ScoreOpinion:
        """The plug-in's score; RoleError if it raises, has no `score`, or answers with the wrong type."""
        return await self._call(ask, self._method("score", "--judging compare"), ScoreOpinion)

    async def rank(self, ask: Listing) -> RankingOpinion:
        """The plug-in's ranking; RoleError if it raises, has no `rank`, or answers with anything but a ranking."""
        opinion = await self._call(ask, self._method("rank", "--judging compare"), RankingOpinion)
        if opinion.value is not None and sorted(opinion.value) != list(range(len(ask.ranked))):
            said = (
                f"{self._call.label} ranked {len(ask.ranked)} replies as {opinion.value}; name each place from 0 once"
            )
            raise RoleError(said, self._call.spec, "no ranking")
        return opinion

    def _method(self, name: str, instead: str) -> Callable[[Any], Awaitable[Any]]:
        method = getattr(self._judge, name, None)
        if method is None:
            raise RoleError(f"{self._call.label} has no `{name}`; add it, or use {instead}", self._call.spec, name)
        return method  # type: ignore[no-any-return]


class RecordedHook:
    """A plug-in at a point of the turn graph: what it notes is on record too, so that resuming repeats nothing."""

    def __init__(
        self, point: str, spec: str, hook: Callable[[HookView], Awaitable[Any]], ledger: Calls, resolve: Resolve
    ) -> None:
        self._call = _Recorder(point, spec, ledger, resolve)
        self._hook = hook

    async def __call__(self, view: HookView) -> dict[str, dict[str, JsonValue]]:
        """The annotations by node and name; RoleError if it raises or answers anything else."""
        return (await self._call(view, self._noted, _Notes)).root

    async def _noted(self, view: HookView) -> Any:
        notes = await self._call.awaited(self._hook, view)
        nodes = {view.user.id, *(reply.id for reply in view.replies)}
        strangers = set(notes) - nodes if isinstance(notes, Mapping) else set()
        if strangers:
            said = f"{self._call.label} noted something about {strangers.pop()!r}, no node of this turn"
            raise RoleError(said, self._call.spec, "no node of this turn")
        return notes


class _Notes(RootModel[dict[str, dict[str, JsonValue]]]):
    """What a hook answers."""


class _Recorder:
    """Asks a plug-in through the ledger: one place, one answer, replayed on resume."""

    def __init__(self, kind: str, spec: str, ledger: Calls, resolve: Resolve) -> None:
        self.label = f"{kind} {spec!r}"
        self.spec = spec
        self._asked = Asked(self.label)
        self._kind = kind
        self._ledger = ledger
        self._resolve = resolve

    async def __call__(self, ask: Any, role: Callable[[Any], Awaitable[Any]], kind: type[Answer]) -> Answer:
        for sample in range(ask.at.samples):
            try:
                call = await self._sample(sample, _sampled(ask, sample), role, kind)
            except BadContentError:
                continue
            parsed = kind.model_validate(json.loads(call.reply.text))
            # The ledger's key is ours to give: a plug-in does not know it.
            return parsed.model_copy(update={"call": call.key}) if kind is Said else parsed
        raise BadContentError(f"{self.label} gave nothing usable, asked {ask.at.samples} times")

    async def _sample(self, sample: int, ask: Any, role: Callable[[Any], Awaitable[Any]], kind: type[Answer]) -> Call:
        async def answer() -> str:
            with _named(self.label, self.spec):
                invocation = Invocation(self._kind, ask.at, self._ledger, self._resolve)
                said = await _outside_our_graphs(self._asked, lambda: self.awaited(role, ask), invocation)
                # Not pydantic's own JSON, which refuses the lone surrogates that some models produce.
                return json.dumps(self._checked(said, kind).model_dump(mode="json"))

        place = Place(ask.at.tree, ask.at.node, self._kind, sample)
        return await self._ledger.record(place, self.spec, _request(ask), answer)

    async def awaited(self, role: Callable[[Any], Awaitable[Any]], ask: BaseModel) -> Any:
        """What the role says; RoleError if it is a plain function, which could only block all trees."""
        answer = role(ask)
        if not inspect.isawaitable(answer):
            raise RoleError(f"{self.label} is not async: write it with `async def`", self.spec, "not async")
        return await answer

    def _checked(self, said: object, kind: type[Answer]) -> Answer:
        try:
            # By its fields: of a value of our own type pydantic would believe everything.
            return kind.model_validate(dict(said) if isinstance(said, kind) else said)
        except ValidationError as error:
            expected = kind.__name__ if kind is not _Notes else "node id -> name -> value"
            given, why = type(said).__name__, error.errors()[0]["msg"]
            message = f"{self.label} answered {given}, expected {expected} ({why})"
            raise RoleError(message, self.spec, given, expected) from None


def _request(ask: Any) -> JsonValue:
    """What a plug-in is asked, as the ledger's keys have it."""
    request = ask.model_dump(mode="json", exclude={"at": {"samples"}})
    if isinstance(ask, HookView):
        # As it was before nodes had `hinted` and orders `value`, so that the calls in earlier run files are found.
        request.update(user=_keyed_node(ask.user), replies=[_keyed_node(reply) for reply in ask.replies])
        for order in (order for verdict in request["verdicts"] for order in verdict["orders"]):
            order["said"] = order.pop("value")
    return request  # type: ignore[no-any-return]


def _keyed_node(node: Node) -> JsonValue:
    return {**node.model_dump(mode="json", exclude={"hinted"}), "by": node.label}


@contextmanager
def _named(label: str, spec: str) -> Iterator[None]:
    """Whatever goes wrong in somebody's code becomes a RoleError; what a role may say by raising passes.

    A ConfigError, say, does not: it would claim that nothing was started.
    """
    try:
        yield
    except (BadContentError, FailedTreeError, StopError):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # we are the ones who are cancelled, not something of theirs that they waited for
        raise _raised(label, spec, error) from error
    except Exception as error:
        raise _raised(label, spec, error) from error


def _raised(label: str, spec: str, error: BaseException) -> RoleError:
    """What somebody's code raised, with the line it was raised in."""
    kind, line = type(error).__name__, raised_at(error.__traceback__)
    reason = " ".join(f"{kind}: {error}".split())
    return RoleError(f"{label} raised {reason} ({line})", spec, kind, line)


def _sampled(ask: Any, sample: int) -> Any:
    """The same ask; asked again with another seed, or who draws from it would say the same again."""
    if sample == 0:
        return ask
    return ask.model_copy(update={"at": ask.at.model_copy(update={"seed": addressed_seed(ask.at.seed, sample)})})


async def _outside_our_graphs(asked: Asked, work: Callable[[], Awaitable[Any]], invocation: Invocation | None) -> Any:
    """Do the plug-in's work under watch, and where LangGraph does not see it as part of our graphs.

    A graph of the plug-in's would be their subgraph otherwise: it would get our seats as its context, our checkpointer
    and what is left of our step limit.
    """
    from langchain_core.runnables.config import var_child_runnable_config

    async def alone() -> Any:
        try:
            return await work()
        except SystemExit as error:  # asyncio would let it end the whole process
            raise RuntimeError(f"sys.exit({error.code!r}) was called").with_traceback(error.__traceback__) from None

    context = copy_context()
    context.run(_CALL_BEHIND.set, CALL.get())
    asking = None if invocation is None else Asking(invocation, CALL.get())
    context.run(ASKING.set, asking)
    context.run(var_child_runnable_config.set, None)
    context.run(ASKED.set, asked)
    context.run(CALL.set, None)  # it may send several requests at once: in flight until it answers
    watch_this_loop()
    try:
        return await asyncio.create_task(alone(), context=context)
    finally:
        if asking is not None:
            asking.is_over = True


_CALL_BEHIND: ContextVar[CallState | None] = ContextVar("call_behind", default=None)
"""The call whose answer the plug-in that is at work gives."""


def keep_agent(record: AgentRecord) -> None:
    """Have this kept with the answer that is being given."""
    call = _CALL_BEHIND.get()
    if call is not None:
        call.agent = record


def takes_state(role: Callable[..., Any]) -> bool:
    """Whether a role wants its state: its second argument is called so."""
    try:
        return list(inspect.signature(role).parameters)[1:2] == ["state"]
    except (TypeError, ValueError):  # something without a signature
        return False


class AgentSpeaker(Speaker):
    """A graph, Runnable or model of somebody's in one seat: while it is asked it may ask models itself."""

    def __init__(
        self, role: str, model: ChatModel, parameters: Parameters, ledger: Calls, prompts: PromptSet, resolve: Resolve
    ) -> None:
        super().__init__(role, model, parameters, ledger, prompts)
        self._resolve = resolve

    async def ask(
        self, at: At, messages: Sequence[Message], read: Callable[[str], T], again: str = "again_text"
    ) -> Heard[T]:
        """As any Speaker, with the place known to the agent's own questions."""
        token = _SEATED.set(Invocation(self.role, at, self.ledger, self._resolve))
        try:
            return await super().ask(at, messages, read, again)
        finally:
            _SEATED.reset(token)


_SEATED: ContextVar[Invocation | None] = ContextVar("seated", default=None)


def _seated(seed: int) -> Invocation | None:
    """Where the agent of this seat is asked, in this sample, whose seed it is."""
    seated = _SEATED.get()
    return seated and replace(seated, at=seated.at.model_copy(update={"seed": seed}))


class RunnableModel:
    """A LangChain Runnable or compiled LangGraph graph seen as a chat model, so that it can sit in any seat.

    A graph (its input has `messages`) gets `{"messages": [...]}` and answers with the last of its messages; any other
    Runnable gets the list of messages and answers with a message or a string. All that was said before is in the
    messages, but for a graph compiled with a checkpointer that plays the user or a candidate: it goes on from the state
    it had on this path, and gets what was said since. If it interrupts itself to ask something, a text, that is its
    reply, and what is said next is the answer that it waits for. What draws at random should draw from
    `config["configurable"]["seed"]`.
    """

    def __init__(self, name: str, runnable: Any) -> None:
        self.name = name
        self._asked = Asked(name)
        self._runnable = runnable
        self._is_graph = hasattr(runnable, "get_input_jsonschema") and hasattr(runnable, "nodes")
        self._remembers = self._is_graph and bool(getattr(runnable, "checkpointer", None))

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply; RoleError if the Runnable raises, BadContentError if it answers no text."""
        asked, call = _seated(seed), CALL.get()
        config = {"configurable": {"seed": seed, "thread_id": uuid4().hex}}
        record = AgentRecord()

        async def work() -> Any:
            nonlocal record
            if not self._remembers or asked is None or asked.role not in ("user", "candidate"):
                return await self._runnable.ainvoke(self._input(messages), config)
            before = paths(asked.at.node, messages[:-1])
            turns, state = remembered(asked, self.name, before) or (0, None)
            since = messages[len(messages) - 2 * turns + 1 :] if turns else messages
            answer, state = await ask_graph(self._runnable, self._input(since)["messages"], config, state)
            record = AgentRecord(before[0][1], packed(state))
            return answer

        with _named(self.name, self.name):
            answer = await _outside_our_graphs(self._asked, work, asked)
            question = None if record.state is None else interrupt_of(answer)
            reply = Reply(text=self._text(answer) if question is None else question, model=self.name)
            if call is not None:
                call.agent = _with_actions(record, answer, question)
            return reply

    def _input(self, messages: Sequence[Message]) -> Any:
        from langchain_core.messages import convert_to_messages

        chat = convert_to_messages([message.model_dump() for message in messages])
        return {"messages": chat} if self._is_graph else chat

    def _text(self, answer: Any) -> str:
        if self._is_graph:
            if isinstance(answer, Mapping) and answer.get("__interrupt__"):
                waits_for = " ".join(repr(getattr(each, "value", each)) for each in answer["__interrupt__"])[:200]
                message = f"{self.name} interrupted itself to ask {waits_for}, which nobody in a run can answer"
                raise RoleError(message, self.name, "interrupt")
            said = answer.get("messages") if isinstance(answer, Mapping) else None
            if not said:
                message = f"{self.name} answered without `messages`; a graph in a seat keeps its chat there"
                raise RoleError(message, self.name, "no messages")
            answer = said[-1]
        if getattr(answer, "type", "ai") != "ai":
            raise BadContentError(f"{self.name} added no message of an assistant")
        text = answer if isinstance(answer, str) else getattr(answer, "text", None)
        if not isinstance(text, str):
            raise BadContentError(f"{self.name} answered {type(answer).__name__}, expected a message or a string")
        return str(text)  # a message's text is a str of LangChain's own kind


def _with_actions(record: AgentRecord, answer: Any, question: str | None) -> AgentRecord | None:
    """With the tools that were used and the question of an interrupt; None if there is nothing to keep."""
    if actions := [*tools_used(answer), *([{"interrupt": question}] if question else [])]:
        record = record._replace(tools=json.dumps(actions))
    return None if record == AgentRecord() else record


class PluginModel:
    """Somebody's own chat model: it gets nothing that we use again, and what it does wrong carries its name."""

    def __init__(self, spec: str, model: ChatModel) -> None:
        self.name = model.name
        self._spec = spec
        self._asked = Asked(spec)
        self._model = model

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """Its reply; RoleError if it raises or answers anything else."""
        given = (tuple(messages), parameters.model_copy(deep=True), seed)
        with _named(self._spec, self._spec):
            reply = await _outside_our_graphs(self._asked, lambda: self._model(*given), _seated(seed))
            try:
                return Reply.model_validate(dict(reply) if isinstance(reply, Reply) else reply)
            except ValidationError as error:
                kind, why = type(reply).__name__, error.errors()[0]["msg"]
                raise RoleError(f"{self._spec} answered {kind}, expected Reply ({why})", self._spec, kind) from None
