"""Tests are ordered by events and a clock that is passed in: none sleeps for a time or judges one that it measured."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
BY_VIRTUAL_TIME = {"test_retry.py", "test_virtual_time.py"}
"""Their sleeps take no time: they run by `virtual_time.VirtualTime`."""
MUST_WAIT = {
    "acknowledging.py Counting.__call__": "a process to be killed, which has to be at an uneven pace",
    "fault_server.py FaultServer._do": "a server that takes its time, or resets when its bytes have arrived",
    "fault_server.py FaultServer.go_down.pause": "a server that is away for a time",
    "faulty_roles.py": "roles whose fault it is to block",
    "scripted_roles.py Counted.__call__": "calls have to overtake each other in another process",
    "test_call_times.py Slow.__call__": "the duration is what the ledger puts on record",
    "test_kill.py Runner.signal_after": "a signal to another process at any moment of its work",
    "test_signals.py": "another process says nothing when the first signal has come",
    "test_stop.py test_a_local_model_in_the_middle_of_a_long_reply_ends_with_its_next_token_and_what_waits_is_not_begun"
    ".talk": "a thread decodes, and tells nobody of a token",
    "test_stop.py test_the_first_signal_ends_a_command_whose_local_model_is_in_the_middle_of_a_long_reply": "loading",
    "test_stop.py test_a_command_whose_event_loop_is_blocked_is_left_in_the_end": "a blocked loop says nothing",
}
"""Where a test waits for a time, and why."""
MEASURED = {"monotonic", "perf_counter", "process_time", "thread_time", "monotonic_ns", "perf_counter_ns"}


def called(node: ast.AST) -> str:
    """The last name of what is called here, "" for no call."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def sleeps(node: ast.AST, path: tuple[str, ...] = (), polling: bool = False) -> Iterator[tuple[str, int]]:
    """Where something sleeps for a time, by the names around it, with its line; not where a loop polls a condition."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        path, polling = (*path, node.name), False
    if isinstance(node, ast.Call) and called(node) == "sleep" and not polling:
        seconds = node.args[0] if node.args else None
        if not (isinstance(seconds, ast.Constant) and seconds.value == 0):
            yield ".".join(path), node.lineno
    for child in ast.iter_child_nodes(node):
        yield from sleeps(child, path, polling or is_poll(node))


def is_poll(node: ast.AST) -> bool:
    """A loop that ends when something has happened."""
    leaves = any(isinstance(inside, ast.Return | ast.Break | ast.Raise) for inside in ast.walk(node))
    if isinstance(node, ast.While):
        return leaves or not isinstance(node.test, ast.Constant)
    return isinstance(node, ast.For) and leaves


def judged_durations(module: ast.AST) -> list[int]:
    """Lines of assertions on a duration that the test took itself, those of a poll's own deadline left out."""
    polls = [node for node in ast.walk(module) if isinstance(node, ast.While)]
    excused = {id(inside) for poll in polls for inside in ast.walk(poll)}
    asserts = [node for node in ast.walk(module) if isinstance(node, ast.Assert) and id(node) not in excused]
    return [node.lineno for node in asserts if any(called(inside) in MEASURED for inside in ast.walk(node))]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    time.sleep(0.1)", [("f", 2)]),
        ("class A:\n    async def f(self):\n        await asyncio.sleep(pause)", [("A.f", 3)]),
        ("async def f():\n    await asyncio.sleep(0)", []),
        ("def f():\n    while not so():\n        time.sleep(0.1)", []),
        ("def f():\n    while True:\n        if so(): return\n        sleep(0.1)", []),
        ("def f():\n    while True:\n        sleep(0.1)", [("f", 3)]),
        ("def f():\n    for _ in range(9):\n        if so(): return\n        sleep(0.1)", []),
        ("def f():\n    for _ in range(9):\n        sleep(0.1)", [("f", 3)]),
        ("while so():\n    def f():\n        sleep(1)", [("f", 3)]),
        ('code = "time.sleep(9)"', []),
    ],
)
def test_a_sleep_is_found_and_a_poll_is_none(source: str, found: list[tuple[str, int]]) -> None:
    assert list(sleeps(ast.parse(source))) == found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("began = monotonic()\nassert time.monotonic() - began < 2", [2]),
        ("while not so():\n    assert monotonic() < end", []),
        ("assert perf_counter() > 1", [1]),
        ("assert clock() == 5", []),
    ],
)
def test_an_assertion_on_a_duration_is_found_and_the_deadline_of_a_poll_is_none(source: str, lines: list[int]) -> None:
    assert judged_durations(ast.parse(source)) == lines


def modules() -> dict[str, ast.Module]:
    return {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(TESTS.glob("*.py"))}


def test_only_what_must_wait_sleeps_for_a_time() -> None:
    found = {(name, *at) for name, module in modules().items() for at in sleeps(module)}
    excused = {at for at in found if at[0] in BY_VIRTUAL_TIME or at[0] in MUST_WAIT or f"{at[0]} {at[1]}" in MUST_WAIT}
    assert found - excused == set()


def test_every_place_that_must_wait_is_still_there() -> None:
    found = {(name, at[0]) for name, module in modules().items() for at in sleeps(module)}
    assert MUST_WAIT.keys() - {name for name, _ in found} - {f"{name} {at}" for name, at in found} == set()


def test_no_test_judges_a_duration_that_it_measured() -> None:
    assert {name: lines for name, module in modules().items() if (lines := judged_durations(module))} == {}
