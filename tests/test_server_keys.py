"""Whose key goes where: real requests to servers on loopback, and what they got to see."""

import asyncio
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import fault_server
import pytest
from calls_seen import calls_of
from fault_server import FaultServer, Plan

import interalign as ia
from interalign.config import Runtime, build
from interalign.errors import InteralignError
from interalign.models.access import access_to, is_given_openais_key
from interalign.models.openai import openai_model

KEY, OTHER = "sk-canary-1234567890", "gw-canary-0987654321"
OPENAI = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GATEWAY_KEY", OTHER)


def simulate(path: Path, **more: Any) -> None:
    runtime = build(Runtime, {"deadline": 2, **more.pop("runtime", {})})
    ia.simulate(path, trees=1, turns=1, runtime=runtime, **more)


def sent_to(server: FaultServer) -> set[str]:
    """The Authorization headers that a server saw."""
    lines = [line for head in server.headers for line in head.splitlines()]
    return {line.partition(": ")[2] for line in lines if line.lower().startswith("authorization:")}


VERDICT: Plan = lambda body: {"message": {"content": "Verdict: A"}}  # noqa: E731


def test_a_key_goes_to_the_server_it_was_given_for_and_to_no_other(tmp_path: Path) -> None:
    with fault_server.serving() as one, fault_server.serving(VERDICT) as two:
        models = {"candidate": f"openai:m@{one.url}", "judge": f"openai:j@{two.url}"}
        simulate(tmp_path / "none.db", **models)
        assert sent_to(one) == sent_to(two) == {"Bearer none"}
    with fault_server.serving() as one, fault_server.serving(VERDICT) as two:
        models = {"candidate": f"openai:m@{one.url}", "judge": f"openai:j@{two.url}"}
        simulate(tmp_path / "one.db", **models, runtime={"servers": {two.url: {"key": "GATEWAY_KEY"}}})
        assert sent_to(one) == {"Bearer none"}
        assert sent_to(two) == {f"Bearer {OTHER}"}
    with fault_server.serving() as one, fault_server.serving(VERDICT) as two:
        simulate(tmp_path / "base.db", candidate="openai:m", judge=f"openai:j@{two.url}", runtime={"base_url": one.url})
        assert sent_to(one) == {f"Bearer {KEY}"}
        assert sent_to(two) == {"Bearer none"}


def test_the_only_server_of_a_run_gets_the_key_and_so_do_the_servers_of_one_pool(tmp_path: Path) -> None:
    with fault_server.serving(VERDICT) as server:
        at = f"@{server.url}"
        simulate(tmp_path / "only.db", candidate=f"openai:m{at}", judge=f"openai:j{at}")
        assert sent_to(server) == {f"Bearer {KEY}"}
    with fault_server.serving() as one, fault_server.serving() as two:
        simulate(tmp_path / "pool.db", candidate="openai:m", branch=6, runtime={"base_url": (one.url, two.url)})
        assert sent_to(one) == sent_to(two) == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("url", "run", "base", "given"),
    [
        (OPENAI, {OPENAI, "http://own/v1"}, (), True),
        ("https://eu.api.openai.com/v1", {"https://eu.api.openai.com/v1"}, (), True),
        ("http://own/v1", {OPENAI, "http://own/v1"}, (), False),
        ("http://own/v1", {OPENAI, "http://own/v1"}, ("http://own/v1",), False),
        ("http://own/v1", {"http://own/v1"}, (), True),
        ("http://own/v1", {"http://own/v1", "http://own/v2"}, (), True),
        ("http://own/v1", {"http://own/v1", "http://own:8000/v1"}, (), False),
        ("http://own/v1", {"http://own/v1", "https://own/v1"}, (), False),
        ("http://own/v1", {"http://own/v1"}, ("http://base/v1",), False),
        ("http://base/v1", {"http://own/v1", "http://base/v1"}, ("http://base/v1",), True),
        ("http://base/v2", {"http://base/v1", "http://base/v2"}, ("http://base/v1",), True),
        ("https://api.openai.com.org/v1", {"https://api.openai.com.org/v1", "http://own/v1"}, (), False),
        ("https://notapi.openai.com/v1", {"https://notapi.openai.com/v1", OPENAI}, (), False),
    ],
)  # fmt: skip
def test_openais_key_is_given_for(url: str, run: set[str], base: tuple[str, ...], given: bool) -> None:
    assert is_given_openais_key(url, run, base) is given


