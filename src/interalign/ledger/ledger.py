"""Every model call goes through the ledger: a log of replies, committed before use and replayed on resumption.

Equal calls at the same time are made once (single-flight); a semaphore bounds the calls in flight. Unlike a response
cache, the key holds the place in the tree, so that two places never share a reply.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from pydantic import JsonValue

from interalign.errors import BadContentError, FailedTreeError, StopError
from interalign.ledger.budget import Budget
from interalign.models.base import ChatModel, Parameters, version_of
from interalign.models.call_state import CALL, CallState
from interalign.records import Call, Place, Reply
from interalign.store import Store
from interalign.store.calls import CallRow, call_key
from interalign.store.texts import decode_text, encode_json
from interalign.tree import Message

__all__ = ["Calls", "Ledger"]

_GRACE = 10.0
"""Grace period in seconds for calls in flight once the run stops."""
_CACHED_PARAMETERS = 64
"""Parameters whose JSON is cached at most."""


class Calls(Protocol):
    """What roles make their calls through: the ledger, or in a dry run something that only counts them."""

    async def call(
        self, place: Place, model: ChatModel, messages: Sequence[Message], parameters: Parameters, seed: int
    ) -> Call:
        """The model's reply to these messages at this place."""
        ...

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """The answer of a plug-in called `name`."""
        ...

    def find_state(
        self, tree: str, role: str, name: str, paths: Sequence[tuple[str, bytes]]
    ) -> tuple[int, bytes] | None:
        """The state that `name` had in this role at the first of these places where it has one, and which that is."""
        ...


