"""`interalign roles probe`: what it finds in a model that plays its seats, and in one that does not."""

import json
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import fault_server
import pytest

from interalign.run.probe import LIMITS, SeatFigures, known_pairs, personas

BETTER = {pair.better for pair in known_pairs()}
NUMBERS = count()


def seat_of(body: dict[str, Any]) -> str:
    last = body["messages"][-1]["content"]
    if body["messages"][0]["role"] == "system":
        return "user"
    return "judge" if "You are a judge" in last else "inducer" if "Your notes:" in last else "candidate"


def playing(body: dict[str, Any]) -> fault_server.Step:
    """Plays every seat as it should."""
    last = body["messages"][-1]["content"]
    shown = re.search(r"Reply A:\n((?:\| .*\n)+)", last)
    first = shown[1].strip().removeprefix("| ") if shown else ""
    said = {
        "user": f"my shelf number {next(NUMBERS)} is crooked",
        "judge": f"Reasons.\nVerdict: {'A' if first in BETTER else 'B'}",
        "inducer": "The user said: " + last.partition("| User: ")[2].partition("\n")[0],
        "candidate": "What would you like to begin with?",
    }
    return {"message": {"content": said[seat_of(body)]}}


def failing(body: dict[str, Any]) -> fault_server.Step:
    """Speaks as the assistant, notes nothing, repeats the note, and prefers what is shown first."""
    last = body["messages"][-1]["content"]
    notes = " ".join(line[2:] for line in last.split("\n") if line.startswith("| "))
    said = {
        "user": "How can I help you today?",
        "judge": "Verdict: A",
        "inducer": "Nothing yet.",
        "candidate": f"I know: {notes}",
    }
    return {"message": {"content": said[seat_of(body)]}}


def probed(cli: Any, answer: Any, *options: str) -> Any:
    with fault_server.serving(answer) as server:
        return cli("roles", "probe", "openai:m", "--base-url", server.url, *options)


def test_a_model_that_plays_every_seat_is_said_to(cli) -> None:
    ended = probed(cli, playing, "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert found["model"] == "openai:m"
    assert {seat: entry["verdict"] for seat, entry in found["seats"].items()} == {
        seat: f"can play the {seat}" for seat in ("user", "inducer", "candidate", "judge")
    }
    assert {seat: entry["n"] for seat, entry in found["seats"].items()} == {
        "user": 36, "inducer": 12, "candidate": 12, "judge": 2 * len(known_pairs()),
    }  # fmt: skip
    judge = found["seats"]["judge"]["figures"]
    assert judge == {
        "readable": 1, "both orders agree": 1, "right on known pairs": 1, "first shown preferred": 0.5,
    }  # fmt: skip


def test_a_model_that_plays_none_is_told_seat_by_seat_with_the_figure_and_its_limit(cli) -> None:
    ended = probed(cli, failing)
    assert ended.code == 0
    lines = ended.out.splitlines()
    for verdict in (
        "openai:m cannot play the user: speaks as the assistant 100% (at most 25%), repeats itself 67% (at most 10%)",
        "openai:m cannot play the inducer: empty notes 100% (at most 15%), told facts noted 0% (at least 50%)",
        "openai:m cannot play the candidate: hinted replies that leak 100% (at most 5%)",
        "openai:m cannot play the judge: both orders agree 0% (at least 60%), right on known pairs 0% (at least 65%), "
        "first shown preferred 100% (at most 65%)",
    ):
        assert f"  {verdict}" in lines


def test_seats_are_asked_as_in_a_run_and_those_that_sample_several_times(cli, tmp_path) -> None:
    (tmp_path / "user.jinja").write_text("Be {{ persona.profile | quoted }}{{ persona.personality | quoted }} BEES")
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> fault_server.Step:
        asked.append(body)
        return playing(body)

    ended = probed(cli, answer, "--json", "--repeats", 2, "--prompts", tmp_path)
    assert {seat: entry["n"] for seat, entry in json.loads(ended.out)["seats"].items()} == {
        "user": 72, "inducer": 12, "candidate": 24, "judge": 2 * len(known_pairs()),
    }  # fmt: skip
    temperatures = {(seat_of(body), body["temperature"]) for body in asked}
    assert temperatures == {("user", 1.0), ("inducer", 0.0), ("candidate", 1.0), ("judge", 0.0)}
    users = [body["messages"][0]["content"] for body in asked if seat_of(body) == "user"]
    assert all("BEES" in each for each in users)


def test_prompts_that_cannot_be_filled_in_are_refused_before_anything_is_asked(cli, tmp_path) -> None:
    (tmp_path / "user.jinja").write_text("Be {{ nobody }}")
    ended = cli("roles", "probe", "openai:m", "--prompts", tmp_path, "--base-url", "http://127.0.0.1:9")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "nobody" in ended.err


def test_a_model_of_the_world_is_refused_in_one_line(cli) -> None:
    ended = cli("roles", "probe", "world:user")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "world:user understands only the world's own talk" in ended.err


def test_the_known_pairs_are_sixty_or_more_and_all_different() -> None:
    pairs = known_pairs()
    assert len(pairs) >= 60
    assert len({(pair.persona.profile, pair.message) for pair in pairs}) == len(pairs)
    assert all(pair.better != pair.worse for pair in pairs)
    assert len({persona.profile for persona in personas()}) == 12


def test_the_bench_puts_prompts_beside_each_other(tmp_path) -> None:
    (tmp_path / "user.jinja").write_text("Be {{ persona.profile | quoted }}{{ persona.personality | quoted }} BAD")

    def answer(body: dict[str, Any]) -> fault_server.Step:
        return failing(body) if "BAD" in body["messages"][0]["content"] else playing(body)

    bench = Path(__file__).parents[1] / "bench" / "roles.py"
    with fault_server.serving(answer) as server:
        words = [sys.executable, bench, "openai:m", "--base-url", server.url, "--prompts", tmp_path, "--repeats", "1"]
        done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert rows[0] == ["seat (n)", "figure", "shipped", str(tmp_path), "limit"]
    assert ["user (36)", "speaks as the assistant", "0% [0, 10]", "100% [90, 100]", "at most 25%"] in rows


@pytest.mark.parametrize(("name", "value", "misses"), [
    ("speaks as the assistant", 0.25, 0), ("speaks as the assistant", 0.26, 1), ("readable", 0.95, 0),
    ("readable", 0.94, 1), ("readable", None, 0), ("says goodbye", 1.0, 0),
])  # fmt: skip
def test_a_figure_on_its_limit_is_within_it(name: str, value: float | None, misses: int) -> None:
    assert len(SeatFigures(seat="user", n=1, figures={name: value}).misses) == misses
    assert name in LIMITS or name == "says goodbye"
