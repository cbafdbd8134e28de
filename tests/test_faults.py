"""Every row of docs/faults.yaml happens to a real run over loopback, and comes out as the row says."""

import ast
import asyncio
import json
import logging
import runpy
import socket
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import fault_server
import pytest
from calls_seen import calls_of
from exported import data_of
from fault_server import STORM, FaultServer, Plan, Step, Storm, opening_of, tls

import interalign as ia
from interalign.errors import InteralignError
from interalign.models.langchain import LangChainModel
from interalign.models.openai import openai_model

ROOT = Path(__file__).resolve().parent.parent
MAKE = runpy.run_path(str(ROOT / "docs" / "make_faults.py"))
ROWS: list[dict[str, Any]] = MAKE["rows"]()
KEY = "sk-canary-2468024680"


class Came(NamedTuple):
    """What came of a run."""

    exit: int
    said: str
    failed: int


def planned(said: dict[str, Any]) -> Plan:
    """The plan that the `server` of a case describes."""
    first: list[Step] = list(said.get("first", []))
    struck: list[str] = []

    def plan(body: dict[str, Any]) -> Step:
        if body["model"] != said.get("model", body["model"]):
            return {}
        if first:
            return first.pop(0)
        if "one_tree" in said:
            struck.append(opening_of(body))
            return said["one_tree"] if opening_of(body) == struck[0] else {}
        return said.get("always", {})

    return plan


@contextmanager
def server_of(said: dict[str, Any], request: pytest.FixtureRequest) -> Iterator[tuple[str, FaultServer]]:
    """The server of a case, and the address that the run is told."""
    kind = said.get("kind", "http")
    context = tls(request.getfixturevalue("certificate")) if kind == "tls" else None
    with fault_server.serving(planned(said), tls=context) as server:
        addresses = {
            "closed": f"http://127.0.0.1:{fault_server.free_port()}/v1",
            "unknown host": "http://nowhere.invalid/v1",
            "https without tls": server.url.replace("http:", "https:"),
        }
        yield addresses.get(kind, server.url), server


def run(
    path: Path, url: str | tuple[str, ...] | None, *, deadline: float = 4, concurrency: int = 4, **more: Any
) -> Came:
    """A short simulation through this server."""
    runtime = ia.Runtime(base_url=url, deadline=deadline, concurrency=concurrency)
    settings = {"trees": 2, "turns": 1, "candidate": "openai:m", **more}
    try:
        summary = ia.simulate(path, runtime=runtime, **settings)
    except InteralignError as error:
        return Came(error.exit_code, str(error), 0)
    return Came(1 if summary.failed else 0, " ".join(summary.failed.values()), len(summary.failed))


def cases() -> Iterator[object]:
    for row in ROWS:
        for case in row.get("cases", []):
            yield pytest.param(case, id=f"{row['row']} {row['fault']}: {case['name']}")


@pytest.mark.parametrize("case", cases())
def test_a_fault_ends_as_the_table_says_and_the_same_command_makes_up_for_it(
    case: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case["server"].get("kind") == "unknown host":
        know_nobody_but_this_machine(monkeypatch)
    path, settings, ends = tmp_path / "run.db", case.get("run", {}), case["ends"]
    with server_of(case["server"], request) as (url, server):
        came = run(path, url, **settings)
    assert came.exit == ends["exit"], came.said
    assert [part for part in ends.get("says", []) if part not in came.said] == [], came.said
    assert came.said.isprintable()
    assert came.failed == ends.get("failed", 0)
    assert seen(server, path, ends) == ends
    if came.exit:
        with fault_server.serving() as server:
            again = run(path, server.url, **settings)
        assert again == Came(0, "", 0)
    if not ends.get("other_data"):
        assert data_of(path, keep_cut=True) == calm_data(tmp_path / "calm.db", case)


def know_nobody_but_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up as on a machine without a network; a test's look-ups must not leave it."""
    look_up = socket.getaddrinfo

    def unknown(host: object, *rest: Any, **named: Any) -> Any:
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)


