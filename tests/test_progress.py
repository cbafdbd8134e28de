"""What is seen of a run meanwhile: on a terminal, elsewhere, by machines, and where nobody looks any more."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from terminal import terminal

import interalign as ia
from interalign.cli.live_display import Unfailing, one_line
from interalign.cli.progress import (
    RunLines,
    RunScreen,
    TrainingLines,
    json_line,
    names_failed,
    shown,
    shown_training,
    view_command,
)
from interalign.cli.throughput import Pace, StepPace
from interalign.records import RunSummary, Usage
from interalign.signals import INTERRUPTED

LOG = logging.getLogger("interalign")
USED = Usage(calls=2, prompt_tokens=1_200_000, completion_tokens=34_567, bad=0)


def stands(trees: int = 100, done: int = 0, calls: int = 0, **more) -> RunSummary:
    """A run as it may stand."""
    return RunSummary(
        **{"run": Path("r.db"), "trees": trees, "done": done, "failed": {}, "calls": calls, "replayed": 0, **more}
    )


class Clock:
    """Seconds that pass only when told so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# How fast it goes


def test_calls_per_second_are_those_of_the_last_ten_seconds() -> None:
    clock = Clock()
    pace = Pace(clock)
    for second in range(31):  # 5 calls/s in the first 20 seconds, then 40
        clock.now = 1000 + second
        pace.note(stands(calls=5 * second if second <= 20 else 100 + 40 * (second - 20)))
    assert pace.calls_per_s() == 40


def test_in_the_beginning_calls_per_second_are_those_so_far() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.calls_per_s() == 0
    pace.note(stands(calls=0))
    clock.now += 4
    pace.note(stands(calls=12))
    assert pace.calls_per_s() == 3


def test_calls_per_second_fall_while_nothing_is_heard_of_the_run() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(stands(calls=0))
    clock.now += 10
    pace.note(stands(calls=100))
    clock.now += 10
    assert pace.calls_per_s() == 5


def test_time_to_go_counts_the_trees_that_ended_since_the_start_and_not_those_done_before() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(stands(trees=100, done=80))
    clock.now += 30
    assert pace.eta() is None
    pace.note(stands(trees=100, done=84, failed={"t1": "no"}))  # 5 in 30 seconds, 15 to go
    assert pace.eta() == 90
    pace.note(stands(trees=100, done=99, failed={"t1": "no"}))
    assert pace.eta() == 0


def test_time_to_go_counts_the_turns_of_trees_that_are_not_done() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(stands(trees=10, under_way=0.0))
    clock.now += 20
    pace.note(stands(trees=10, under_way=0.5))  # sixteen trees wait for their first replies, five have a turn of ten
    assert pace.eta() == 380
    clock.now += 20
    pace.note(stands(trees=10, done=1, under_way=1.0))
    assert pace.eta() == 160


def test_what_is_replayed_from_the_record_is_no_measure_of_the_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(stands(trees=10))
    clock.now += 1
    pace.note(stands(trees=10, replayed=500, under_way=4.0))  # four trees' worth in a second, and then new calls
    assert pace.eta() is None
    clock.now += 30
    pace.note(stands(trees=10, replayed=500, done=1, under_way=4.0))
    assert pace.eta() == 150


def test_a_tree_that_failed_in_an_earlier_command_is_still_to_go() -> None:
    clock = Clock()
    pace = Pace(clock)
    before = {"t1": "no", "t2": "no"}
    pace.note(stands(trees=4, done=2, failed=before))
    clock.now += 10
    pace.note(stands(trees=4, done=3, failed={"t2": "no"}))
    assert (pace.eta(), pace.newly_failed()) == (10, {})
    pace.note(stands(trees=4, done=3, failed={"t2": "something else"}))
    assert (pace.eta(), pace.newly_failed()) == (0, {"t2": "something else"})


