"""Budgets: what a call can cost at its worst is set aside before it is made, so that no limit is ever passed."""

import asyncio
from pathlib import Path
from typing import Any

import fault_server
import pytest
from hypothesis import given
from hypothesis import strategies as st

import interalign as ia
from interalign import api
from interalign.config import Price
from interalign.errors import ConfigError, StopError
from interalign.ledger.budget import Budget, most_prompt_tokens, read_prices
from interalign.records import Usage

USED = {"usage": {"prompt_tokens": 100, "completion_tokens": 20}}
SHAPE = {"trees": 3, "turns": 2, "candidate": "openai:m"}
PRICES = {"openai:m": Price(prompt=10, completion=100, longest_reply=50)}
ASK = (ia.Message(role="user", content="Hello."),)  # at most 6 + 8 + 64 tokens


def run(path: Path, url: str, **limits: Any) -> ia.RunSummary:
    parameters = {"candidate": {"max_tokens": 50}}
    return ia.simulate(path, parameters=parameters, runtime=ia.Runtime(base_url=url, **limits), **SHAPE)


def budget(used: Usage | None = None, **limits: Any) -> Budget:
    return Budget(ia.Runtime(prices=PRICES, **limits), [("openai:m", used)] if used else [])


# A run


def test_a_run_stops_before_the_call_that_could_pass_its_tokens_and_goes_on_with_more(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with fault_server.serving(lambda body: {"top": USED}) as server:
        with pytest.raises(StopError, match=r"of --max-tokens 4,000 are used, and the next call could take"):
            run(path, server.url, max_tokens=4000)
        with ia.open_run(path) as stopped:
            tokens = sum(used.prompt_tokens + used.completion_tokens for used in stopped.usage().values())
        assert 2000 < tokens <= 4000
        asked = len(server.asked)
        assert 0 < asked < 12
        summary = run(path, server.url)
        assert (summary.done, summary.failed) == (3, {})
        assert len(server.asked) == 12  # 3 trees, 2 turns, 2 replies: nothing was paid for twice


def test_a_run_stops_before_the_call_that_could_pass_its_dollars(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with fault_server.serving(lambda body: {"top": USED}) as server:
        with pytest.raises(StopError, match=r"of --max-usd 0.03 are spent, .*; raise --max-usd and run"):
            run(path, server.url, max_usd=0.03, prices=PRICES)
        assert 0 < len(server.asked) < 10
        assert len(server.asked) * (100 * 10 + 20 * 100) / 1e6 <= 0.03
        summary = run(path, server.url, max_usd=1.0, prices=PRICES)
    assert summary.usd == pytest.approx(12 * 0.003)
    assert summary.usage["candidate"].usd == pytest.approx(12 * 0.003)
    assert summary.usage["user"].usd == 0.0


def test_what_is_on_record_counts_so_the_same_limit_stops_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with fault_server.serving(lambda body: {"top": USED}) as server:
        for _ in range(2):
            with pytest.raises(StopError):
                run(path, server.url, max_usd=0.02, prices=PRICES)
        assert len(server.asked) * 0.003 <= 0.02


def test_a_reply_that_could_not_be_used_is_paid_for(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    refused: fault_server.Step = {"message": {"refusal": "I cannot."}, "top": USED}
    with fault_server.serving(lambda body: refused) as server:
        summary = run(path, server.url, prices=PRICES)
    assert summary.usage["candidate"].bad == len(server.asked)
    assert summary.usd == pytest.approx(len(server.asked) * 0.003)


def test_a_server_that_counts_no_tokens_cannot_make_a_budget_endless(tmp_path: Path) -> None:
    with fault_server.serving(lambda body: {"top": {"usage": None}}) as server:
        with pytest.raises(StopError, match="--max-tokens"):
            run(tmp_path / "run.db", server.url, max_tokens=3000)
        asked = len(server.asked)
        assert 0 < asked < 12
        # Nor can the same command, made again and again, pass its limit a little further each time.
        with pytest.raises(StopError, match="--max-tokens"):
            run(tmp_path / "run.db", server.url, max_tokens=3000)
        assert len(server.asked) == asked


def test_a_model_without_a_price_is_refused_by_name_before_anything_starts(tmp_path: Path) -> None:
    with fault_server.serving() as server:
        with pytest.raises(ConfigError, match=r"--max-usd needs the price of openai:m; give a table with --prices"):
            run(tmp_path / "run.db", server.url, max_usd=5.0)
        assert server.asked == []
    assert not (tmp_path / "run.db").exists()


def test_what_a_server_does_not_count_is_not_said_to_cost_nothing(cli) -> None:
    Path("prices.yaml").write_text("openai:m: {prompt: 10, completion: 100}\n")
    with fault_server.serving(lambda body: {"top": {"usage": None}}) as server:
        talk = ("--trees", "1", "--turns", "1", "--candidate", "openai:m", "--base-url", server.url)
        ended = cli("simulate", "run.db", *talk, "--prices", "prices.yaml")
    assert "$0.0000 spent on all calls in the file (candidate not counted, inducer $0.0000" in ended.err
    assert "Calls of the candidate: 2 (0 tokens in, 0 out)" in cli("report", "run.db", "--prices", "prices.yaml").out


def test_a_model_that_was_asked_earlier_needs_a_price_too_and_hides_no_cost_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with fault_server.serving(lambda body: {"message": {"content": "Verdict: A"}, "top": USED}) as server:
        first = run(path, server.url, prices=PRICES)
        assert api.judge(path, judge="openai:j", runtime=ia.Runtime(base_url=server.url)).done == 3
        again = run(path, server.url, prices=PRICES)
        assert (again.usd, again.calls) == (first.usd, 0)
        more = {**SHAPE, "judge": "openai:m", "trees": 3}
        ia.simulate(tmp_path / "other.db", runtime=ia.Runtime(base_url=server.url), **more)
        api.judge(tmp_path / "other.db", judge="openai:j", runtime=ia.Runtime(base_url=server.url))
        known = ia.simulate(tmp_path / "other.db", runtime=ia.Runtime(base_url=server.url, prices=PRICES), **more)
        assert known.usd == pytest.approx(24 * 0.003)  # 12 replies and 12 verdicts by openai:m; openai:j has no price
        with pytest.raises(ConfigError, match=r"--max-usd needs the price of openai:j; the table has openai:m: add it"):
            run(path, server.url, prices=PRICES, max_usd=1.0)


def test_a_plug_in_counts_nothing_and_needs_no_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALL_LOG", str(tmp_path / "log"))  # for the scripted roles
    runtime = ia.Runtime(max_usd=0.0)
    assert (
        ia.simulate(tmp_path / "r.db", trees=1, turns=1, candidate="scripted_roles:candidate", runtime=runtime).done
        == 1
    )
    with pytest.raises(ConfigError, match=r"--max-usd needs the price of openai:m; the table has m: add it"):
        ia.simulate(
            tmp_path / "s.db",
            candidate="openai:m",
            runtime=runtime.model_copy(update={"prices": (("m", Price(prompt=0, completion=0)),)}),
        )


def test_the_world_and_local_weights_cost_nothing(tmp_path: Path) -> None:
    summary = ia.simulate(tmp_path / "run.db", trees=1, turns=1, runtime=ia.Runtime(max_usd=0.0))
    assert summary.done == 1
    assert summary.usd is None


def test_the_command_takes_limits_and_prices_from_options_and_from_the_configuration_file(cli) -> None:
    Path("prices.yaml").write_text("openai:m: {prompt: 10, completion: 100, longest_reply: 50}\n")
    Path("run.yaml").write_text("candidate: openai:m\ntrees: 3\nturns: 2\nmax_usd: 0.03\nprices: prices.yaml\n")
    with fault_server.serving(lambda body: {"top": USED}) as server:
        stopped = cli("simulate", "run.db", "--config", "run.yaml", "--base-url", server.url)
        assert (stopped.code, stopped.out) == (3, "")
        assert stopped.err.startswith("interalign: $0.0")
        assert stopped.err.count("\n") == 1
        ended = cli("simulate", "run.db", "--config", "run.yaml", "--base-url", server.url, "--max-usd", "1")
        assert ended.code == 0
        assert "$0.0360 spent on all calls in the file (candidate $0.0360, inducer $0.0000" in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openai:m: 3\n", "prices.yaml: openai:m: "),
        ("openai:m: {prompt: -1, completion: 2}\n", "prices.yaml: openai:m.prompt: "),
        ("openai:m: {prompt: 1}\n", "prices.yaml: openai:m.completion: must be given"),
        ("- a\n", "prices.yaml: expected `name: value` lines"),
    ],
)
def test_a_price_table_that_cannot_be_read_is_named_with_its_entry(text: str, said: str, cli) -> None:
    Path("prices.yaml").write_text(text)
    ended = cli("simulate", "run.db", "--prices", "prices.yaml", "--trees", "1")
    assert ended.code == 2
    assert ended.err.startswith(f"interalign: {said}")
    assert not Path("run.db").exists()


# A budget by itself


def test_a_call_that_does_not_fit_beside_those_on_their_way_waits_until_they_settle() -> None:
    async def talk() -> list[str]:
        limited, seen = budget(max_tokens=200), []
        first = await limited.reserve("openai:m", ASK, ia.Parameters())  # 78 + 50
        waiting = asyncio.create_task(limited.reserve("openai:m", ASK, ia.Parameters()))
        await asyncio.sleep(0)
        seen.append(f"waits {not waiting.done()}")
        limited.settle(first, (20, 5))
        await waiting
        limited.settle(waiting.result(), (20, 5))
        with pytest.raises(StopError, match="50 of --max-tokens 160"):
            await budget(Usage(calls=2, prompt_tokens=40, completion_tokens=10, bad=0), max_tokens=160).reserve(
                "openai:m", ASK, ia.Parameters()
            )
        return seen

    assert asyncio.run(talk()) == ["waits True"]


def test_what_is_set_aside_grows_with_the_longest_reply_of_a_model_that_has_no_bound() -> None:
    async def set_aside(**parameters: int) -> int:
        reserved = await budget.reserve("openai:m", [], ia.Parameters(**parameters))
        budget.settle(reserved, None)
        return reserved.completion_tokens

    budget = Budget(ia.Runtime(max_tokens=1_000_000), [])

    async def run() -> list[int]:
        seen = [await set_aside()]
        budget.settle(await budget.reserve("openai:m", [], ia.Parameters()), (10, 30_000))
        return [*seen, await set_aside(), await set_aside(max_tokens=50)]

    assert asyncio.run(run()) == [4096, 30_000, 50]


def test_a_call_that_brought_no_reply_costs_nothing() -> None:
    async def talk() -> None:
        limited = budget(max_tokens=130)
        for _ in range(3):
            limited.settle(await limited.reserve("openai:m", ASK, ia.Parameters()), None)

    asyncio.run(talk())


@given(
    limit=st.integers(0, 2000),
    calls=st.lists(st.tuples(st.integers(1, 78), st.integers(1, 50), st.integers(0, 5)), max_size=40),
    slots=st.integers(1, 8),
)
def test_whatever_calls_take_and_however_they_overlap_no_limit_is_passed(
    limit: int, calls: list[tuple[int, int, int]], slots: int
) -> None:
    spent, tokens_over = [0], []

    async def one(limited: Budget, room: asyncio.Semaphore, call: tuple[int, int, int]) -> None:
        async with room:
            reserved = await limited.reserve("openai:m", ASK, ia.Parameters())
            for _ in range(call[2]):
                await asyncio.sleep(0)
            spent[0] += call[0] + call[1]
            tokens_over.append(spent[0] > limit)
            limited.settle(reserved, call[:2])

    async def talk() -> list[Any]:
        limited, room = budget(max_tokens=limit), asyncio.Semaphore(slots)
        return await asyncio.gather(*(one(limited, room, call) for call in calls), return_exceptions=True)

    ended = asyncio.run(talk())
    assert not any(tokens_over)
    assert all(error is None or isinstance(error, StopError) for error in ended)
    if sum(a + b for a, b, _ in calls) + 128 <= limit:
        assert ended == [None] * len(calls)


def test_the_worst_case_of_a_prompt_counts_every_byte() -> None:
    assert most_prompt_tokens(ASK) == 6 + 8 + 64
    assert most_prompt_tokens((ia.Message(role="user", content="\u00e9\U0001f600\ud800"),)) == 2 + 4 + 1 + 8 + 64


def test_prices_are_read_by_model(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("openai:a: {prompt: 0.15, completion: 0.6}\nopenai:b: {prompt: 0, completion: 0}\n")
    assert read_prices(path) == (
        ("openai:a", Price(prompt=0.15, completion=0.6)),
        ("openai:b", Price(prompt=0, completion=0)),
    )