class _PendingCall(CallState):
    """A call that is being made in a task of the ledger, which outlives the cancellation of its caller."""

    def __init__(self, tree: str, answer: "asyncio.Future[CallRow]", ledger: "Ledger") -> None:
        super().__init__()
        self.waiting = True
        self._ledger = ledger
        self.holds_slot = False
        self.asks = 0
        """Questions of the role behind this call that are not answered yet."""
        self.is_made = False
        """The model or role has answered, or failed."""
        self.budget: Budget | None = None
        """Where this call has reserved what it may cost."""
        self.tree = tree
        self.answer = answer
        """The committed row, for the caller; cancelled if nothing awaits it."""
        self.task: asyncio.Task[None]
        self.must_not_wait = False
        """End it instead of letting it wait: the run stops, or its caller was cancelled."""
        self.replied = False
        """The reply has come and is being committed."""
        self.abandoned = False
        """The run ends without waiting for it."""
        self._began = self._since = 0.0

    def begin(self) -> None:
        """The request starts now."""
        self.waiting = False
        self._began, self._since = time.time(), self._ledger.clock()

    def fail(self, error: BaseException) -> None:
        """Raise this in the caller, if it still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # marks it as retrieved: the caller may be cancelled at this moment

    def row(self, blank: CallRow, reply: Reply, error: str | None = None) -> CallRow:
        """What goes on record: the reply, or why there is none that can be used, and how long that took."""
        if self.sends and not reply.server:  # the model does not set them
            reply = reply.model_copy(update={"server": self.server, "sends": self.sends})
        key, place, asked, parameters, messages, *_ = blank
        seconds = self._ledger.clock() - self._since
        agent = None if error else self.agent
        return CallRow(key, place, asked, parameters, messages, reply, error, self._began, seconds, agent)

    def begin_to_wait(self) -> None:
        """Wait, or end the call here."""
        if self.must_not_wait:
            self.task.cancel()
            raise asyncio.CancelledError
        self.waiting = True

    def release_slot(self) -> None:
        """The role behind this call asks somebody else: it is not in flight meanwhile."""
        self.begin_to_wait()
        self.asks += 1
        if self.holds_slot:
            self._ledger.lend_slot(self)

    async def regain_slot(self) -> None:
        """Take a slot again for the last answer that the role waits for."""
        if self.asks == 1 and not self.is_made:
            await self._ledger.take_slot_back(self)
        self.forget_slot()
        if self.holds_slot and self.asks:  # it has asked anew while it waited
            self._ledger.lend_slot(self)

    def forget_slot(self) -> None:
        """Go on without one, until the next answer."""
        self.asks -= 1
        self.waiting = self.asks > 0

    def end_unless_sent(self) -> None:
        """End the call now if no request was sent, else as soon as it would wait again."""
        self.must_not_wait = True
        if self.only_waits:
            self.task.cancel()


Ask = Callable[[_PendingCall], Awaitable[Reply]]


class Ledger:
    """The record of all calls of a run, and the only way to its models.

    At most `concurrency` calls are in flight, and at most as many replies wait for their commit; so a kill can
    lose no more than that, and nothing that was used. A call in flight whose caller is cancelled, because another call
    failed their tree, goes on and is committed: see `settled` and `close`.
    """

    def __init__(
        self,
        store: Store,
        *,
        concurrency: int,
        budget: Budget | None = None,
        stopping: Callable[[str], object] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`concurrency` counts model calls in flight, at least 1; `budget` None: no limit; `stopping` is called
        once, with the reason, when no further call is begun; `clock` says, in seconds, how long a call takes.
        """
        self._store = store
        self._budget = budget
        self._on_stopping = stopping
        self.clock = clock
        self.stopping: str | None = None
        """Why no further call is begun; None while calls are begun."""
        self._finished = asyncio.Event()
        """The run stops, and no call is in flight or the grace period is over."""
        self._slots = asyncio.Semaphore(concurrency)
        self._uncommitted = asyncio.Semaphore(concurrency)
        self._pending: dict[bytes, _PendingCall] = {}
        self._failed: dict[str, list[tuple[CallRow, Exception]]] = {}
        """Calls without a reply and what they raised, by tree, until `failed_call` takes them."""
        self._parameters: dict[int, tuple[Parameters, str | bytes]] = {}
        """By the id of the object, which is kept, so that its id stays its own."""
        self._asked_keys: OrderedDict[str, set[bytes] | None] = OrderedDict()
        """Tree -> the keys asked for since it had no call on record; None if it had some."""
        self._most_trees = 1024 + 4 * concurrency  # more than ever grow at once, and few enough for memory
        self.in_flight = 0
        """Calls being answered right now."""
        self.fresh = 0
        """Calls made by this ledger, not replayed."""
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
        settings = self._serialized(parameters)
        key = call_key(place, (model.name, version_of(model), settings, seed), messages)
        blank = CallRow(key, place, model.name, settings, messages, Reply(text="", model=model.name), None)

        def ask(call: _PendingCall) -> Awaitable[Reply]:
            CALL.set(call)
            if self._budget is None:
                return model(messages, parameters, seed)
            return self._within_budget(self._budget, call, model, messages, parameters, seed)

        return await self._once(blank, ask)

    async def record(self, place: Place, name: str, request: JsonValue, answer: Callable[[], Awaitable[str]]) -> Call:
        """The committed answer of a plug-in called `name`, which is asked only if there is none yet.

        A role that makes calls of its own while it answers gives its slot away for as long: see `release_slot`.
        """
        asked = [Message(role="user", content=decode_text(encode_json(request)))]
        blank = CallRow(call_key(place, (name,), asked), place, name, "", asked, Reply(text="", model=name), None)

        async def ask(call: _PendingCall) -> Reply:
            CALL.set(call)
            return Reply(text=await answer(), model=name)

        return await self._once(blank, ask)

    def find_state(
        self, tree: str, role: str, name: str, paths: Sequence[tuple[str, bytes]]
    ) -> tuple[int, bytes] | None:
        """The state that `name` had in this role at the first of these places where it has one, and which that is.

        A place is a node and the digest of what was said before it.
        """
        return self._store.find_state(tree, role, name, paths)

    def _serialized(self, parameters: Parameters) -> str | bytes:
        """The parameters as JSON, cached by object identity: a seat always passes the same object."""
        known = self._parameters.get(id(parameters))
        if known is None:
            if len(self._parameters) == _CACHED_PARAMETERS:
                self._parameters.clear()
            text = encode_json(parameters.model_dump(mode="json", exclude_defaults=True))
            known = self._parameters[id(parameters)] = (parameters, text)
        return known[1]

    # Stopping -------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Begin no further call: each one raises StopError with this reason.

        Calls that wait (for a slot, the budget, a server's governor, a retry) end at once. Requests that were sent get
        10 s. StopError is raised after that, so that a tree whose last replies still arrive is finished.
        """
        if self.stopping is not None:
            return
        self.stopping = reason
        self._on_stopping(reason)
        for call in self._pending.values():
            if not call.replied:
                call.end_unless_sent()
        if not self.in_flight or not self._store.can_write:
            self._abandon_pending()
        else:
            asyncio.get_running_loop().call_later(_GRACE, self._abandon_pending)

    def _abandon_pending(self) -> None:
        """Stop waiting for replies. Those that have come are committed all the same."""
        self._finished.set()
        for call in self._pending.values():
            if not call.replied:
                call.abandoned = True
                call.task.cancel()
                call.fail(
                    StopError(self.stopping)
                )  # now, not when the task ends: a plug-in may ignore the cancellation

    async def unless_stopped(self, work: Awaitable[object]) -> None:
        """Wait for this work, which is no call; StopError, without waiting for it, once the ledger has stopped."""
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
        self._store.refuse_if_stopped()  # worse than any other reason
        raise StopError(self.stopping)

    async def settled(self, tree: str) -> None:
        """Wait until the pending calls of this tree have ended and are committed."""
        while tasks := [call.task for call in self._awaited() if call.tree == tree]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop if calls are pending; at the end each of them is committed or abandoned."""
        if self._pending:
            self.stop("the run was ended")
            await self._finished.wait()
            while tasks := [call.task for call in self._awaited()]:
                await asyncio.wait(tasks)

    def _awaited(self) -> Iterator[_PendingCall]:
        """The pending calls, except those abandoned."""
        return (call for call in self._pending.values() if not call.abandoned)

    def failed_call(self, tree: str, error: Exception | None) -> CallRow | None:
        """The call that raised this error and so ended the tree, without a reply; None if it was no call.

        To be asked once, when the tree has ended: its failed calls are forgotten.
        """
        return next((row for row, raised in self._failed.pop(tree, ()) if raised is error), None)

    # One call -------------------------------------------------------------------------------------

    async def _within_budget(
        self,
        budget: Budget,
        call: _PendingCall,
        model: ChatModel,
        messages: Sequence[Message],
        parameters: Parameters,
        seed: int,
    ) -> Reply:
        """The model's reply; StopError, and the model is not asked, if the budget could be passed."""
        call.begin_to_wait()
        reserved = await budget.reserve(model.name, messages, parameters)
        call.budget = budget
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
            call.budget = None
            if not call.holds_slot:
                budget.go_on()
            budget.settle(reserved, tokens, text)

    async def _once(self, blank: CallRow, ask: Ask) -> Call:
        """Replay, or ask; single-flight: of equal concurrent calls one is made, and the others await its commit."""
        while (other := self._pending.get(blank.key)) is not None:
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

    def _begin(self, blank: CallRow, ask: Ask) -> _PendingCall:
        """Make this call in a task of its own."""
        loop = asyncio.get_running_loop()
        call = self._pending[blank.key] = _PendingCall(blank.place.tree, loop.create_future(), self)
        call.task = loop.create_task(self._ask(blank, ask, call))
        call.task.add_done_callback(lambda task: self._end(blank, call))
        return call

    def _end(self, blank: CallRow, call: _PendingCall) -> None:
        """The task has ended. If the caller has no reply yet, raise there why there is none."""
        del self._pending[blank.key]
        error = None if call.task.cancelled() else call.task.exception()
        if isinstance(error, FailedTreeError):
            row = call.row(blank, blank.reply, str(error))
            self._failed.setdefault(blank.place.tree, []).append((row, error))
        if call.answer.done():
            return
        if error is None and self.stopping is None:  # it was cancelled from outside
            call.answer.cancel()
        else:
            call.fail(error or StopError(self.stopping))

    def _on_record(self, blank: CallRow) -> tuple[Reply, str | None] | None:
        """The committed reply. Of a tree without calls when first asked about, only keys seen since are looked
        up: after every commit SQLite reads its index again, so that a look-up costs more than the rest of a call.
        """
        tree = blank.place.tree
        if tree not in self._asked_keys:
            self._asked_keys[tree] = None if self._store.has_calls(tree) else set()
            if len(self._asked_keys) > self._most_trees:
                self._asked_keys.popitem(last=False)
        seen = self._asked_keys[tree]
        if seen is None or blank.key in seen:
            return self._store.find_call(blank.key)
        seen.add(blank.key)
        return None

    async def _ask(self, blank: CallRow, ask: Ask, call: _PendingCall) -> None:
        """Make the call in a slot, then commit the reply. The slot is released before the commit."""
        await self._slots.acquire()
        call.holds_slot = True
        try:
            self._store.refuse_if_stopped()  # before paying for a reply that could not be stored
            row = await self._make(blank, ask, call)
            call.replied = True
            self.fresh += 1
            try:
                await self._uncommitted.acquire()
            except asyncio.CancelledError:
                with suppress(StopError):
                    self._store.submit_call(
                        row
                    ).cancel()  # the event loop is closing, but the reply is paid for: store it
                raise
        finally:
            if call.holds_slot:
                self._slots.release()
        try:
            committed = self._store.submit_call(row, self._uncommitted.release)
        except StopError:
            self._uncommitted.release()
            raise
        await committed
        if not call.answer.done():
            call.answer.set_result(row)

    async def _make(self, blank: CallRow, ask: Ask, call: _PendingCall) -> CallRow:
        """The row with its reply. A StopError stops the whole ledger."""
        self.in_flight += 1
        call.begin()
        try:
            return await _answered(blank, ask, call)
        except StopError as error:
            self.stop(str(error))
            raise
        finally:
            CALL.set(None)  # breaks the reference cycle of call, task and context
            call.is_made = True
            if call.holds_slot:
                self._landed()

    def _landed(self) -> None:
        """One call less is in flight."""
        self.in_flight -= 1
        if self.stopping is not None and not self.in_flight:
            self._finished.set()

    # A role that asks -----------------------------------------------------------------------------

    def lend_slot(self, call: _PendingCall) -> None:
        """Let other calls have the slot of this one, whose role waits for an answer to a question of its own."""
        call.holds_slot = False
        if call.budget is not None:
            call.budget.wait_for_others()
        self._slots.release()
        self._landed()

    async def take_slot_back(self, call: _PendingCall) -> None:
        """Give this call a slot again, unless it has ended meanwhile."""
        await self._slots.acquire()
        if call.is_made:
            self._slots.release()
            return
        call.holds_slot = True
        self.in_flight += 1
        if call.budget is not None:
            call.budget.go_on()


async def _answered(blank: CallRow, ask: Ask, call: _PendingCall) -> CallRow:
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