def seen(server: FaultServer, path: Path, ends: dict[str, Any]) -> dict[str, Any]:
    """What is so of what `ends` names: equal to `ends` if all of it is."""
    calls = calls_of(path, "candidate")
    with ia.open_run(path) as run_file:
        finishes = {run_file.reply_of(call.key).finish_reason for call in calls}
        missing = [word for tree in run_file.judged_trees() for word in words(tree) if word in ("missing", None)]
    held: dict[str, Any] = dict(ends)
    held["asked"] = len(server.asked)
    held["dropped"] = server.dropped
    held["missing"] = len(missing)
    if "finish" in ends:
        held["finish"] = "/".join(map(str, sorted(finishes, key=str)))
    if "kept" in ends:
        held["kept"] = "/".join({call.reply for call in calls})
    if server.times and server.times[-1] - server.times[0] < ends.get("waited", 0):
        held["waited"] = server.times[-1] - server.times[0]
    return {name: held[name] for name in ends}


def words(judged: ia.JudgedTree) -> list[object]:
    """What the judge said of every pair and every reply."""
    return [verdict.outcome for verdict in judged.verdicts] + [score.value for score in judged.scores]


def calm_data(path: Path, case: dict[str, Any]) -> dict[str, bytes]:
    """What the same run exports when nothing goes wrong but the judge, where the case is about the judge."""
    plan = planned(case["server"]) if case["server"].get("model") else fault_server.calm
    with fault_server.serving(plan) as server:
        assert run(path, server.url, **{**case.get("run", {}), "deadline": 10}).exit == 0
    return data_of(path, keep_cut=True)


# The table


def test_the_page_of_faults_is_what_the_table_says() -> None:
    assert MAKE["PAGE"].read_text(encoding="utf-8") == MAKE["page"](), "stale: run `make docs`"


def test_the_table_has_its_rows_once_and_in_order_and_every_row_is_held_or_said_to_be_open() -> None:
    numbers = [row["row"] for row in ROWS]
    assert numbers == sorted({*range(1, 42), *numbers})
    assert [row["row"] for row in ROWS if not row.keys() & {"cases", "held_by", "open"}] == []
    assert all("cases" in row for row in ROWS[:25])


def test_every_test_that_the_table_names_is_there() -> None:
    named = [test.split("::") for row in ROWS for test in row.get("held_by", [])]
    assert [f"{file}::{test}" for file, test in named if test not in functions_of(ROOT / "tests" / file)] == []


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


# What a row cannot say in one line


def test_a_trusted_certificate_is_enough(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with fault_server.serving(tls=tls(certificate)) as server:
        assert run(tmp_path / "run.db", server.url) == Came(0, "", 0)
        assert len(server.asked) == 4


def test_while_a_server_asks_to_wait_no_call_of_any_model_is_sent(tmp_path: Path) -> None:
    told: Step = {"status": 429, "headers": {"Retry-After": "0.6"}, "text": "wait", "delay": 0.05}
    # The first four requests are on their way at once; the last of them to be answered asks for the wait.
    with fault_server.serving(planned({"first": [{}, {}, {}, told]})) as server:
        came = run(tmp_path / "run.db", server.url, trees=4, turns=2, judge="openai:j", deadline=10)
    waited = server.steps.index(told)
    after = [at - server.times[waited] for at in server.times[waited + 1 :]]
    assert came == Came(0, "", 0)
    assert {body["model"] for body in server.asked} == {"m", "j"}
    # What was sent before the answer was there is no disobedience.
    assert [at for at in after if 0.3 < at < 0.6] == []
    assert max(after) > 0.6


def test_a_connection_that_hung_is_not_used_again_and_others_are(tmp_path: Path) -> None:
    with fault_server.serving(planned({"first": [{}, {"hang": True}]})) as server:
        assert run(tmp_path / "run.db", server.url, trees=3, turns=2, concurrency=1, deadline=1) == Came(0, "", 0)
        assert (server.connections, server.dropped, len(server.asked)) == (2, 1, 13)


@pytest.mark.slow
def test_a_storm_ends_with_all_trees_done_the_data_of_a_calm_run_and_the_server_used_as_before(tmp_path: Path) -> None:
    shape = {"trees": 300, "turns": 2, "concurrency": 16}
    with fault_server.serving() as server:
        weather = Storm(server, requests=1400)
        server.plan = weather
        assert run(tmp_path / "storm.db", server.url, **shape, deadline=10) == Came(0, "", 0)
    assert [weather.struck[kind] > 0.7 * share * 1400 for kind, share in STORM.items()] == [True] * 3, weather.struck
    assert len(server.asked) == 1200 + weather.struck.total()
    assert server.most_in_flight <= 16
    # It leaves requests in the slots that hang. A few hundred requests later at the most, eight in ten of the slots are
    # in use again: at half a second each, within some ten seconds.
    assert max(weather.answering_after[:250]) >= 13
    with fault_server.serving() as server:
        assert run(tmp_path / "calm.db", server.url, **shape) == Came(0, "", 0)
    assert data_of(tmp_path / "storm.db") == data_of(tmp_path / "calm.db")


def test_a_model_that_answers_under_another_name_is_kept_on_record_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.db"
    with fault_server.serving(lambda body: {"top": {"model": "other-7b"}}) as server:
        assert run(path, server.url) == Came(0, "", 0)
    with ia.open_run(path) as run_file:
        assert {run_file.reply_of(call.key).model for call in calls_of(path, "candidate")} == {"other-7b"}
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        ("interalign", logging.WARNING, "openai:m answers under another name: 'other-7b' (kept on record)")
    ]