def test_a_training_that_goes_on_from_a_checkpoint_takes_its_pace_from_its_own_steps() -> None:
    clock = Clock()
    pace = StepPace(clock)
    clock.now += 60  # loading the model
    pace.note(501, 1000, None)
    assert pace.eta() is None
    clock.now += 10
    pace.note(511, 1000, 0.7)
    assert (pace.eta(), pace.elapsed()) == (489, 70)


# Elsewhere than on a terminal


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Its own folder, in which tree t00001 fails with `--candidate scripted_roles:fails_for_one`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "breaks").touch()
    monkeypatch.setenv("BREAKS", str(tmp_path / "breaks"))
    return tmp_path


ONE_FAILS = {"trees": 4, "turns": 1, "candidate": ["scripted_roles:fails_for_one"]}


def test_where_there_is_no_terminal_a_run_says_nothing_even_if_trees_fail(folder, capfd) -> None:
    with shown("trees") as told:
        run = ia.simulate("r.db", progress=told, **ONE_FAILS)
    assert (run.done, list(run.failed)) == (3, ["t00001"])
    assert capfd.readouterr() == ("", "")
    assert not names_failed()


def test_a_warning_is_one_plain_line_that_steers_nothing(capfd, monkeypatch) -> None:
    monkeypatch.setattr(LOG, "propagate", False)  # pytest's own report of it could not be sent between processes
    with shown("trees"):
        LOG.warning("openai:%s said\n\x1b[2Jhello [bold]you[/bold] \u202e\ud800", "m")
        LOG.info("nothing to worry about")
        logging.getLogger("somebody.else").error("not ours")
    assert capfd.readouterr() == ("", "openai:m said \ufffd[2Jhello [bold]you[/bold] \ufffd\ufffd\n")


def test_a_warning_of_a_part_of_the_package_is_shown_too(capfd) -> None:
    with shown("trees"):
        logging.getLogger("interalign.models").error("a server is gone")
    assert capfd.readouterr().err == "a server is gone\n"


def test_other_handlers_get_every_record_once_and_ours_goes_with_the_block(capfd, caplog) -> None:
    own: list[str] = []
    mine = logging.Handler()
    mine.emit = lambda record: own.append(record.getMessage())  # type: ignore[method-assign]
    LOG.addHandler(mine)
    try:
        with shown("trees"):
            LOG.warning("first")
        LOG.warning("second")
    finally:
        LOG.removeHandler(mine)
    assert own == ["first", "second"]
    assert [record.getMessage() for record in caplog.records] == ["first", "second"]
    assert capfd.readouterr().err == "first\n"
    assert (LOG.handlers, LOG.propagate) == ([], True)


