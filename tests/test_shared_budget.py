"""One limit for several processes: leases of a budget in a file, and what was leased by a killed one comes back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fault_server
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import interalign as ia
from interalign import api
from interalign.config import Price
from interalign.errors import StopError
from interalign.ledger.budget import Budget, Reservation
from interalign.records import Spent
from interalign.store.lease_file import LeaseFile, More
from interalign.store.lock import Lock

ASK = (ia.Message(role="user", content="Hello."),)  # at most 6 + 8 + 64 = 78 tokens
REPLY = 22
CALL = 100
"""Tokens of a call at its worst."""


class Process:
    """A budget as a process has it: with a locked run file, and what it has committed."""

    def __init__(self, folder: Path, number: int, limit: int, spent: dict[Path, int]) -> None:
        self.run = folder / f"s{number}.db"
        self._spent = spent
        self._spent.setdefault(self.run, 0)
        self._lock: Lock | None = Lock(self.run)
        self.budget = Budget(ia.Runtime(max_tokens=limit), [])
        self.budget._settled = Spent(0.0, spent[self.run])
        leases = LeaseFile(
            folder / "x.budget", self.run, max_usd=None, max_tokens=limit, spent_in=lambda run: Spent(0.0, spent[run])
        )
        self.budget.share(leases)

    async def begin(self) -> Reservation:
        return await self.budget.reserve("openai:m", ASK, ia.Parameters(max_tokens=REPLY))

    def end(self, call: Reservation, tokens: int) -> None:
        self._spent[self.run] += tokens
        self.budget.settle(call, (tokens - 1, 1))

    def kill(self) -> None:
        """What the kernel does: only the lock goes."""
        assert self._lock is not None
        self._lock.release()

    def close(self) -> None:
        self.budget.close()
        self.kill()


def test_two_processes_spend_one_budget_and_no_call_passes_it(tmp_path: Path) -> None:
    async def run() -> None:
        spent: dict[Path, int] = {}
        one, two = (Process(tmp_path, number, 10 * CALL, spent) for number in (1, 2))
        for process in (one, two, one, one, two):
            process.end(await process.begin(), CALL)
        one.close()
        for _ in range(5):
            two.end(await two.begin(), CALL)
        with pytest.raises(StopError) as stopped:
            await two.begin()
        assert str(stopped.value) == (
            "1,000 of --max-tokens 1,000 are used by all that share x.budget, and the next call could take 100; "
            "raise --max-tokens and run the same command again"
        )

    asyncio.run(run())


def test_what_others_leased_and_do_not_spend_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        spent: dict[Path, int] = {}
        one, two = (Process(tmp_path, number, 4 * CALL, spent) for number in (1, 2))
        held = [await one.begin(), await one.begin(), await one.begin()]
        two.end(await two.begin(), CALL)
        waiting = asyncio.create_task(two.begin())
        await asyncio.sleep(0)
        assert not waiting.done()
        for call in held:
            one.end(call, 10)
        one.close()
        two.end(await waiting, CALL)
        two.end(await two.begin(), CALL)
        with pytest.raises(StopError, match="330 of --max-tokens 400 are used"):
            await two.begin()

    asyncio.run(run())


def test_processes_that_all_wait_for_each_other_stop(tmp_path: Path) -> None:
    async def run() -> None:
        spent: dict[Path, int] = {}
        processes = [Process(tmp_path, number, 3 * CALL - 1, spent) for number in range(3)]
        for process in processes[:2]:
            process.end(await process.begin(), CALL)
        stops = await asyncio.gather(*(process.begin() for process in processes), return_exceptions=True)
        assert [type(stop) for stop in stops] == [StopError] * 3

    asyncio.run(run())


def test_a_killed_process_keeps_what_it_spent_and_gives_the_rest_back(tmp_path: Path) -> None:
    async def run() -> None:
        spent: dict[Path, int] = {}
        one, two = (Process(tmp_path, number, 10 * CALL, spent) for number in (1, 2))
        one.end(await one.begin(), 40)
        one.kill()
        for _ in range(9):
            two.end(await two.begin(), CALL)
        with pytest.raises(StopError, match="940 of --max-tokens"):
            await two.begin()
        two.close()
        again = Process(tmp_path, 1, 11 * CALL, spent)
        again.end(await again.begin(), CALL)

    asyncio.run(run())


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["call", "call", "call", "end", "end", "kill", "close"]),
        st.integers(2, CALL),
    ),
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(0, 20 * CALL))
def test_the_budget_is_never_passed_by_a_single_call_whatever_is_killed(steps: Any, limit: int) -> None:
    import tempfile

    async def run(folder: Path) -> None:
        spent: dict[Path, int] = {}
        processes: dict[int, Process] = {}
        outstanding: dict[int, list[Reservation]] = {number: [] for number in range(4)}
        for number, what, tokens in steps:
            if number not in processes:
                processes[number] = Process(folder, number, limit, spent)
            process = processes[number]
            if what == "call":
                with suppress(StopError, TimeoutError):
                    async with asyncio.timeout(0.01):
                        outstanding[number].append(await process.begin())
            elif what == "end" and outstanding[number]:
                process.end(outstanding[number].pop(), tokens)
            elif what in ("kill", "close"):
                outstanding[number].clear()  # their replies never came
                process.kill() if what == "kill" else process.close()
                del processes[number]
            assert sum(spent.values()) + CALL * sum(map(len, outstanding.values())) <= limit or not any(
                outstanding.values()
            )
            assert sum(spent.values()) <= limit
        for process in processes.values():
            process.kill()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


# Runs ---------------------------------------------------------------------------------------------


USED = {"usage": {"prompt_tokens": 100, "completion_tokens": 20}}


def shard(path: Path, url: str, number: int, **limits: Any) -> ia.RunSummary:
    return ia.simulate(
        path, trees=6, turns=2, candidate="openai:m", parameters={"candidate": {"max_tokens": 50}},
        shard=f"{number}/2", runtime=ia.Runtime(base_url=url, **limits),
    )  # fmt: skip


def tokens_of(*runs: Path) -> int:
    total = 0
    for run in runs:
        with ia.open_run(run) as opened:
            total += sum(used.prompt_tokens + used.completion_tokens for used in opened.usage().values())
    return total


def test_shards_in_one_folder_share_their_limit_and_a_larger_one_lets_both_go_on(tmp_path: Path) -> None:
    one, two = tmp_path / "s1.db", tmp_path / "s2.db"
    with fault_server.serving(lambda body: {"top": USED}) as server:
        with pytest.raises(StopError, match=r"of --max-tokens 4,000 are used by all that share simulation-.*\.budget"):
            shard(one, server.url, 1, max_tokens=4000)
        first = tokens_of(one)
        assert 2000 < first <= 4000
        with pytest.raises(StopError):
            shard(two, server.url, 2, max_tokens=4000)
        assert first <= tokens_of(one, two) <= 4000
        assert shard(one, server.url, 1, max_tokens=10**6).done == 3
        assert shard(two, server.url, 2, max_tokens=10**6).done == 3
    (file,) = tmp_path.glob("*.budget")
    api.merge(tmp_path / "out.db", [one, two])
    assert file.exists()


def test_another_run_in_the_folder_has_a_budget_of_its_own(tmp_path: Path) -> None:
    prices = {"openai:m": Price(prompt=10, completion=100, longest_reply=50)}
    with fault_server.serving(lambda body: {"top": USED}) as server:
        shard(tmp_path / "s1.db", server.url, 1, max_tokens=10**6)
        ia.simulate(
            tmp_path / "other.db", trees=1, turns=1, candidate="openai:m", shard="1/1",
            runtime=ia.Runtime(base_url=server.url, max_usd=1.0, prices=prices),
        )  # fmt: skip
    assert len(list(tmp_path.glob("*.budget"))) == 2


def test_a_named_file_is_shared_by_any_runs_from_any_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    limits: dict[str, Any] = {"budget": tmp_path / "all.budget", "max_tokens": 4000}
    with fault_server.serving(lambda body: {"top": USED}) as server:
        for path in (tmp_path / "a" / "run.db", tmp_path / "b" / "run.db"):
            with pytest.raises(StopError, match=r"all that share all\.budget"):
                ia.simulate(
                    path, trees=9, turns=2, candidate="openai:m", parameters={"candidate": {"max_tokens": 50}},
                    runtime=ia.Runtime(base_url=server.url, **limits),
                )  # fmt: skip
    assert 2000 < tokens_of(tmp_path / "a" / "run.db", tmp_path / "b" / "run.db") <= 4000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--budget", "x.budget"), "--budget names a file to share a limit by; give --max-usd or --max-tokens, too"),
        (("--budget", "no/x.budget", "--max-tokens", "9"), "its folder must exist"),
        (("--budget", ".", "--max-tokens", "9"), "is a folder; name a file to write"),
        (("--budget", "text", "--max-tokens", "9"), "text is no shared budget, and would be overwritten"),
        (("--budget", "run.db", "--max-tokens", "9"), "run.db"),
        (("--budget", "other.db", "--max-tokens", "9"), "other.db is no shared budget, and would be overwritten"),
    ],
)
def test_a_budget_that_cannot_be_shared_is_refused_and_nothing_is_left(
    words: tuple[str, ...], says: str, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "text").write_text("some text\n")
    ia.simulate(tmp_path / "other.db", trees=1, turns=1)
    before = (tmp_path / "other.db").read_bytes()
    ended = cli("simulate", "run.db", "--trees", "1", "--turns", "1", *words)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert says in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db", "text"]
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_lease_that_was_asked_for_in_vain_shrinks_to_what_is_taken(tmp_path: Path) -> None:
    def leases(number: int) -> LeaseFile:
        path = tmp_path / f"s{number}.db"
        locks.append(Lock(path))
        return LeaseFile(tmp_path / "b", path, max_usd=1.0, max_tokens=None, spent_in=lambda run: None)

    locks: list[Lock] = []
    one, two = leases(1), leases(2)
    one.register(Spent())
    two.register(Spent())
    amount, others, more = one.ask(Spent(), Spent(0.01, 5), waits=True)
    assert (others, more) == (Spent(), More.granted)
    assert 0.01 < amount.usd < 1.0
    assert two.ask(Spent(), Spent(1.0, 5), waits=True)[2] is More.may_come
    assert one.ask(Spent(0.1, 5), Spent(1.0, 5), waits=True)[:] == (Spent(0.1, 5), Spent(), More.never)
    assert two.ask(Spent(), Spent(0.9, 5), waits=True)[2] is More.granted
    for lock in locks:
        lock.release()
