"""The same call, written as its server takes it: the name of its limit, no system role, roles that take turns."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import fault_server
import pytest
from calls_seen import calls_of
from fault_server import Step

import interalign as ia
from interalign.models.openai import openai_model

NO_SYSTEM = {"status": 400, "json": {"error": {"message": "System role not supported"}}}
ALTERNATE = {"status": 500, "json": {"error": "Conversation roles must alternate user/assistant/user/assistant/..."}}
LIMITED = ia.Parameters(max_tokens=9)
TALK = [ia.Message(role="system", content="Be kind."), ia.Message(role="user", content="Hi.")]
TWICE = [*TALK, ia.Message(role="user", content="You there?")]
Sent = list[dict[str, Any]]


def ask(
    plan: Callable[[dict[str, Any]], Step],
    messages: list[ia.Message] = TALK,
    parameters: ia.Parameters = LIMITED,
    times: int = 1,
    **runtime: Any,
) -> tuple[list[Any], Sent]:
    """The replies, or what is raised, to the same call made so many times at once; and what was sent for it."""

    async def work(url: str) -> list[Any]:
        servers = {url: runtime.pop("server", {})}
        model = openai_model("openai:m", ia.Runtime(base_url=url, deadline=5, servers=servers, **runtime))
        calls = [model(messages, parameters, 0) for _ in range(times)]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        await model.close()
        return replies

    with fault_server.serving(plan) as server:
        return asyncio.run(work(server.url)), server.asked


def knows_only(name: str, words: str) -> Callable[[dict[str, Any]], Step]:
    """A server that knows the limit by this name only, and says so in these words."""
    known = {"max_tokens", "max_completion_tokens"}
    return lambda body: {} if not (known - {name}) & body.keys() else {"status": 400, "json": {"error": words}}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "max_completion_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
        ),
        ("max_completion_tokens", "`max_tokens` is deprecated for this model"),
        ("max_completion_tokens", "property 'max_tokens' is unsupported"),
        ("max_tokens", "Unrecognized request argument supplied: max_completion_tokens"),
        ("max_tokens", "max_completion_tokens: Extra inputs are not permitted"),
        ("max_tokens", 'json: unknown field "max_completion_tokens"'),
    ],
)
def test_the_other_name_of_the_limit_is_used_from_then_on(
    name: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}[name]
    replies, sent = ask(knows_only(name, words), times=3, concurrency=1, server={"token_limit": old})
    assert [name in body for body in sent] == [False, True, True, True]
    assert all(body.get(name) == 9 for body in sent[1:])
    assert sorted(reply.sends for reply in replies) == [1, 1, 2]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("interalign", logging.WARNING)
    assert record.getMessage().endswith(f" takes {name}, not {old}")


def test_calls_that_were_on_their_way_when_the_name_was_found_are_sent_again_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replies, sent = ask(knows_only("max_completion_tokens", "Unsupported parameter: 'max_tokens'"), times=8)
    assert [reply.text for reply in replies] == [replies[0].text] * 8
    assert 9 <= len(sent) <= 16
    assert len(caplog.records) == 1


def test_a_server_that_takes_neither_name_stops_the_run_and_names_the_setting() -> None:
    (error,), sent = ask(
        lambda body: {
            "status": 400,
            "json": {"error": f"Unsupported parameter: '{next(k for k in body if 'max' in k)}'"},
        }
    )
    assert isinstance(error, ia.StopError)
    assert "does not take 'max_completion_tokens'" in str(error)
    assert "{ROLE: {max_tokens: null}}" in str(error)
    assert len(sent) == 2


@pytest.mark.parametrize(
    "words",
    ["max_tokens is too large: 9999. This model supports at most 4096 completion tokens",
     "Range of max_tokens should be [1, 8]"],
)  # fmt: skip
def test_a_limit_that_is_too_large_is_not_sent_under_another_name(words: str) -> None:
    (error,), sent = ask(lambda body: {"status": 400, "json": {"error": words}})
    assert isinstance(error, ia.StopError)
    assert len(sent) == 1


def test_a_limit_of_the_users_own_body_is_not_renamed() -> None:
    own = ia.Parameters(extra_body={"max_tokens": 9})
    (error,), sent = ask(knows_only("max_completion_tokens", "Unsupported parameter: 'max_tokens'"), parameters=own)
    assert isinstance(error, ia.StopError)
    assert len(sent) == 1


def roles_of(sent: Sent) -> list[list[str]]:
    return [[message["role"] for message in body["messages"]] for body in sent]


def refuses_system(refusal: Step) -> Callable[[dict[str, Any]], Step]:
    return lambda body: refusal if body["messages"][0]["role"] == "system" else {}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "System role not supported"),
        (500, "System role not supported"),
        (400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
        (400, "This model doesn't support system messages"),
        (422, "Template error: Only user and assistant roles are supported!"),
        (400, 'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter'),
        (422, "messages: Input should be 'user' or 'assistant'"),
        (500, "Conversation roles must alternate user/assistant/user/assistant/..."),
    ],
)
def test_a_model_without_a_system_role_gets_the_system_message_with_the_first_user_message(
    status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    plan = refuses_system({"status": status, "json": {"error": {"message": words}}})
    _, sent = ask(plan, times=2, concurrency=1)
    assert roles_of(sent) == [["system", "user"], ["user"], ["user"]]
    assert sent[1]["messages"] == [{"role": "user", "content": "Be kind.\n\nHi."}]
    (record,) = caplog.records
    assert "openai:m at http://127.0.0.1:" in record.getMessage()
    assert "has no system role" in record.getMessage()


def test_roles_that_have_to_take_turns_are_joined_only_where_the_server_wants_it() -> None:
    _, sent = ask(lambda body: {}, TWICE)
    assert roles_of(sent) == [["system", "user", "user"]]
    _, sent = ask(lambda body: ALTERNATE if len(body["messages"]) == 3 else {}, TWICE)
    assert roles_of(sent) == [["system", "user", "user"], ["system", "user"]]
    assert sent[1]["messages"][1]["content"] == "Hi.\n\nYou there?"


def test_a_server_that_wants_both_gets_both() -> None:
    _, sent = ask(lambda body: {} if len(body["messages"]) == 1 else ALTERNATE, TWICE)
    assert roles_of(sent) == [["system", "user", "user"], ["system", "user"], ["user"]]
    assert sent[2]["messages"] == [{"role": "user", "content": "Be kind.\n\nHi.\n\nYou there?"}]


def test_a_refusal_that_no_other_shape_mends_fails_the_tree_after_one_request() -> None:
    (error,), sent = ask(lambda body: ALTERNATE, [ia.Message(role="assistant", content="Hello.")])
    assert isinstance(error, ia.FailedTreeError)
    assert len(sent) == 1


def test_what_is_on_record_are_the_messages_of_the_role_and_a_run_goes_on_at_another_server(tmp_path) -> None:
    path = tmp_path / "run.db"
    settings: dict[str, Any] = {"trees": 1, "turns": 1, "candidate": "openai:m"}
    limited = {"candidate": {"max_tokens": 9}}
    with fault_server.serving(knows_only("max_completion_tokens", "Unsupported parameter: 'max_tokens'")) as server:
        ia.simulate(path, runtime=ia.Runtime(base_url=server.url), parameters=limited, **settings)
        assert len(server.asked) > 2
    before = [(call.key, call.reply) for call in calls_of(path, "candidate")]
    with fault_server.serving() as server:
        again = ia.simulate(path, runtime=ia.Runtime(base_url=server.url), parameters=limited, **settings)
        assert (again.calls, len(server.asked)) == (0, 0)
    assert [(call.key, call.reply) for call in calls_of(path, "candidate")] == before


def test_the_same_request_twice_is_asked_twice() -> None:
    _, sent = ask(lambda body: {}, times=3, concurrency=1)
    assert len(sent) == 3
    assert sent[0] == sent[1] == sent[2]


def test_a_reply_says_which_server_gave_it_and_after_how_many_requests() -> None:
    first: list[Step] = [{"status": 500}, {"cut": "before headers"}]
    (reply,), sent = ask(lambda body: first.pop(0) if first else {})
    assert (reply.sends, len(sent)) == (3, 3)
    assert reply.server.startswith("http://127.0.0.1:")