def test_a_warning_is_not_said_twice_where_the_root_logger_writes_to_standard_error() -> None:
    code = """
import logging
from interalign.cli.progress import shown
logging.basicConfig(format="root: %(message)s", level=logging.INFO)
log = logging.getLogger("interalign")
with shown("trees"):
    log.warning("once")
    log.info("for the root logger only")
    logging.getLogger("other").warning("of others")
log.warning("afterwards")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, sorted(done.stderr.splitlines())) == (
        0,
        ["once", "root: afterwards", "root: for the root logger only", "root: of others"],
    )


def test_a_warning_whose_arguments_do_not_fit_ends_nothing(capfd, monkeypatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # as in production
    with shown("trees"):
        LOG.handlers[0].handle(LOG.makeRecord("interalign", logging.WARNING, "f", 1, "%d trees", ("no",), None))
        LOG.warning("and on")
    assert capfd.readouterr().err == "and on\n"


# For machines


def lines_of(err: str) -> list[dict]:
    return [json.loads(line) for line in err.splitlines()]


def test_machines_get_progress_failed_trees_and_warnings_as_json_lines(folder, capfd) -> None:
    with shown("trees", log_json=True) as told:
        run = ia.simulate("r.db", progress=told, **ONE_FAILS)
        LOG.warning("mind the %s", "gap")
    lines = lines_of(capfd.readouterr().err)

    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"]) for line in lines)
    assert [line["message"] for line in lines if line["event"] == "warning"] == ["mind the gap"]
    (failed,) = [line for line in lines if line["event"] == "failed"]
    assert (failed["tree"], failed["reason"]) == ("t00001", run.failed["t00001"])
    last = lines[-1]
    assert (last["event"], last["trees"], last["done"], last["failed"]) == ("progress", 4, 3, 1)
    assert (last["calls"], last["replayed"], last["in_flight"], last["retried"]) == (run.calls, 0, 0, 0)
    assert (last["usd"], last["eta_s"]) == (None, 0)
    assert run.calls > 0
    assert names_failed(log_json=True)


def test_the_fields_of_a_line_of_progress_are_those_that_the_page_names(capfd) -> None:
    page = (Path(__file__).parent.parent / "docs" / "running.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| `progress` |")]
    with shown("trees", log_json=True) as told:
        told(stands(trees=10, done=3, calls=7, usage={"user": USED, "judge": USED}, usd=1.25))
    (line,) = lines_of(capfd.readouterr().err)

    assert list(line) == ["time", "event", *re.findall(r"`(\w+)`", row)[1:]]
    assert (line["prompt_tokens"], line["completion_tokens"], line["usd"]) == (2_400_000, 69_134, 1.25)
    assert (line["eta_s"], line["calls_per_s"]) == (None, 0)


def test_a_run_that_is_refused_gives_machines_no_progress(folder, capfd) -> None:
    with pytest.raises(ia.ConfigError), shown("trees", log_json=True) as told:
        ia.simulate("r.db", progress=told, trees=1, candidate=["scripted_roles:nobody"])
    assert capfd.readouterr().err == ""


@given(st.text(st.characters(exclude_categories=())))
def test_a_json_line_is_one_valid_line_whatever_the_text(text: str) -> None:
    line = json_line("failed", tree=text, reason=text)
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)["reason"]
    assert found == text or re.search("[\ud800-\udfff]", text)
    found.encode()  # which half of a surrogate pair would not survive


def test_half_of_a_surrogate_pair_becomes_the_replacement_character_for_machines() -> None:
    assert (
        json.loads(json_line("warning", message="one \ud800 two \udc00\x00"))["message"] == "one \ufffd two \ufffd\x00"
    )


@given(st.text(st.characters(exclude_categories=())))
@example("\ud800\x00\x1b\x9b\u2028\u202e\ufeff")
def test_a_line_for_a_terminal_is_one_line_of_printable_text(text: str) -> None:
    assert one_line(text).isprintable()


def test_a_line_for_a_terminal_is_cut() -> None:
    assert one_line("x" * 500) == "x" * 500
    assert one_line("x" * 501) == "x" * 500 + " ..."


# On a terminal


def test_a_terminal_shows_how_the_run_stands_in_two_lines_of_80_columns(monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("conversations") as told:
        seen.look()
        more = {"calls": 0, "in_flight": 64, "retried": 1203, "usage": {"user": USED}, "usd": 1234.5}
        told(stands(trees=100_000, done=12_345, failed={"t1": "before"}, **more))
    first, second = seen.screen()

    assert re.fullmatch(r"conversations  [━╸╺]{10,}  12,345/100,000  1 failed  \d+:\d\d:\d\d  ETA -", first)
    assert second == "0.0 calls/s  64 in flight  1,203 retries  1.2M tokens  $1,234.50"
    assert len(first) <= 80


def test_a_narrow_terminal_gets_more_and_shorter_lines(monkeypatch) -> None:
    with terminal(monkeypatch, columns=40) as seen, shown("trees") as told:
        seen.look()
        told(stands(trees=100, done=50, in_flight=3, usage={"user": USED}))
    what, bar, counted, times, *facts = seen.screen()

    assert (what, counted) == ("trees", "50/100")
    assert re.fullmatch(r"[━╸╺]{40}", bar)
    assert re.fullmatch(r"\d+:\d\d:\d\d  ETA -", times)
    assert " ".join(" ".join(facts).split()) == "0.0 calls/s 3 in flight 0 retries 1.2M tokens"


def test_events_stay_above_the_display_and_a_failed_tree_is_said_once(folder, monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("trees") as told:
        seen.look()
        run = ia.simulate("r.db", progress=told, **ONE_FAILS)
        LOG.warning("a server asks everybody to wait")
        assert names_failed()
    *events, bar, _ = seen.screen()

    assert "a server asks everybody to wait" in events
    failed = " ".join(line for line in events if line != "a server asks everybody to wait")
    assert failed.split() == f"failed: t00001: {run.failed['t00001']}".split()
    assert re.match(r"trees  ━+  3/4  1 failed  \d+:\d\d:\d\d  ETA 0:00:00$", bar)


def test_a_failed_tree_is_named_once_however_often_the_display_is_drawn(monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("trees") as told:
        seen.look()
        told(stands())
        told(stands(failed={"t1": "no"}))
        while seen.raw.count(b"calls/s") < 3:
            time.sleep(0.01)
    assert [line for line in seen.screen() if "t1" in line] == ["failed: t1: no"]


def test_of_many_failed_trees_twenty_are_named_and_the_rest_counted(monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("trees") as told:
        seen.look()
        told(stands(trees=100))
        told(stands(trees=100, failed={f"t{number}": "no" for number in range(23)}))

    assert seen.screen()[:-2] == [*(f"failed: t{number}: no" for number in range(20)), "failed: 3 more"]


def test_a_stop_is_said_once_on_a_terminal_and_not_to_who_pressed_the_keys_and_was_told_so(monkeypatch) -> None:
    for reason, said in (("no quota", ["stopping: calls in flight get 10 s to finish"]), (INTERRUPTED, [])):
        with terminal(monkeypatch) as seen, shown("trees") as told:
            seen.look()
            told(stands())
            told(stands(stopping=reason))
            told(stands(stopping=reason))
        assert seen.screen()[:-2] == said


def test_a_stop_is_one_event_for_machines_and_nothing_in_a_log_file(capfd) -> None:
    for log_json in (True, False):
        with shown("trees", log_json=log_json) as told:
            told(stands())
            told(stands(stopping="no quota"))
            told(stands(stopping="no quota"))
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (stopping,) = [event for event in events if event["event"] != "progress"]
    assert (list(stopping), stopping["event"], stopping["reason"]) == (
        ["time", "event", "reason"],
        "stopping",
        "no quota",
    )


def test_what_a_server_says_never_steers_the_terminal(monkeypatch) -> None:
    nasty = "\x1b[2J\x1b]0;title\x07 \x9b31m [red]red[/red]\r\nnext"
    with terminal(monkeypatch) as seen, shown("trees") as told:
        seen.look()
        told(stands())
        told(stands(failed={"t1": nasty}))
        LOG.warning(nasty)
    shown_as = "\ufffd[2J\ufffd]0;title\ufffd \ufffd31m [red]red[/red] next"

    assert sorted(seen.screen()[:2]) == sorted([shown_as, f"failed: t1: {shown_as}"])
    assert all(byte not in seen.raw for byte in (b"\x1b[2J", b"\x1b]", b"\x07", "\x9b".encode()))


def test_a_run_that_is_refused_leaves_nothing_on_the_terminal(folder, monkeypatch) -> None:
    with terminal(monkeypatch) as seen:
        seen.look()
        with pytest.raises(ia.ConfigError), shown("trees") as told:
            ia.simulate("r.db", progress=told, trees=1, candidate=["scripted_roles:nobody"])
    assert seen.screen() == []


def test_what_others_write_to_standard_error_stays_readable(monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("trees") as told:
        seen.look()
        told(stands())
        print("a plug-in says hello", file=sys.stderr)
    assert seen.screen()[0] == "a plug-in says hello"
    assert len(seen.screen()) == 3


def test_the_cursor_is_there_again_at_the_end(monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("trees") as told:
        seen.look()
        told(stands())
    assert seen.raw.rindex(b"\x1b[?25h") > seen.raw.rindex(b"\x1b[?25l")


# Where nobody looks


def test_a_paused_terminal_does_not_make_the_run_wait(folder, monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("trees") as told:
        for number in range(900):  # far more than a terminal holds that nobody reads
            LOG.warning("%d %s", number, "x" * 70)
        run = ia.simulate("r.db", progress=told, trees=3, turns=1)
        assert run.done == 3
        seen.look()
    assert [line.split()[0] for line in seen.screen()[:900]] == [str(number) for number in range(900)]


def test_a_terminal_that_goes_away_does_not_end_the_run(folder, monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown("trees") as told:
        seen.go_away()
        assert ia.simulate("r.db", progress=told, **ONE_FAILS).done == 3


@pytest.mark.parametrize("log_json", [False, True])
def test_a_closed_standard_error_does_not_end_the_run(folder, log_json) -> None:
    code = f"""