def test_a_longer_form_of_the_same_name_is_no_other_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with fault_server.serving(lambda body: {"top": {"model": "m-2025-01-01"}}) as server:
        assert run(tmp_path / "run.db", server.url) == Came(0, "", 0)
    assert caplog.records == []


def echo(body: dict[str, Any]) -> Step:
    """A server that says the key in every answer."""
    return {"message": {"content": f"You sent Bearer {KEY}. What do you like?"}, "top": {"model": f"m-{KEY}"}}


KEY_LEAKS: dict[str, Plan] = {
    "in a reply": echo,
    "in a refused key": planned({"always": {"status": 401, "text": KEY}}),
    "in a refused request": planned({"always": {"status": 400, "json": {"error": {"message": f"{KEY} {KEY}"}}}}),
    "in a server error": planned({"always": {"status": 500, "text": KEY}}),
    "in what is no JSON": planned({"always": {"text": f"<b>{KEY}</b>"}}),
    "in a refusal": planned({"always": {"message": {"refusal": f"Not with {KEY}"}}}),
    "in a redirection": planned({"always": {"status": 307, "headers": {"Location": f"http://127.0.0.1/{KEY}"}}}),
    "in a header that is none": planned({"always": {"headers": {f"bad header {KEY}": KEY}}}),
}


