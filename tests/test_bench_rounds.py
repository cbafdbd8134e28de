"""`bench/rounds.py`: its commands are ones that `interalign` takes, its tables what the results say."""

import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from interalign.cli.app import app

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import rounds

    return rounds


def settings_of(command: list[str]) -> dict[str, Any]:
    file = next(word for option, word in pairwise(command) if option.endswith("config"))
    found: dict[str, Any] = json.loads(Path(file).read_text())
    return found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base", []),
        ("sft", []),
        ("dpo", ["rounds"]),
        ("best-of-n", ["rounds"]),
        ("grpo-0", ["simulate", "export", "train"]),
        ("grpo-2", ["simulate", "export", "train"]),
    ],
)
def test_every_arm_is_made_of_commands_that_the_command_line_takes(rounds, name: str, words, tmp_path: Path) -> None:
    arm = rounds.Arm(name, 11, tmp_path, rounds.Size())
    arm.folder.mkdir()
    made = list(rounds.commands(arm))
    assert [command[0] for command in made] == words
    known = typer.main.get_command(app).commands
    for command, *options in made:
        known[command].make_context(command, options)  # SystemExit for an option it does not know


@pytest.mark.parametrize(("ahead", "steps"), [(0, 40), (1, 20), (2, 13)])
def test_every_arm_makes_about_as_many_judges_calls(rounds, ahead: int, steps: int, tmp_path: Path) -> None:
    size = rounds.Size()
    assert size.judged == 4 * 64 * 4 * 10 == 10_240
    arm = rounds.Arm(f"grpo-{ahead}", 11, tmp_path, size)
    arm.folder.mkdir()
    *_, training = rounds.commands(arm)
    given = settings_of(training)
    assert given["max_steps"] == steps
    assert given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] == 256
    assert abs(steps * 256 * (ahead + 1) - size.judged) < 256 * (ahead + 1)


def a_line(seed: int, arm: str, *scores: str) -> dict[str, Any]:
    found = {"scores": scores, "profiles": [f"p{place // 2}" for place in range(len(scores))]}
    return {"seed": seed, "arm": arm, "judge_calls": 100, "cpu_s": seed, "t1": found, "greedy": found}


def test_levels_rates_and_paired_differences_stand_in_the_tables(rounds, capsys) -> None:
    lines = [a_line(seed, arm, *scores) for seed in (1, 2) for arm, scores in CASES.items()]
    rounds.show(lines, "t1")
    table = capsys.readouterr().out
    assert "| sft | 2.50 | 3.00 | 2.75 [2.75, 2.75] | +0.500 [+0.500, +0.500] | 2.75 2.75 | 100 | 2 | 2 | 8 |" in table
    assert "| dpo - sft | +1.00 [+1.00, +1.00] | +0.000 [+0.000, +0.000] | 2 |" in table
    assert "grpo-1" not in table


CASES = {"sft": ("23", "33", "23", "33"), "dpo": ("34", "44", "34", "44")}


def test_an_interval_widens_where_seeds_differ(rounds) -> None:
    alike = [a_line(seed, "sft", "33", "33", "33", "33") for seed in range(5)]
    apart = [*alike[:4], a_line(4, "sft", "11", "11", "11", "11")]
    narrow, wide = (rounds.mean_over_turns(rounds.curves(lines, "t1").resampled) for lines in (alike, apart))
    assert (narrow.min(), narrow.max()) == (3.0, 3.0)
    assert wide.min() < 2.3
    assert wide.max() == 3.0


def test_a_missing_score_counts_nowhere(rounds) -> None:
    of = rounds.curves([a_line(1, "sft", "5-", "35", "1-", "-3")], "t1")
    assert of.observed.tolist() == [[3.0, 4.0]]


def test_what_is_finished_is_only_read(rounds, tmp_path: Path, monkeypatch, capsys) -> None:
    lines = [a_line(seed, arm, *scores) for seed in (1, 2) for arm, scores in CASES.items()]
    (tmp_path / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    words = ["rounds.py", "--out", str(tmp_path), "--seeds", "1", "2", "--arms", "sft", "dpo"]
    monkeypatch.setattr("sys.argv", words)
    rounds.main()
    assert "greedy: temperature 0" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["results.jsonl"]