import logging
import interalign as ia
from interalign.cli.progress import shown
with shown("trees", log_json={log_json}) as told:
    logging.getLogger("interalign").warning("nobody reads this")
    print(ia.simulate("r.db", progress=told, trees=3, turns=1).done)
"""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writing, text=True)
    finally:
        os.close(writing)
    assert (done.returncode, done.stdout) == (0, "3\n")


# Training


def test_a_training_is_one_line_on_a_terminal(monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown_training() as told:
        seen.look()
        told(1, 1200, None)
        told(600, 1200, 0.69321)
    (line,) = seen.screen()
    assert re.fullmatch(r"steps  [━╸╺]{10,}  600/1,200  loss 0\.6932  \d+:\d\d:\d\d  ETA \d+:\d\d:\d\d", line)


def test_a_training_that_has_nothing_to_do_leaves_nothing_on_the_terminal(monkeypatch) -> None:
    with terminal(monkeypatch) as seen, shown_training():
        seen.look()
    assert seen.screen() == []


def test_a_training_writes_how_it_ended_where_there_is_no_terminal_and_nothing_if_it_never_began(capfd) -> None:
    with shown_training():
        pass
    assert capfd.readouterr() == ("", "")
    with shown_training() as told:
        told(1200, 1200, 0.5)
    assert re.fullmatch(r"step 1,200 of 1,200, loss 0\.5000, 0:00:\d\d, ETA 0:00:00\n", capfd.readouterr().err)


def test_where_there_is_no_terminal_a_training_writes_a_line_every_ten_seconds() -> None:
    clock, written = Clock(), io.StringIO()
    pace = StepPace(clock)
    lines = TrainingLines(pace, Unfailing(written))
    for step, seconds in enumerate([0, 1, 7, 3, 0, 10, 4], start=1):
        clock.now += seconds
        pace.note(step, 100, None if step == 1 else 0.5)
        lines.draw(last=False)
    lines.draw(last=True)
    assert written.getvalue().splitlines() == [
        "step 1 of 100, 0:00:00",
        "step 4 of 100, loss 0.5000, 0:00:11, ETA 0:05:52",
        "step 6 of 100, loss 0.5000, 0:00:21, ETA 0:06:34",
        "step 7 of 100, loss 0.5000, 0:00:25, ETA 0:06:27",
    ]


# The way to the viewer


def test_the_viewer_is_named_above_the_display_once_when_the_run_begins() -> None:
    written, pace = io.StringIO(), Pace(Clock())
    screen = RunScreen(Unfailing(written), "trees", pace, "`interalign view run.db` shows it")
    screen.draw(last=False)
    assert "interalign view" not in written.getvalue()
    pace.note(stands(trees=10))
    for last in (False, False, True):
        screen.draw(last=last)
    assert written.getvalue().count("`interalign view run.db` shows it") == 1


def test_the_viewer_is_named_once_where_there_is_no_terminal_and_the_run_is_a_long_one() -> None:
    clock, written = Clock(), io.StringIO()
    pace = Pace(clock)
    lines = RunLines(pace, Unfailing(written), "`interalign view run.db` shows it")
    clock.now += 30
    lines.draw(last=False)  # nothing has begun
    pace.note(stands(trees=10))
    for seconds in (-11, 1, 1):
        clock.now += seconds
        lines.draw(last=False)
        assert written.getvalue() == ("" if clock.now < 1020 else "`interalign view run.db` shows it\n")


def test_the_command_of_the_viewer_can_be_pasted_and_machines_get_it_at_the_end(forks, tmp_path) -> None:
    assert view_command(Path("my run.db")) == "interalign view 'my run.db'"
    ended = forks.run(tmp_path, "simulate", "my run.db", "--trees", "1", "--turns", "1", "--log-json")
    assert json.loads(ended.err.splitlines()[-1])["view"] == "interalign view 'my run.db'"


# The commands


def test_the_command_shows_the_run_on_a_terminal_and_names_a_failed_tree_once(tmp_path, monkeypatch) -> None:
    (tmp_path / "lost.py").write_text(
        "import interalign as ia\n"
        "async def role(ask):\n"
        "    if ask.at.tree == 't00002':\n"
        "        raise ValueError('no \\x1b[2J idea')\n"
        "    return ia.Said(text='Hello.')\n"
    )
    installed = Path(sys.executable).with_name("interalign")
    words = [installed, "simulate", "run.db", "--trees", "5", "--turns", "2", "--candidate", "lost:role"]
    with terminal(monkeypatch) as seen:
        seen.look()
        code = subprocess.run(words, cwd=tmp_path, stderr=seen.stream, env=os.environ, check=False).returncode
    lines = seen.screen()
    assert code == 1
    assert next(line for line in lines if "t00002" in line).startswith("failed: t00002: candidate 'lost:role' raised")
    assert sum("t00002" in line for line in lines) == 1
    assert any(line.startswith("trees ") and "4/5" in line and "1 failed" in line for line in lines)
    assert any("calls/s" in line and "in flight" in line for line in lines)
    assert lines[-1] == "1 trees failed; run the same command again to retry just these"
    assert b"\x1b[2J" not in seen.raw


def test_with_log_json_every_line_of_the_command_is_json_from_beginning_to_end(forks, tmp_path) -> None:
    command = partial(forks.run, tmp_path)
    ended = command("simulate", "run.db", "--trees", "3", "--turns", "2", "--log-json")
    events = [json.loads(line) for line in ended.err.splitlines()]
    assert (ended.code, ended.out, {event["event"] for event in events[:-1]}) == (0, "", {"progress"})
    assert {name: events[-1][name] for name in ("event", "trees", "done", "failed", "calls")} == {
        "event": "end", "trees": 3, "done": 3, "failed": 0, "calls": 36,
    }  # fmt: skip
    refused = command("simulate", "run.db", "--trees", "3", "--turns", "5", "--log-json")
    (event,) = [json.loads(line) for line in refused.err.splitlines()]
    assert (refused.code, event["event"], event["exit"]) == (2, "error", 2)
    assert "changed: turns 2 -> 5" in event["message"]
    for words in (["--nonsense"], ["--concurrency", "many"], ["--trees", "0"]):
        (event,) = [json.loads(line) for line in command("simulate", "r.db", "--log-json", *words).err.splitlines()]
        assert (event["event"], event["exit"]) == ("error", 2)
        assert words[0].strip("-") in event["message"]