@pytest.mark.parametrize("plan", KEY_LEAKS.values(), ids=KEY_LEAKS)
def test_a_key_that_the_server_repeats_is_in_no_file_no_message_and_no_traceback(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path, shown = tmp_path / "run.db", ""
    with fault_server.serving(plan) as server:
        runtime = ia.Runtime(base_url=server.url, deadline=0.6)
        try:
            shown = str(ia.simulate(path, trees=1, turns=1, candidate="openai:m", runtime=runtime))
            with ia.open_run(path) as run_file:
                shown += str([run_file.reply_of(call.key) for call in calls_of(path)])
        except InteralignError:
            shown = traceback.format_exc()
    assert f"Bearer {KEY}" in server.headers[0]
    assert shown
    assert KEY not in shown + caplog.text + "".join(capfd.readouterr())
    holding = [file.name for file in tmp_path.rglob("*") if KEY.encode() in file.read_bytes()]
    assert (path.exists(), holding) == (True, [])


@pytest.mark.parametrize(
    ("plan", "code"), [("in a refused key", 3), ("in a redirection", 3), ("in a refused request", 1)]
)
def test_the_command_says_the_key_on_no_stream_even_with_debug(plan: str, code: int, forks, tmp_path: Path) -> None:
    with fault_server.serving(KEY_LEAKS[plan]) as server:
        shape = ("--trees", "1", "--turns", "1", "--candidate", "openai:m", "--debug")
        words = ("simulate", "run.db", "--base-url", server.url, *shape)
        ended = forks.run(tmp_path, *words, env={"OPENAI_API_KEY": KEY})
    assert f"Bearer {KEY}" in server.headers[0]
    assert ended.code == code
    assert server.url in ended.err
    assert KEY not in ended.out + ended.err
    assert [file.name for file in tmp_path.rglob("*") if KEY.encode() in file.read_bytes()] == []


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://127.0.0.1/v1",
        "http://",
        "http://user:secret@127.0.0.1/v1",
        "http://127.0.0.1:x/v1",
        "http://a..b/v1",
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_starts(url: str, tmp_path: Path) -> None:
    came = run(tmp_path / "run.db", url)
    assert came.exit == 2
    assert "secret" not in came.said
    assert not (tmp_path / "run.db").exists()


def test_a_model_that_stopped_sends_nothing_any_more(tmp_path: Path) -> None:
    async def ask_twice(url: str) -> list[str]:
        model = openai_model("openai:m", ia.Runtime(base_url=url))
        said = []
        for _ in range(2):
            with pytest.raises(ia.StopError) as error:
                await model([ia.Message(role="user", content="Hi.")], ia.Parameters(), 0)
            said.append(str(error.value))
        await model.close()
        return said

    with fault_server.serving(planned({"always": {"status": 401, "text": ""}})) as server:
        first, second = asyncio.run(ask_twice(server.url))
        assert first == second
        assert len(server.asked) == 1


# Several servers


def test_two_servers_share_the_calls_and_one_that_goes_away_is_replaced_by_the_other(tmp_path: Path) -> None:
    leaving = planned({"first": [{}, {}, {"down": 60}]})
    with fault_server.serving(leaving) as first, fault_server.serving() as second:
        assert run(tmp_path / "run.db", (first.url, second.url), trees=8, turns=2, deadline=10) == Came(0, "", 0)
        # The third request takes the first server down; with 4 in flight at most three more had already reached it.
        assert 3 <= len(first.asked) <= 6
        # 32 calls, two of them, or some that were in flight, answered by the first.
        assert 27 <= len(second.asked) <= 30
    with fault_server.serving() as server:
        assert run(tmp_path / "calm.db", server.url, trees=8, turns=2) == Came(0, "", 0)
    assert data_of(tmp_path / "run.db") == data_of(tmp_path / "calm.db")


def test_a_server_that_answers_every_request_with_an_error_is_replaced_by_the_other(tmp_path: Path) -> None:
    broken = planned({"always": {"status": 500, "text": "out of order"}})
    with fault_server.serving(broken) as first, fault_server.serving() as second:
        # One call at a time: the broken server, which fails at once, is always the one with the least to do.
        assert run(tmp_path / "run.db", (first.url, second.url), trees=3, concurrency=1) == Came(0, "", 0)
        assert len(second.asked) == 6
        assert len(first.asked) <= 3


def test_a_server_that_asks_for_an_hour_beside_one_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    told: Step = {"status": 429, "headers": {"Retry-After": "3600"}, "text": "come back later"}
    with fault_server.serving(planned({"always": told})) as server:
        gone = f"http://127.0.0.1:{fault_server.free_port()}/v1"
        came = run(tmp_path / "run.db", (server.url, gone), deadline=1)
    assert (came.exit, came.failed) == (3, 0), came.said


def test_an_answer_with_another_status_of_success_is_read_too(tmp_path: Path) -> None:
    with fault_server.serving(lambda body: {"status": 201}) as server:
        assert run(tmp_path / "run.db", server.url) == Came(0, "", 0)


def test_slow_replies_of_one_role_are_not_given_up_because_another_role_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interalign.models.governor._LEAST_TIMEOUT", 0.2)
    with fault_server.serving(lambda body: {"delay": 0.8 if body["model"] == "slow" else 0.0}) as server:
        talk = {"user": "openai:quick", "candidate": "openai:slow", "trees": 24}
        came = run(tmp_path / "run.db", server.url, deadline=20, concurrency=24, **talk)
    assert came == Came(0, "", 0)
    assert Counter(body["model"] for body in server.asked) == {"quick": 24, "slow": 48}  # nothing is paid for twice


def test_a_role_may_have_a_server_of_its_own_which_is_no_part_of_what_the_run_is(tmp_path: Path) -> None:
    judging: Plan = lambda body: {"message": {"content": "Verdict: A"}}  # noqa: E731
    path = tmp_path / "run.db"
    with fault_server.serving() as one, fault_server.serving(judging) as other:
        models = {"candidate": f"openai:m@{one.url}", "judge": f"openai:j@{other.url}"}
        assert run(path, None, **models) == Came(0, "", 0)
        assert {body["model"] for body in one.asked} == {"m"}
        assert {body["model"] for body in other.asked} == {"j"}
    with ia.open_run(path) as run_file:
        assert run_file.judges() == ["openai:j"]
        assert run_file.run is not None
        assert "http" not in json.dumps(run_file.run.identity)
    with fault_server.serving() as server:
        assert run(path, server.url, trees=3, judge="openai:j") == Came(0, "", 0)
        assert {body["model"] for body in server.asked} == {"m", "j"}


def test_one_model_at_two_addresses_is_refused(tmp_path: Path) -> None:
    models = {"candidate": "openai:m@http://127.0.0.1:1/v1", "judge": "openai:m@http://127.0.0.1:2/v1"}
    came = run(tmp_path / "run.db", None, **models)
    assert (came.exit, "openai:m is asked for at two addresses" in came.said) == (2, True)
    assert not (tmp_path / "run.db").exists()


def test_the_command_takes_several_servers(cli) -> None:
    with fault_server.serving() as one, fault_server.serving() as other:
        shape = ("--trees", "4", "--turns", "2", "--candidate", "openai:m")
        ended = cli("simulate", "run.db", *shape, "--base-url", one.url, "--base-url", other.url)
        assert ended.code == 0
        assert len(one.asked) + len(other.asked) == 16
        assert min(len(one.asked), len(other.asked)) > 0


# Other providers, through LangChain


def langchain_reply(plan: Plan, deadline: float = 4.0) -> tuple[str, int]:
    """What a LangChain model answers, or the error it ends with, and how often the server was asked."""
    from langchain_openai import ChatOpenAI

    async def ask(url: str) -> str:
        # It stands for a provider that interalign has no client for.
        chat = ChatOpenAI(model="m", base_url=url, api_key=KEY, max_retries=0)
        model = LangChainModel("provider:m", chat, ia.Runtime(deadline=deadline))
        try:
            return (await model([ia.Message(role="user", content="Hi.")], ia.Parameters(), 0)).text
        except InteralignError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            await chat.root_async_client.close()

    with fault_server.serving(plan) as server:
        return asyncio.run(ask(server.url)), len(server.asked)


@pytest.mark.parametrize(
    ("server", "said", "asked"),
    [
        (
            {
                "first": [
                    {"status": 429, "headers": {"Retry-After": "0.1"}},
                    {"cut": "before headers"},
                    {"message": {"content": "Hello."}},
                ]
            },
            "Hello.",
            3,
        ),
        ({"always": {"status": 401, "text": "who?"}}, "StopError: provider refused the key; set PROVIDER_API_KEY", 1),
        ({"always": {"status": 400, "text": f"not {KEY}"}}, "FailedTreeError: provider refused a request to", 1),
        ({"always": {"message": {"content": ""}}}, "BadContentError: provider:m answered nothing", 1),
    ],
    ids=["retry", "stop", "tree", "re-ask"],
)
def test_a_provider_of_langchain_gets_the_same_answers(
    server: dict[str, Any], said: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_API_KEY", KEY)
    reply, times = langchain_reply(planned(server))
    assert KEY not in reply
    assert (reply[: len(said)], times) == (said, asked)


def test_a_provider_of_langchain_that_hangs_fails_its_tree_at_the_deadline() -> None:
    reply, _ = langchain_reply(planned({"always": {"hang": True}}), deadline=0.5)
    assert reply.startswith("FailedTreeError: provider:m did not answer within the deadline; raise --deadline")