def test_a_model_at_openai_itself_keeps_the_key_from_a_server_of_ones_own(tmp_path: Path) -> None:
    runtime = Runtime(addresses=(("openai:m", "http://127.0.0.1:9/v1"), ("openai:gpt", "")))
    assert KEY not in str(openai_model("openai:m", runtime)._accesses["http://127.0.0.1:9/v1"].headers)
    assert f"Bearer {KEY}" in str(openai_model("openai:gpt", runtime)._accesses[OPENAI].headers)


def test_which_server_gets_no_key_is_said_in_one_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with fault_server.serving() as one, fault_server.serving(VERDICT) as two:
        simulate(tmp_path / "run.db", candidate=f"openai:m@{one.url}", judge=f"openai:j@{two.url}")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sorted(said) == sorted(
        f"{server.url} gets no key, since OPENAI_API_KEY was not given for it; if it wants one, give it one with "
        f"--server {server.url}=NAME_OF_ITS_VARIABLE, or under `servers:` in the --config file"
        for server in (one, two)
    )


@pytest.mark.parametrize("env", [KEY, ""])
def test_a_server_that_wants_a_key_and_was_given_none_says_how_to_give_one(
    env: str, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", env)
    refusal: Plan = lambda body: {"status": 401, "json": {"error": {"message": "No key"}}}  # noqa: E731
    with fault_server.serving() as one, fault_server.serving(refusal) as two:
        models = ("--candidate", f"openai:m@{one.url}", "--judge", f"openai:j@{two.url}")
        ended = cli("simulate", "run.db", "--trees", "1", "--turns", "1", *models)
    assert ended.code == 3
    assert "refused the key" not in ended.err
    assert (
        f"{two.url} wants a key, and none was given for it; give it one with --server {two.url}=NAME_OF_ITS_VARIABLE"
    ) in ended.err
    assert "(401: No key)" in ended.err


def test_the_key_of_a_server_can_be_named_on_the_command_line_and_its_other_settings_in_the_file(cli) -> None:
    with fault_server.serving() as one, fault_server.serving(VERDICT) as two:
        servers = {two.url: {"headers": {"X-Team": "blue"}, "query": {"v": 2}}, one.url: {"key": "OPENAI_API_KEY"}}
        Path("run.yaml").write_text(json.dumps({"servers": servers}))
        models = ("--candidate", f"openai:m@{one.url}", "--judge", f"openai:j@{two.url}")
        shape = ("--trees", "1", "--turns", "1", "--config", "run.yaml", "--server", f"{two.url}/=GATEWAY_KEY")
        ended = cli("simulate", "run.db", *shape, *models)
        again = cli("simulate", "run.db", *shape[:4], "--candidate", "openai:m", "--judge", "openai:j")
    assert (ended.code, again.code) == (0, 0)  # none of it is part of what the run is
    assert sent_to(one) == {f"Bearer {KEY}"}
    assert sent_to(two) == {f"Bearer {OTHER}"}
    assert "POST /v1/chat/completions?v=2 " in two.headers[0]
    assert "X-Team: blue" in two.headers[0]
    assert KEY.encode() not in Path("run.db").read_bytes()


def test_headers_query_and_the_name_of_the_limit_are_sent_as_azure_wants_them(tmp_path: Path) -> None:
    with fault_server.serving() as server:
        settings = {
            "headers": {"api-key": "${GATEWAY_KEY}"},
            "query": {"api-version": "2024-10-21"},
            "token_limit": "max_completion_tokens",
        }
        url = f"{server.url}/deployments/m"
        simulate(
            tmp_path / "run.db",
            candidate=f"openai:m@{url}",
            parameters={"candidate": {"max_tokens": 9}},
            runtime={"servers": {f"{url}/chat/completions": settings}},
        )
        assert server.headers[0].startswith("POST /v1/deployments/m/chat/completions?api-version=2024-10-21 ")
        assert f"api-key: {OTHER}" in server.headers[0]
        assert server.asked[0]["max_completion_tokens"] == 9


def test_a_date_that_yaml_reads_in_a_query_is_sent_as_it_was_written(cli) -> None:
    with fault_server.serving() as server:
        Path("run.yaml").write_text(f"servers:\n  {server.url}:\n    query: {{api-version: 2024-10-21}}\n")
        shape = ("--trees", "1", "--turns", "1", "--config", "run.yaml", "--base-url", server.url)
        assert cli("simulate", "run.db", *shape, "--candidate", "openai:m").code == 0
    assert "?api-version=2024-10-21 " in server.headers[0]


@pytest.mark.parametrize(
    ("entry", "address", "matches"),
    [
        ("http://h:8/v1", "http://h:8/v1", True),
        ("http://h:8/v1/", "http://h:8/v1", True),
        ("http://H:8/v1", "http://h:8/v1", True),
        ("http://h:80/v1", "http://h/v1", True),
        ("http://h:8", "http://h:8/v1", True),
        ("http://h:8/v1", "http://h:8/v10", False),
        ("http://h:8/v1", "http://h:9/v1", False),
        ("http://h:8/v1", "https://h:8/v1", False),
        ("http://h:8/v1", "http://other.h:8/v1", False),
        ("http://h:8/v1/a", "http://h:8/v1", False),
    ],
)
def test_an_entry_is_about_the_addresses_that_begin_with_it(entry: str, address: str, matches: bool) -> None:
    runtime = build(Runtime, {"servers": {entry: {"key": "GATEWAY_KEY"}}})
    assert (access_to(address, {address, OPENAI}, runtime).key_from == "GATEWAY_KEY") is matches


def test_of_two_entries_the_longer_one_counts() -> None:
    runtime = build(
        Runtime, {"servers": {"http://h": {"key": "OPENAI_API_KEY"}, "http://h/v1": {"key": "GATEWAY_KEY"}}}
    )
    assert access_to("http://h/v1", {"http://h/v1"}, runtime).key_from == "GATEWAY_KEY"
    assert access_to("http://h/v2", {"http://h/v2"}, runtime).key_from == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"key": "NOT_SET_ANYWHERE"}, "the environment variable NOT_SET_ANYWHERE is not set"),
        ({"key": "gsk_abcdefabcdef"}, "the environment variable that its `key` names is not set"),
        ({"key": "sk-proj-abcdefabcdef"}, "key: expected the name of the environment variable"),
        ({"key": "${GATEWAY_KEY}"}, "key: expected the name of the environment variable"),
        ({"key": 7}, "key: "),
        ({"headers": {"X-Key": "${NOT_SET_ANYWHERE}"}}, "need the environment variable NOT_SET_ANYWHERE"),
        ({"headers": {"X-Key": "a\nb"}}, "'X-Key' holds a character that cannot be sent"),
        ({"headers": ["X-Key"]}, "headers: expected `name: value` lines"),
        ({"token_limit": "max_new_tokens"}, "token_limit: "),
        ({"secret": "x"}, "secret: no such setting; there are key, headers, query, token_limit, proxy"),
        ({"proxy": "socks5://127.0.0.1:9"}, "which cannot be used"),
        ("GATEWAY_KEY", "expected settings such as `key: NAME_OF_ITS_VARIABLE`"),
    ],
)
def test_a_key_that_is_not_there_is_refused_before_anything_starts(server: Any, said: str, cli) -> None:
    url = "http://127.0.0.1:9/v1"
    Path("run.yaml").write_text(json.dumps({"servers": {url: server}}))
    ended = cli("simulate", "run.db", "--config", "run.yaml", "--candidate", f"openai:m@{url}")
    assert ended.code == 2
    assert said in ended.err
    assert url in ended.err
    assert ended.err.count("\n") == 1
    assert "abcdefabcdef" not in ended.err
    assert not Path("run.db").exists()


