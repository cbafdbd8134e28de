"""Roles that are not prompted models: somebody's function, object, Runnable or graph, kept on record like any call."""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from interalign.ledger import Ledger, Place
from pydantic import BaseModel, JsonValue, RootModel, ValidationError

from interalign.agents.protocols import (
    CandidateAsk,
    ChoiceOpinion,
    Comparison,
    HookView,
    InducerAsk,
    Said,
    ScoreOpinion,
    Scoring,
    UserAsk,
)
from interalign.config import Parameters
from interalign.errors import BadContentError, FailedTreeError, InteralignError
from interalign.models.base import Reply
from interalign.tree import Message

Answer = TypeVar("Answer", bound=BaseModel)
TextAsk = UserAsk | InducerAsk | CandidateAsk


class RecordedRole:
    """A plug-in text role: its answers are committed to the ledger and replayed from it."""

    def __init__(self, kind: str, spec: str, role: Callable[[Any], Awaitable[Said]], ledger: Ledger) -> None:
        self._call = _Recorder(kind, spec, ledger)
        self._role = role

    async def __call__(self, ask: TextAsk) -> Said:
        """What the plug-in says; FailedTreeError if it raises or answers with the wrong type."""
        return await self._call(ask, self._role, Said)


class RecordedJudge:
    """A plug-in judge: an object with `compare`, `score` or both."""

    def __init__(self, spec: str, judge: Any, ledger: Ledger) -> None:
        self._call = _Recorder("judge", spec, ledger)
        self._judge = judge

    async def compare(self, ask: Comparison) -> ChoiceOpinion:
        """The plug-in's choice; FailedTreeError if it raises, has no `compare`, or answers with the wrong type."""
        return await self._call(ask, self._method("compare", "--judging score"), ChoiceOpinion)

    async def score(self, ask: Scoring) -> ScoreOpinion:
        """The plug-in's score; FailedTreeError if it raises, has no `score`, or answers with the wrong type."""
        return await self._call(ask, self._method("score", "--judging compare"), ScoreOpinion)

    def _method(self, name: str, instead: str) -> Callable[[Any], Awaitable[Any]]:
        method = getattr(self._judge, name, None)
        if method is None:
            raise FailedTreeError(f"{self._call.label} has no `{name}`; add it, or use {instead}")
        return method  # type: ignore[no-any-return]


class RecordedHook:
    """A plug-in at a point of the turn graph: what it notes is on record too, so that resuming repeats nothing."""

    def __init__(self, point: str, spec: str, hook: Callable[[HookView], Awaitable[Any]], ledger: Ledger) -> None:
        self._call = _Recorder(point, spec, ledger)
        self._hook = hook

    async def __call__(self, view: HookView) -> dict[str, dict[str, JsonValue]]:
        """The annotations by node and name; FailedTreeError if it raises or answers anything else."""
        return (await self._call(view, self._hook, _Notes)).root


class _Notes(RootModel[dict[str, dict[str, JsonValue]]]):
    """What a hook answers."""


class _Recorder:
    """Asks a plug-in through the ledger: one place, one answer, replayed on resume."""

    def __init__(self, kind: str, spec: str, ledger: Ledger) -> None:
        self.label = f"{kind} {spec!r}"
        self._kind = kind
        self._spec = spec
        self._ledger = ledger

    async def __call__(self, ask: Any, role: Callable[[Any], Awaitable[Any]], kind: type[Answer]) -> Answer:
        async def answer() -> str:
            return self._checked(await self._guarded(role, ask), kind).model_dump_json()

        request = ask.model_dump(mode="json", exclude={"at": {"samples"}})
        for sample in range(ask.at.samples):
            place = Place(ask.at.tree, ask.at.node, self._kind, sample)
            try:
                call = await self._ledger.record(place, self._spec, request, answer)
            except BadContentError:
                continue
            parsed = kind.model_validate_json(call.reply.text)
            # The ledger's key is ours to give: a plug-in does not know it.
            return parsed.model_copy(update={"call": call.key}) if kind is Said else parsed
        raise BadContentError(f"{self.label} gave nothing usable, asked {ask.at.samples} times")

    async def _guarded(self, role: Callable[[Any], Awaitable[Any]], ask: BaseModel) -> Any:
        try:
            return await role(ask)
        except InteralignError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename}:{frame.lineno}"
            raise FailedTreeError(f"{self.label} raised {type(error).__name__}: {error} ({where})") from error

    def _checked(self, said: object, kind: type[Answer]) -> Answer:
        try:
            return kind.model_validate(said)
        except ValidationError:
            raise FailedTreeError(f"{self.label} answered {type(said).__name__}, expected {kind.__name__}") from None


class RunnableModel:
    """A LangChain Runnable or compiled LangGraph graph seen as a chat model, so that it can sit in any seat.

    A graph (its input has `messages`) gets `{"messages": [...]}` and answers with the last of its messages; any other
    Runnable gets the list of messages and answers with a message or a string.
    """

    def __init__(self, name: str, runnable: Any) -> None:
        self.name = name
        self._runnable = runnable
        self._is_graph = hasattr(runnable, "get_input_jsonschema") and hasattr(runnable, "nodes")

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply; FailedTreeError if the Runnable raises, BadContentError if it answers no text."""
        from langchain_core.messages import convert_to_messages

        chat = convert_to_messages([message.model_dump() for message in messages])
        try:
            answer = await self._runnable.ainvoke({"messages": chat} if self._is_graph else chat)
        except InteralignError:
            raise
        except Exception as error:
            raise FailedTreeError(f"{self.name} raised {type(error).__name__}: {error}") from error
        if self._is_graph:
            answer = answer["messages"][-1]
        text = answer if isinstance(answer, str) else getattr(answer, "text", None)
        if not isinstance(text, str):
            raise BadContentError(f"{self.name} answered {type(answer).__name__}, expected a message or a string")
        return Reply(text=str(text), model=self.name)
