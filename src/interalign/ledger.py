"""Every model call goes through here: a reply is committed before anyone sees it, and never asked for twice."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Protocol

from pydantic import JsonValue

from interalign.budget import Budget
from interalign.calls import Call, CallRow, Place, call_key
from interalign.errors import BadContentError, StopError
from interalign.models.base import ChatModel, Parameters, Reply, version_of
from interalign.store import Store
from interalign.texts import decode_text, encode_json
from interalign.tree import Message

__all__ = ["Call", "Calls", "Ledger", "Place"]

_FINISHING = 10.0
"""Seconds that calls in flight get to finish once the run has to stop."""
_SEATS = 64
"""Parameters that are remembered written out at most."""


class Calls(Protocol):
    """Where roles take their calls: the ledger, or in a dry run somebody who only counts them."""

    async def call(
        self, place: Place, model: ChatModel, messages: Sequence[Message], parameters: Parameters, seed: int
    ) -> Call:
        """The model's reply to these messages at this place."""
        ...

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """The answer of a plug-in called `name`."""
        ...


class Ledger:
    """The record of all calls of a run, and the door to the models.

    At most `concurrency` calls are in flight, and at most as many replies wait for their commit; so a kill can lose
    no more than that, and nothing anybody has seen.
    """

    def __init__(self, store: Store, *, concurrency: int, budget: Budget | None = None) -> None:
        """`concurrency` counts model calls in flight, at least 1; `budget` None: no limit."""
        self._store = store
        self._budget = budget
        self._stopping: str | None = None
        self._finished = asyncio.Event()
        self._slots = asyncio.Semaphore(concurrency)
        self._uncommitted = asyncio.Semaphore(concurrency)
        self._asking: dict[bytes, _Question] = {}
        self._parameters: dict[int, tuple[Parameters, str | bytes]] = {}
        """By the id of the object, which is kept, so that its id stays its own."""
        self._seen: OrderedDict[str, set[bytes] | None] = OrderedDict()
        """Tree -> the keys asked for since it had no call on record; None if it had some."""
        self._most_seen = 1024 + 4 * concurrency  # more than are ever growing at once, and no more than memory bears
        self.in_flight = 0
        """Calls being answered right now."""
        self.fresh = 0
        """Calls really made by this ledger."""
        self.replayed = 0
        """Calls answered from the file."""
        store.wait_for_more(lambda: self.in_flight > 0)

    async def call(
        self, place: Place, model: ChatModel, messages: Sequence[Message], parameters: Parameters, seed: int
    ) -> Call:
        """The committed reply to these messages at this place; the model is asked only if there is none yet.

        Raises what the model raises. A BadContentError is committed too and raised again on replay; StopError when
        the reply cannot be written.
        """
        settings = self._written_out(parameters)
        key = call_key(place, (model.name, version_of(model), settings, seed), messages)
        blank = CallRow(key, place, model.name, settings, messages, Reply(text="", model=model.name), None)
        return await self._once(blank, lambda: self._within_budget(model, messages, parameters, seed))

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """The committed answer of a plug-in called `name`, which is asked only if there is none yet.

        `answer` must not call the ledger itself: it holds one of the slots.
        """
        asked = [Message(role="user", content=decode_text(encode_json(request)))]
        blank = CallRow(call_key(place, (name,), asked), place, name, "", asked, Reply(text="", model=name), None)

        async def ask() -> Reply:
            return Reply(text=await answer(), model=name)

        return await self._once(blank, ask)

    def _written_out(self, parameters: Parameters) -> str | bytes:
        """The parameters as JSON. A seat hands in the same object with every call."""
        known = self._parameters.get(id(parameters))
        if known is None:
            if len(self._parameters) == _SEATS:
                self._parameters.clear()
            text = encode_json(parameters.model_dump(mode="json", exclude_defaults=True))
            known = self._parameters[id(parameters)] = (parameters, text)
        return known[1]

    def stop(self, reason: str) -> None:
        """Begin no call any more: each one raises StopError with this reason.

        It is raised once the calls in flight are done, or 10 s later: raised at once it would end their trees, and
        with them replies that are being paid for.
        """
        if self._stopping is None:
            self._stopping = reason
            if self.in_flight:
                asyncio.get_running_loop().call_later(_FINISHING, self._finished.set)
            else:
                self._finished.set()

    async def unless_stopped(self, work: Awaitable[object]) -> None:
        """Wait for this work, which is no call; StopError as soon as the ledger is stopped, which leaves it behind."""
        doing, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._finished.wait())
        try:
            await asyncio.wait((doing, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                await self._stop()
            doing.result()
        finally:
            doing.cancel()
            stopped.cancel()

    async def _stop(self) -> NoReturn:
        await self._finished.wait()
        raise StopError(self._stopping)

    async def _within_budget(
        self, model: ChatModel, messages: Sequence[Message], parameters: Parameters, seed: int
    ) -> Reply:
        """The model's reply; StopError, and the model is not asked, if the budget could be passed."""
        if self._budget is None:
            return await model(messages, parameters, seed)
        reserved = await self._budget.reserve(model.name, messages, parameters)
        tokens, text = None, ""
        try:
            if self._stopping is not None:  # while this call waited for others to settle
                raise StopError(self._stopping)
            reply = await model(messages, parameters, seed)
            tokens, text = (reply.prompt_tokens, reply.completion_tokens), reply.text
            return reply
        except BadContentError as error:
            tokens, text = error.tokens, error.reply
            raise
        finally:
            self._budget.settle(reserved, tokens, text)

    async def _once(self, blank: CallRow, ask: Callable[[], Awaitable[Reply]]) -> Call:
        """Replay, or ask; of those who want the same at the same time one asks and the others wait for its commit."""
        while (other := self._asking.get(blank.key)) is not None:
            await asyncio.wait([other.finished])
        if self._stopping is not None:
            await self._stop()
        found = self._on_record(blank)
        if found is not None:
            self.replayed += 1
            return _usable(blank._replace(reply=found[0], error=found[1]))
        question = self._asking[blank.key] = _Question(asyncio.get_running_loop().create_future())
        try:
            return _usable(await self._ask(blank, ask, question))
        finally:
            if not question.queued:
                self._settle(blank.key, question)

    def _on_record(self, blank: CallRow) -> tuple[Reply, str | None] | None:
        """The committed reply. Of a tree without calls when first asked about, only keys seen since are looked
        up: every commit makes SQLite read its index anew, so that a look-up costs more than the rest of a call.
        """
        tree = blank.place.tree
        if tree not in self._seen:
            self._seen[tree] = None if self._store.has_calls(tree) else set()
            if len(self._seen) > self._most_seen:
                self._seen.popitem(last=False)
        seen = self._seen[tree]
        if seen is None or blank.key in seen:
            return self._store.find_call(blank.key)
        seen.add(blank.key)
        return None

    async def _ask(self, blank: CallRow, ask: Callable[[], Awaitable[Reply]], question: "_Question") -> CallRow:
        """Make the call in a slot, then commit the reply. The slot is free while the commit is under way."""
        async with self._slots:
            if self._stopping is not None:
                await self._stop()
            self._store.refuse_if_stopped()  # before paying for a reply that could not be kept
            try:
                row = await self._make(blank, ask)
            except StopError:
                await self._stop()
            self.fresh += 1
            try:
                await self._uncommitted.acquire()
            except asyncio.CancelledError:
                with suppress(StopError):
                    self._queue(row, question).cancel()  # nobody waits, but the reply is paid for: it is kept
                raise
        await self._queue(row, question, self._uncommitted.release)
        return row

    async def _make(self, blank: CallRow, ask: Callable[[], Awaitable[Reply]]) -> CallRow:
        """The row with its reply. What stops this call stops them all."""
        self.in_flight += 1
        try:
            return await _answered(blank, ask)
        except StopError as error:
            self.stop(str(error))
            raise
        finally:
            self.in_flight -= 1
            if self._stopping is not None and not self.in_flight:
                self._finished.set()

    def _queue(
        self, row: CallRow, question: "_Question", release: Callable[[], None] = lambda: None
    ) -> "asyncio.Future[None]":
        """Hand the row to the writer. `release` and the next in line wait for its commit, not for the caller."""

        def settled() -> None:
            release()
            self._settle(row.key, question)

        question.queued = True
        try:
            return self._store.submit_call(row, settled)
        except StopError:
            settled()
            raise

    def _settle(self, key: bytes, question: "_Question") -> None:
        del self._asking[key]
        question.finished.set_result(None)


@dataclass(slots=True)
class _Question:
    """A call on its way: others who want the same wait until it is `finished`."""

    finished: asyncio.Future[None]
    queued: bool = False
    """The reply is with the writer, who finishes it."""


async def _answered(blank: CallRow, ask: Callable[[], Awaitable[Reply]]) -> CallRow:
    try:
        return blank._replace(reply=await ask())
    except BadContentError as error:
        prompt_tokens, completion_tokens = error.tokens
        used = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        reply = blank.reply.model_copy(update={"text": error.reply, **used})
        return blank._replace(reply=reply, error=str(error))


def _usable(row: CallRow) -> Call:
    if row.error is not None:
        raise BadContentError(row.error, row.reply.text)
    return Call(key=row.key.hex(), reply=row.reply)