@pytest.mark.parametrize("option", ["http://h/v1=sk-proj-abcdefabcdef", "http://h/v1", "GATEWAY_KEY", "h=GATEWAY_KEY"])
def test_an_option_that_names_no_address_or_no_variable_is_refused_and_not_repeated(option: str, cli) -> None:
    ended = cli("simulate", "run.db", "--candidate", "openai:m@http://127.0.0.1:9/v1", "--server", option)
    assert ended.code == 2
    assert "http://localhost:8000/v1" in ended.err
    assert "abcdefabcdef" not in ended.err


def test_organisation_and_project_are_told_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    assert "org-1" in str(access_to(OPENAI, {OPENAI}, Runtime()).headers)
    own = "http://127.0.0.1:9/v1"
    assert "org-1" not in str(access_to(own, {own}, Runtime(base_url=own)).headers)
    assert "proj-1" not in str(access_to(own, {own}, Runtime(base_url=own)).headers)


LEAKS: dict[str, dict[str, Any]] = {
    "in a reply": {"message": {"content": f"You sent {OTHER}. What do you like?"}},
    "in a refused key": {"status": 401, "text": OTHER},
    "in a refused request": {"status": 400, "json": {"error": f"not {OTHER}"}},
    "in an error": {"status": 500, "text": OTHER},
    "in a page": {"text": f"<title>{OTHER}</title>"},
    "in a header": {"status": 307, "headers": {"Location": f"http://127.0.0.1/{OTHER}"}},
    "in what is filtered": {"status": 403, "json": {"error": f"{OTHER} was flagged"}},
}


