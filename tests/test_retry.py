"""The retry layer and its governor, and what each answer of a server means."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from virtual_time import VirtualTime

from interalign.errors import BadContentError, FailedTreeError, StopError
from interalign.models.faults import AttemptContext, Fault, Transient, fault_of_status, read_reply, wait_of
from interalign.models.governor import Governor
from interalign.models.retry import (
    DeadlineError,
    RetryUselessError,
    ask_until_answered,
    backoff,
    least_loaded,
    pick_server,
)

ASKED = AttemptContext("http://s/v1", "openai:m", 3)
TIME = VirtualTime()
"""The clock of all that runs here."""


class Server:
    """Something to ask; the answers are given in order, an exception is raised."""

    def __init__(self, *answers: object, limit: int = 4, longest_wait: float = 10.0) -> None:
        self.governor = Governor(limit, longest_wait, TIME)
        self.answers = list(answers)
        self.asked: list[float] = []
        """Times of the requests."""

    async def ask(self) -> str:
        self.asked.append(TIME())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            await answer()
        return str(answer)


def ask(server: Server, deadline: float = 10.0) -> Coroutine[Any, Any, str]:
    return ask_until_answered([server], Server.ask, deadline)


# Retrying


def test_a_transient_fault_is_tried_again_until_it_is_gone() -> None:
    server = Server(Transient("503"), Transient("reset"), "hello")
    told: list[int] = []
    reply = TIME.run(ask_until_answered([server], Server.ask, 10, lambda: told.append(len(server.asked))))
    assert reply == "hello"
    assert told == [1, 2]
    assert len(server.asked) == 3


@pytest.mark.parametrize("error", [BadContentError("no"), FailedTreeError("no"), StopError("no"), ValueError("no")])
def test_everything_else_is_not_tried_again(error: Exception) -> None:
    server = Server(error)
    with pytest.raises(type(error)):
        TIME.run(ask(server))
    assert len(server.asked) == 1
    assert server.governor.load == 0


def test_after_the_deadline_the_error_names_the_last_fault() -> None:
    server = Server(Transient("500: broken"))
    with pytest.raises(DeadlineError, match=r"^asked \d+ times, last: 500: broken$") as error:
        TIME.run(ask(server, deadline=0.5))
    assert error.value.attempts == len(server.asked) > 1


def test_a_hang_takes_half_of_what_is_left_so_that_two_leave_time_for_a_third_attempt() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    server = Server(hang, hang, "hello")
    assert TIME.run(ask(server, deadline=2.0)) == "hello"
    first, second, third = server.asked
    assert 1.0 <= second - first <= 1.25  # half of 2 s, and a backoff of at most 0.25 s
    assert 0.375 <= third - second <= 0.8125  # half of what is left, and at most 0.3125 s


def test_a_call_that_is_cancelled_leaves_the_governor() -> None:
    async def cancelled() -> Server:
        server = Server(lambda: asyncio.sleep(60), limit=1)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(server), 0.02)
        return server

    server = TIME.run(cancelled())
    assert server.governor.load == 0
    assert len(server.asked) == 3


@given(st.integers(1, 60))
def test_backoff_is_drawn_from_the_whole_range_which_doubles_up_to_eight_seconds(attempt: int) -> None:
    assert 0 <= backoff(attempt) <= min(8.0, 0.25 * 2 ** (attempt - 1))


# The governor


def test_when_the_server_asks_to_wait_all_calls_to_it_wait_and_those_to_another_do_not() -> None:
    async def run() -> tuple[list[float], list[float]]:
        told, other = Server(Transient("429", wait=0.4, throttled=True), "a"), Server("b")
        began = TIME()
        first = asyncio.create_task(ask(told))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, *[ask(told) for _ in range(3)], *[ask(other) for _ in range(3)])
        return [at - began for at in told.asked], [at - began for at in other.asked]

    told, other = TIME.run(run())
    assert len(told) == 5
    assert min(told[1:]) >= 0.4
    assert max(other) < min(told[1:])


def test_a_wait_that_is_asked_for_is_capped() -> None:
    server = Server(Transient("429", wait=3, throttled=True), "a", longest_wait=0.1)
    assert TIME.run(ask(server, deadline=5)) == "a"


def test_a_wait_longer_than_a_call_may_take_stops_the_run_unless_another_server_takes_over() -> None:
    told = Transient("429: come back", wait=10_000, throttled=True)
    server, other = Server(told), Server("hello")
    with pytest.raises(RetryUselessError) as error:
        TIME.run(ask(server, deadline=5))
    assert len(server.asked) == 1
    assert str(error.value.as_stop("http://s/v1")) == (
        "http://s/v1 asks to wait 10000 s, longer than --deadline (429: come back); run the same command again after "
        "that time, or raise --deadline"
    )
    assert TIME.run(ask_until_answered([server, other], Server.ask, 5)) == "hello"
    with pytest.raises(RetryUselessError):
        TIME.run(ask_until_answered([Server(told), Server(told)], Server.ask, 5))


def test_a_server_that_sends_the_same_nonsense_three_times_is_asked_no_more_unless_another_takes_over() -> None:
    page = Transient("200 with a page: Sign in (request 7ab)", no_answer=True)
    again = Transient("200 with a page: Sign in (request 8cd)", no_answer=True)
    server, other = Server(page, again, page), Server("hello")
    with pytest.raises(RetryUselessError, match="Sign in"):
        TIME.run(ask(server))
    assert len(server.asked) == 3
    assert TIME.run(ask_until_answered([Server(page), other], Server.ask, 10)) == "hello"
    changing = Server(page, Transient("200 with nothing", no_answer=True), page, Transient("500"), "hello")
    assert TIME.run(ask(changing)) == "hello"


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_a_clock_that_jumps_changes_no_wait(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    server = Server(Transient("429", wait=0.2, throttled=True), "a")

    async def run() -> str:
        asking = asyncio.ensure_future(ask(server, deadline=5))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(time, "time", lambda: now() + jump)
        return await asking

    assert TIME.run(run()) == "a"
    assert len(server.asked) == 2
    assert server.asked[1] - server.asked[0] >= 0.2


def most_at_once(server: Server, calls: int) -> Callable[[], Coroutine[Any, Any, int]]:
    """Ask so many times at once and say how many were in flight together."""

    async def run() -> int:
        most = flying = 0

        async def work(server: Server) -> str:
            nonlocal most, flying
            flying += 1
            most = max(most, flying)
            try:
                await asyncio.sleep(0.005)
                return await server.ask()
            finally:
                flying -= 1

        await asyncio.gather(*[ask_until_answered([server], work, 20) for _ in range(calls)])
        return most

    return run


def test_no_more_calls_than_the_limit_are_in_flight() -> None:
    assert TIME.run(most_at_once(Server("a", limit=4), 20)()) == 4


async def capacity(governor: Governor) -> int:
    """How many calls may be in flight now; all of them are over again afterwards."""
    inside: list[float] = []
    try:
        while True:
            inside.append(await asyncio.wait_for(governor.enter(), 0.01))
    except TimeoutError:
        return len(inside)
    finally:
        for sent in inside:
            governor.leave(sent)


def test_throttling_halves_the_window_once_a_round_and_answers_restore_it() -> None:
    async def run() -> list[int]:
        governor, seen = Governor(8, 10, TIME), []
        seen.append(await capacity(governor))
        inside = [await governor.enter() for _ in range(8)]
        for _ in range(8):
            governor.record_fault(Transient("429", throttled=True), inside[-1])
        for sent in inside:
            governor.leave(sent)
        for _ in range(4):
            seen.append(await capacity(governor))
            governor.record_answer(TIME())
            governor.record_answer(TIME())
        for _ in range(20):
            governor.record_answer(TIME())
        seen.append(await capacity(governor))
        return seen

    assert TIME.run(run()) == [8, 4, 5, 6, 7, 8]


def test_one_call_may_always_be_in_flight() -> None:
    async def run() -> int:
        governor = Governor(8, 10, TIME)
        for _ in range(9):
            sent = await governor.enter()
            governor.record_fault(Transient("429", throttled=True), sent)
            governor.leave(sent)
        return await capacity(governor)

    assert TIME.run(run()) == 1


def slow(governor: Governor, seconds: float) -> None:
    """Enough answers for an estimate, each of which took so long."""
    for _ in range(20):
        governor.record_answer(TIME() - seconds)


def test_the_attempt_timeout_is_five_times_the_slowest_of_the_last_answers_and_at_least_five_seconds() -> None:
    governor = Governor(8, 10, TIME)
    assert governor.attempt_timeout() == math.inf
    slow(governor, 0.1)
    assert governor.attempt_timeout() == 5.0
    slow(governor, 4.0)
    assert governor.attempt_timeout() == pytest.approx(20.0)
    for _ in range(5):
        slow(governor, 0.1)
    assert governor.attempt_timeout() == 5.0


def test_latencies_of_one_class_do_not_change_the_attempt_timeout_of_another() -> None:
    governor = Governor(8, 10, TIME)
    for _ in range(20):
        governor.record_answer(TIME() - 0.1, "user")
    assert governor.attempt_timeout("user") == 5.0
    assert governor.attempt_timeout("judge") == math.inf
    for _ in range(20):
        governor.record_answer(TIME() - 4.0, "judge")
    assert governor.attempt_timeout("judge") == pytest.approx(20.0)
    assert governor.attempt_timeout("user") == 5.0


def test_a_server_that_always_says_to_wait_no_time_at_all_is_not_asked_without_end() -> None:
    for wait in (None, 0.0, 0.001):
        server = Server(Transient("429", throttled=True, wait=wait))
        with pytest.raises(DeadlineError):
            TIME.run(ask(server, deadline=0.5))
        assert len(server.asked) < 100  # thousands, if nothing but the server's word counted


def test_a_hang_at_a_server_that_has_been_quick_is_given_up_early_and_the_next_attempt_gets_twice_the_time() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    server = Server(hang, hang, "hello")
    slow(server.governor, 0.0)
    assert TIME.run(ask(server, deadline=60.0)) == "hello"
    first, second, third = server.asked
    assert 5.0 <= second - first <= 5.25
    assert 10.0 <= third - second <= 10.5


def test_requests_that_hang_are_not_counted_against_the_window() -> None:
    async def run() -> list[int]:
        governor = Governor(8, 10, TIME)
        slow(governor, 0.0)
        hanging = [await governor.enter() for _ in range(3)]
        await asyncio.sleep(0.51)
        sent = await governor.enter()
        # One live request is left: half of it, at least one.
        governor.record_fault(Transient("429", throttled=True), sent)
        governor.leave(sent)
        seen = [await capacity(governor)]
        governor.record_answer(TIME())
        for _ in range(20):
            governor.record_answer(TIME())
        seen.append(await capacity(governor))
        return [*seen, len(hanging)]

    assert TIME.run(run()) == [1, 5, 3]  # never above the limit of 8, the hanging ones included


# Several servers


def test_the_least_loaded_server_is_asked_and_a_cooling_one_only_if_all_are() -> None:
    async def run() -> list[str]:
        a, b = Server("a"), Server("b")
        names = {a: "a", b: "b"}
        chosen = [names[least_loaded([a, b])]]
        await a.governor.enter()
        chosen.append(names[least_loaded([a, b])])
        b.governor.cool_down()
        chosen.append(names[least_loaded([a, b])])
        a.governor.cool_down()
        chosen.append(names[least_loaded([a, b])])
        return chosen

    assert TIME.run(run()) == ["a", "b", "a", "b"]


def test_a_conversation_stays_with_its_server_until_that_one_has_clearly_more_to_do_or_fails() -> None:
    async def run() -> list[str]:
        servers = [Server("a", limit=8), Server("b", limit=8)]
        names = dict(zip(servers, "ab", strict=True))
        chosen = [names[pick_server(servers, key)] for key in (0, 1, 2, 3)]
        for _ in range(2):
            await servers[1].governor.enter()
        chosen.append(names[pick_server(servers, 1)])  # a quarter of 8 more than the other: it stays
        await servers[1].governor.enter()
        chosen.append(names[pick_server(servers, 1)])
        await servers[0].governor.enter()
        chosen.append(names[pick_server(servers, 1)])
        servers[1].governor.cool_down()
        chosen.append(names[pick_server(servers, 1)])
        return chosen

    assert TIME.run(run()) == ["a", "b", "a", "b", "b", "a", "b", "a"]


@pytest.mark.parametrize(
    "fault",
    [Transient("refused", unreachable=True), Transient("500: out of order"), Transient("the connection broke")],
    ids=str,
)
def test_when_one_of_two_servers_is_gone_the_other_takes_over(fault: Transient) -> None:
    gone, healthy = Server(fault), Server("hello")

    async def run() -> list[str]:
        return [await ask_until_answered([gone, healthy], Server.ask, 10) for _ in range(5)]

    assert TIME.run(run()) == ["hello"] * 5
    assert len(gone.asked) == 1


def test_after_the_cool_down_one_call_probes_the_server() -> None:
    failed, healthy = Server("failed"), Server("healthy")
    for _ in range(16):
        # All of them at once are one failure, and one short cool-down.
        failed.governor.record_fault(Transient("reset"), TIME())

    async def run() -> list[bool]:
        chosen = [least_loaded([failed, healthy]) is failed]
        await asyncio.sleep(0.51)
        await healthy.governor.enter()
        chosen.append(least_loaded([failed, healthy]) is failed)
        sent = await failed.governor.enter()
        await healthy.governor.enter()
        chosen.append(least_loaded([failed, healthy]) is failed)
        failed.governor.record_answer(sent)
        failed.governor.leave(sent)
        chosen.append(least_loaded([failed, healthy]) is failed)
        return chosen

    assert TIME.run(run()) == [False, True, False, True]


# What an answer means


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:28:30 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, None),
        ({"Retry-After": "0"}, None),
        ({"Retry-After": "-1"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0s"}, None),
        ({"Retry-After": "soon"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0.5s"}, 60.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "20ms"}, None),
        ({"X-RateLimit-Reset": "3"}, 3.0),
        ({"X-RateLimit-Reset": "1893456000"}, None),
        ({}, None),
    ],
)
def test_the_wait_a_server_asks_for_is_read_from_its_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_of(CIMultiDict(headers), throttled=True) == pytest.approx(seconds)


def test_rate_limits_count_only_for_a_call_that_met_one() -> None:
    assert wait_of({"x-ratelimit-reset": "3"}, throttled=False) is None


CHOICES = b'{"choices": [{"delta": {"content": "a"}, "message": null}], "usage": null}'


PIECES = [b"data: ", CHOICES, CHOICES[:30], b"\n", b"\n\n", b": x", b"[DONE]", b"event: e", b'{"error": "x"}', b"NaN"]


@given(st.lists(st.sampled_from([*PIECES, b"\xef\xbb\xbf", b"\x1f\x8b", b"[", b'"{']), max_size=9))
def test_however_a_body_is_put_together_a_reply_is_read_or_a_fault_is_named(pieces: list[bytes]) -> None:
    with suppress(Transient, BadContentError, FailedTreeError, StopError):
        assert set(read_reply(ASKED, b"".join(pieces)).text) == {"a"}


@given(st.binary(max_size=300))
def test_whatever_bytes_come_a_reply_is_read_or_a_fault_is_named(body: bytes) -> None:
    with pytest.raises((Transient, BadContentError)):
        read_reply(ASKED, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "tool_calls", "refusal", "finish_reason", "usage", "text",
                         "prompt_tokens", "model", "error", "code", "type", "param", "detail"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.integers(300, 599))
def test_whatever_json_comes_a_reply_is_read_or_a_fault_is_named(value: object, status: int) -> None:
    text = json.dumps(value)
    try:
        reply = read_reply(ASKED, text.encode())
    except (Transient, BadContentError, FailedTreeError, StopError):
        reply = None
    assert reply is None or reply.text.strip()
    assert isinstance(fault_of_status(ASKED, status, {}, text), Fault)


@given(st.text(st.characters(codec=None), min_size=1).filter(str.strip))
def test_a_text_is_kept_as_it_came(text: str) -> None:
    assert read_reply(ASKED, json.dumps({"choices": [{"message": {"content": text}}]}).encode()).text == json.loads(
        json.dumps(text)
    )


def test_a_reply_in_parts_is_their_texts() -> None:
    body = b'{"choices": [{"message": {"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}}]}'
    assert read_reply(ASKED, body).text == "Hello"


def test_what_the_server_counts_is_taken_and_nonsense_counts_as_nothing() -> None:
    good = b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 9, "completion_tokens": -1}}'
    reply = read_reply(ASKED, good)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.model) == (9, 0, "openai:m")


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("12", 12),
        ("12.0", 12),
        ("12.5", 0),
        ("true", 0),
        ('"12"', 0),
        ("null", 0),
        ("NaN", 0),
        ("1e300", 0),
        ("9" * 18, 0),
    ],
)
def test_a_count_of_tokens_is_a_whole_number_that_a_reply_can_have(said: str, count: int) -> None:
    body = f'{{"choices": [{{"message": {{"content": "a"}}}}], "usage": {{"completion_tokens": {said}}}}}'
    assert read_reply(ASKED, body.encode()).completion_tokens == count


def test_an_error_that_comes_with_status_200_is_the_error_it_says_it_is() -> None:
    with pytest.raises(Transient, match="429: busy"):
        read_reply(ASKED, b'{"error": {"code": 429, "message": "busy"}}')
    with pytest.raises(StopError, match="refused the key"):
        read_reply(ASKED, b'{"error": {"code": 401, "message": "who?"}}')


def test_what_a_server_says_is_quoted_on_one_line_of_at_most_200_printable_characters() -> None:
    fault = fault_of_status(ASKED, 400, {}, "\x1b[2J" + "a\r\n\u202e" * 300)
    said = str(fault).partition("(400): ")[2]
    assert said.isprintable()
    assert len(said) == 200
    assert said.startswith("?[2Ja ?a ?a")
