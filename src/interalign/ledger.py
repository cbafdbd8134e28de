"""Every model call goes through here: a reply is committed before anyone sees it, and never asked for twice."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from pydantic import JsonValue

from interalign.budget import Budget
from interalign.calls import Call, CallRow, Place, call_key
from interalign.errors import BadContentError, FailedTreeError, StopError
from interalign.models.base import ChatModel, Parameters, Reply, version_of
from interalign.models.call_state import CALL, CallState
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


class _OnItsWay(CallState):
    """A call that is being made, by a task of the ledger's own: it outlives whoever asked for it."""

    waiting = True
    ends = False
    """It is not to wait any more: the run stops, or nobody wants the reply."""
    replied = False
    """The reply is here, and on its way into the file."""
    given_up = False
    """Nobody waits for it any more, whatever it does."""
    task: asyncio.Task[None]

    def __init__(self, tree: str, answer: "asyncio.Future[CallRow]") -> None:
        """`answer`: the committed row for the one who asked; cancelled if nobody waits for it any more."""
        self.tree = tree
        self.answer = answer

    def begin(self) -> None:
        """The model is asked now."""
        self.waiting = False
        self._began, self._since = time.time(), time.monotonic()  # wall time for show, the other one counts

    def fail(self, error: BaseException) -> None:
        """Raise this where the reply is awaited, if it still is."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # as seen: who waits may be cancelled in this very moment

    def row(self, blank: CallRow, reply: Reply, error: str | None = None) -> CallRow:
        """What goes on record: the reply, or why there is none that can be used, and how long that took."""
        if self.sends and not reply.server:  # the model does not say it
            reply = reply.model_copy(update={"server": self.server, "sends": self.sends})
        key, place, asked, parameters, messages, *_ = blank
        seconds = time.monotonic() - self._since
        return CallRow(key, place, asked, parameters, messages, reply, error, self._began, seconds)

    def begin_to_wait(self) -> None:
        """Wait, or end here."""
        if self.ends:
            self.task.cancel()
            raise asyncio.CancelledError
        self.waiting = True

    def end_unless_sent(self) -> None:
        """End now if it only waits, else as soon as it would wait again."""
        self.ends = True
        if self.only_waits:
            self.task.cancel()


Ask = Callable[[_OnItsWay], Awaitable[Reply]]


class Ledger:
    """The record of all calls of a run, and the door to the models.

    At most `concurrency` calls are in flight, and at most as many replies wait for their commit; so a kill can lose
    no more than that, and nothing anybody has seen. A call in flight whose caller is cancelled, because another call
    failed their tree, goes on and is committed: see `settled` and `close`.
    """

    def __init__(
        self,
        store: Store,
        *,
        concurrency: int,
        budget: Budget | None = None,
        stopping: Callable[[str], object] = lambda reason: None,
    ) -> None:
        """`concurrency` counts model calls in flight, at least 1; `budget` None: no limit; `stopping` is told once why
        no call is begun any more.
        """
        self._store = store
        self._budget = budget
        self._tell_stopping = stopping
        self.stopping: str | None = None
        """Why no call is begun any more; None while calls are begun."""
        self._finished = asyncio.Event()
        """The run stops, and no call is in flight any more or the time they get is over."""
        self._slots = asyncio.Semaphore(concurrency)
        self._uncommitted = asyncio.Semaphore(concurrency)
        self._on_their_way: dict[bytes, _OnItsWay] = {}
        self._failed: dict[str, list[tuple[CallRow, Exception]]] = {}
        """Calls without a reply and what they raised, by tree, until somebody asks."""
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

        def ask(call: _OnItsWay) -> Awaitable[Reply]:
            CALL.set(call)
            if self._budget is None:
                return model(messages, parameters, seed)
            return self._within_budget(self._budget, call, model, messages, parameters, seed)

        return await self._once(blank, ask)

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """The committed answer of a plug-in called `name`, which is asked only if there is none yet.

        `answer` must not call the ledger itself: it holds one of the slots.
        """
        asked = [Message(role="user", content=decode_text(encode_json(request)))]
        blank = CallRow(call_key(place, (name,), asked), place, name, "", asked, Reply(text="", model=name), None)

        async def ask(call: _OnItsWay) -> Reply:
            CALL.set(None)  # a plug-in may send several requests at once: in flight until it answers
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

    # Stopping -------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Begin no call any more: each one raises StopError with this reason.

        What only waits (for a slot, the budget, its turn at a server, to be sent again) ends at once. Requests that
        were sent get 10 s. StopError is raised after that, so that a tree whose last replies come home is finished.
        """
        if self.stopping is not None:
            return
        self.stopping = reason
        self._tell_stopping(reason)
        for call in self._on_their_way.values():
            if not call.replied:
                call.end_unless_sent()
        if not self.in_flight or not self._store.can_write:
            self._give_up()
        else:
            asyncio.get_running_loop().call_later(_FINISHING, self._give_up)

    def _give_up(self) -> None:
        """Wait for no reply any more. Those that are here are committed all the same."""
        self._finished.set()
        for call in self._on_their_way.values():
            if not call.replied:
                call.given_up = True
                call.task.cancel()
                call.fail(StopError(self.stopping))  # not when the task ends: a plug-in may refuse to be cancelled

    async def _stop(self) -> NoReturn:
        await self._finished.wait()
        self._store.refuse_if_stopped()  # worse than any other reason
        raise StopError(self.stopping)

    async def settled(self, tree: str) -> None:
        """Wait until the calls of this tree that are on their way have ended and are committed."""
        while tasks := [call.task for call in self._expected() if call.tree == tree]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop if calls are on their way; at the end each of them is committed or given up."""
        if self._on_their_way:
            self.stop("the run was ended")
            await self._finished.wait()
            while tasks := [call.task for call in self._expected()]:
                await asyncio.wait(tasks)

    def _expected(self) -> Iterator[_OnItsWay]:
        """The calls on their way, but for those given up."""
        return (call for call in self._on_their_way.values() if not call.given_up)

    def failed_call(self, tree: str, error: Exception | None) -> CallRow | None:
        """The call that raised this error and so ended the tree, without a reply; None if it was no call.

        To be asked once, when the tree has ended: its failed calls are forgotten.
        """
        return next((row for row, raised in self._failed.pop(tree, ()) if raised is error), None)

    # One call -------------------------------------------------------------------------------------

    async def _within_budget(
        self,
        budget: Budget,
        call: _OnItsWay,
        model: ChatModel,
        messages: Sequence[Message],
        parameters: Parameters,
        seed: int,
    ) -> Reply:
        """The model's reply; StopError, and the model is not asked, if the budget could be passed."""
        call.begin_to_wait()
        reserved = await budget.reserve(model.name, messages, parameters)
        tokens, text = None, ""
        try:
            call.begin()
            reply = await model(messages, parameters, seed)
            tokens, text = (reply.prompt_tokens, reply.completion_tokens), reply.text
            return reply
        except BadContentError as error:
            tokens, text = error.tokens, error.reply
            raise
        finally:
            budget.settle(reserved, tokens, text)

    async def _once(self, blank: CallRow, ask: Ask) -> Call:
        """Replay, or ask; of those who want the same at the same time one asks and the others wait for its commit."""
        while (other := self._on_their_way.get(blank.key)) is not None:
            await asyncio.wait([other.task])
        if self.stopping is not None:
            await self._stop()
        found = self._on_record(blank)
        if found is not None:
            self.replayed += 1
            return _usable(blank._replace(reply=found[0], error=found[1]))
        call = self._begin(blank, ask)
        try:
            return _usable(await call.answer)
        except StopError as error:
            self.stop(str(error))
            await self._stop()
        except asyncio.CancelledError:
            call.end_unless_sent()
            raise

    def _begin(self, blank: CallRow, ask: Ask) -> _OnItsWay:
        """Make this call in a task of its own."""
        loop = asyncio.get_running_loop()
        call = self._on_their_way[blank.key] = _OnItsWay(blank.place.tree, loop.create_future())
        call.task = loop.create_task(self._ask(blank, ask, call))
        call.task.add_done_callback(lambda task: self._end(blank, call))
        return call

    def _end(self, blank: CallRow, call: _OnItsWay) -> None:
        """The task is over. Who waits has the reply already; else say why there is none."""
        del self._on_their_way[blank.key]
        error = None if call.task.cancelled() else call.task.exception()
        if isinstance(error, FailedTreeError):
            row = call.row(blank, blank.reply, str(error))
            self._failed.setdefault(blank.place.tree, []).append((row, error))
        if call.answer.done():
            return
        if error is None and self.stopping is None:  # somebody cancelled it
            call.answer.cancel()
        else:
            call.fail(error or StopError(self.stopping))

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

    async def _ask(self, blank: CallRow, ask: Ask, call: _OnItsWay) -> None:
        """Make the call in a slot, then commit the reply. The slot is free while the commit is under way."""
        async with self._slots:
            self._store.refuse_if_stopped()  # before paying for a reply that could not be kept
            row = await self._make(blank, ask, call)
            call.replied = True
            self.fresh += 1
            try:
                await self._uncommitted.acquire()
            except asyncio.CancelledError:
                with suppress(StopError):
                    self._store.submit_call(row).cancel()  # the loop is closed, but the reply is paid for: it is kept
                raise
        try:
            committed = self._store.submit_call(row, self._uncommitted.release)
        except StopError:
            self._uncommitted.release()
            raise
        await committed
        if not call.answer.done():
            call.answer.set_result(row)

    async def _make(self, blank: CallRow, ask: Ask, call: _OnItsWay) -> CallRow:
        """The row with its reply. What stops this call stops them all."""
        self.in_flight += 1
        call.begin()
        try:
            return await _answered(blank, ask, call)
        except StopError as error:
            self.stop(str(error))
            raise
        finally:
            CALL.set(None)  # else call, task and context would hold each other, for the garbage collector to find
            self.in_flight -= 1
            if self.stopping is not None and not self.in_flight:
                self._finished.set()


async def _answered(blank: CallRow, ask: Ask, call: _OnItsWay) -> CallRow:
    try:
        return call.row(blank, await ask(call))
    except BadContentError as error:
        prompt_tokens, completion_tokens = error.tokens
        used = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        return call.row(blank, blank.reply.model_copy(update={"text": error.reply, **used}), str(error))


def _usable(row: CallRow) -> Call:
    if row.error is not None:
        raise BadContentError(row.error, row.reply.text)
    return Call(key=row.key.hex(), reply=row.reply)