@pytest.mark.parametrize("step", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize(
    "settings",
    [
        {"key": "GATEWAY_KEY"},
        {"headers": {"X-Gate": "${GATEWAY_KEY}"}},
        {"headers": {"Authorization": "Basic ${GATEWAY_KEY}"}},
        {"headers": {"api-key": OTHER}},
        {"query": {"key": "${GATEWAY_KEY}"}},
    ],
    ids=["key", "header", "authorization", "spelt out", "query"],
)
def test_a_secret_that_the_server_repeats_is_in_no_file_no_message_and_no_traceback(
    settings: dict[str, Any],
    step: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path, shown = tmp_path / "run.db", ""
    with fault_server.serving(lambda body: step) as server:
        runtime = {"base_url": server.url, "deadline": 0.5, "servers": {server.url: settings}}
        try:
            simulate(path, candidate="openai:m", runtime=runtime)
            with ia.open_run(path) as run_file:
                shown += str([run_file.reply_of(call.key) for call in calls_of(path)])
        except InteralignError:
            shown = traceback.format_exc()
    assert OTHER in server.headers[0]
    assert OTHER not in shown + caplog.text + "".join(capfd.readouterr()) + repr(build(Runtime, {}))
    assert [file.name for file in tmp_path.rglob("*") if OTHER.encode() in file.read_bytes()] == []


def test_an_ordinary_header_hides_no_word_of_a_reply() -> None:
    async def ask(url: str) -> str:
        servers = {url: {"headers": {"X-Team": "research"}}}
        model = openai_model("openai:m", build(Runtime, {"base_url": url, "servers": servers}))
        reply = await model([ia.Message(role="user", content="Hi.")], ia.Parameters(), 0)
        await model.close()
        return reply.text

    with fault_server.serving(lambda body: {"message": {"content": "I like research."}}) as server:
        assert asyncio.run(ask(server.url)) == "I like research."
