"""On-policy rounds: each trains the model of the round before on its own replies and measures it on held-out cases."""

import json
from pathlib import Path

import pytest
from conftest import Ended
from tiny import tiny_model

from interalign.errors import ConfigError, StopError
from interalign.rounds import Round, Rounds, best, line
from interalign.store import Store

TRAINING = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "num_train_epochs": 2, "use_cpu": True}
SMALL = {
    "rounds": 2, "trees": 4, "branch": 3, "turns": 2, "limit": 10, "patience": 2, "user": "learnable_judge:user",
    "judge": "learnable_judge:Letters", "parameters": {"candidate": {"temperature": 1.0, "max_tokens": 200}},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model to begin with."""
    pytest.importorskip("torch")
    return tiny_model(tmp_path_factory.mktemp("base"), positions=2048)


@pytest.fixture
def small(base: Path, tmp_path: Path) -> dict[str, object]:
    """Settings of rounds that take seconds."""
    (tmp_path / "train.yaml").write_text("".join(f"{name}: {value}\n" for name, value in TRAINING.items()))
    return {**SMALL, "model": str(base), "train_config": str(tmp_path / "train.yaml")}


def run_all(rounds: Rounds) -> list[str]:
    """The title and the outcome of every step."""
    return [f"{step.title}: {step.run(lambda share: None)}" for step in rounds.steps()]


@pytest.mark.train
@pytest.mark.slow
def test_every_round_trains_the_model_of_the_round_before_on_its_own_replies(small, tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "out", **small)
    said = run_all(rounds)
    assert [words.split(":")[0] for words in said] == ["round 0", *["round 1"] * 3, *["round 2"] * 3]
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "round-0", "round-1", "round-2", "rounds.json",
    ]  # fmt: skip
    for number in (1, 2):
        folder = tmp_path / "out" / f"round-{number}"
        with Store.open(folder / "run.db") as run:
            assert run.run is not None
            assert run.run.identity["candidate"] == [{"name": "policy", "model": f"hf:{rounds.model(number - 1)}"}]
            assert len(list(run.judged_trees())) == 4
        assert f"Base model: `{rounds.model(number - 1)}`" in (folder / "model" / "README.md").read_text()
    results = rounds.results()
    assert [each.number for each in results] == [0, 1, 2]
    assert [each.rows > 0 for each in results] == [False, True, True]
    assert all(each.al_mean is not None and each.al_ci is not None for each in results)
    assert results[0].delta is None
    assert results[1].against == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    again = run_all(Rounds(tmp_path / "out", **small))
    assert "no new call" in again[0]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")} == before
    held = json.loads((tmp_path / "out" / "rounds.json").read_text())
    assert held["best"] == results[best(results).number].model
    assert held["stopped"]


@pytest.mark.train
@pytest.mark.slow
def test_grpo_is_scored_by_the_judge_of_the_rounds_in_a_run_file_of_the_round(small, tmp_path: Path) -> None:
    few = {"max_steps": 1, "use_cpu": True, "num_generations": 4, "max_completion_length": 8}
    (tmp_path / "grpo.yaml").write_text("".join(f"{name}: {value}\n" for name, value in few.items()))
    shorter = {"method": "grpo", "rounds": 1, "limit": 2, "trees": 2, "branch": 2}
    rounds = Rounds(tmp_path / "out", **{**small, **shorter, "train_config": str(tmp_path / "grpo.yaml")})
    said = run_all(rounds)
    assert "grpo on 4 rows, 1 steps, mean reward" in said[2]
    with Store.open(tmp_path / "out" / "round-1" / "model.db") as run:
        assert run.run is not None
        assert run.run.identity["judge"] == "learnable_judge:Letters"
        assert sum(len(tree.scores) for tree in run.judged_trees()) == 8


@pytest.mark.train
@pytest.mark.slow
def test_best_of_n_learns_the_preferred_reply_alone(small, tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "out", **{**small, "method": "sft", "rounds": 1})
    run_all(rounds)
    rows = [json.loads(row) for row in (tmp_path / "out" / "round-1" / "rows.jsonl").read_text().splitlines()]
    assert rows
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
    assert rounds.results()[1].rows == len(rows)


@pytest.mark.train
def test_a_folder_belongs_to_its_settings(small, tmp_path: Path) -> None:
    next(Rounds(tmp_path / "out", **small).steps())
    with pytest.raises(ConfigError, match=r"was begun with other settings \(trees\)"):
        Rounds(tmp_path / "out", **{**small, "trees": 5})
    (tmp_path / "train.yaml").write_text("learning_rate: 0.1\n")
    with pytest.raises(ConfigError, match=r"other settings \(train_config\)"):
        Rounds(tmp_path / "out", **small)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"candidate": "world:average"}, "candidate cannot be set: it is the model of the round before"),
        ({"branch": 1}, "--branch: must be at least 2, got 1"),
        ({"method": "ppo"}, "--method: "),
        ({"method": "rm"}, "--method rm makes no model that talks"),
        ({"rouds": 3}, "rouds: "),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_made(wrong, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        Rounds(tmp_path / "out", **{"model": "some/model", **wrong})
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_model_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model: must be given; use --model"):
        Rounds(tmp_path / "out")


@pytest.mark.train
def test_personas_of_the_held_out_cases_are_not_trained_on(small, tmp_path: Path) -> None:
    people = [{"id": str(number), "profile": [f"Has {number} cats."], "personality": "Brief."} for number in range(4)]
    (tmp_path / "all.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in people))
    (tmp_path / "some.jsonl").write_text(json.dumps(people[3]) + "\n")
    settings = {**small, "personas": str(tmp_path / "all.jsonl"), "cases": str(tmp_path / "some.jsonl")}
    steps = Rounds(tmp_path / "out", **settings).steps()
    next(steps)
    with pytest.raises(ConfigError, match="1 of the personas to train on are among the held-out cases"):
        next(steps).run(lambda share: None)


@pytest.mark.train
def test_every_round_meets_other_personas_of_a_file(small, tmp_path: Path) -> None:
    people = [{"id": str(number), "profile": [f"Has {number} cats."], "personality": "Brief."} for number in range(6)]
    (tmp_path / "all.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in people))
    rounds = Rounds(tmp_path / "out", **{**small, "personas": str(tmp_path / "all.jsonl")})
    (tmp_path / "out").mkdir()
    met = [
        [json.loads(row)["id"] for row in Path(rounds._personas(number)).read_text().splitlines()] for number in (1, 2)
    ]
    assert met == [["0", "1", "2", "3"], ["4", "5", "0", "1"]]


@pytest.mark.train
def test_a_round_without_a_preference_stops_with_the_reason(small, tmp_path: Path) -> None:
    steps = Rounds(tmp_path / "out", **{**small, "judge": "faulty_roles:SameScore"}).steps()
    next(steps)
    with pytest.raises(StopError, match="round 1 brought no row to train on: "):
        next(steps).run(lambda share: None)


def outcome(number: int, delta: tuple[float, float] | None) -> Round:
    """A round whose rise over the best before it has this interval."""
    middle = None if delta is None else sum(delta) / 2
    return Round(number, f"m{number}", 1, 3.0, (2.9, 3.1), 0.1, (0.0, 0.2), number - 1, middle, delta)


def test_the_best_round_is_the_last_that_rose_above_the_best_before_it() -> None:
    start = outcome(0, None)
    assert best([start]).number == 0
    assert best([start, outcome(1, (0.1, 0.3)), outcome(2, (-0.1, 0.2))]).number == 1
    assert best([start, outcome(1, (-0.3, -0.1)), outcome(2, (0.1, 0.4))]).number == 2
    assert best([start, outcome(1, (-0.3, 0.1))]).number == 0


def test_a_round_in_one_line_says_its_figures_with_their_intervals() -> None:
    assert line(outcome(2, (0.1, 0.3))) == (
        "mean AL 3.00 [2.90, 3.10], IR 0.100 [0.000, 0.200], against round 1 +0.20 [+0.10, +0.30]"
    )


@pytest.mark.train
@pytest.mark.slow
def test_the_command_prints_the_rounds_and_names_the_best_model(small, tmp_path: Path, cli) -> None:
    (tmp_path / "rounds.yaml").write_text(json.dumps({name: small[name] for name in small if name != "model"}))
    ended: Ended = cli("rounds", "out", "--model", str(small["model"]), "--config", "rounds.yaml", "--rounds", "1")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [words.split(":")[0] for words in lines] == ["round 0", "round 1"]
    assert "the best model is " in ended.err.splitlines()[-1]
    again = cli("rounds", "out", "--model", str(small["model"]), "--config", "rounds.yaml", "--rounds", "1", "--json")
    assert json.loads(again.out)["rounds"][1]["number"] == 1


@pytest.mark.train
@pytest.mark.slow
def test_a_limit_of_tokens_holds_for_all_runs_of_the_folder_together(small, tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "out", **small, max_tokens=6000)
    with pytest.raises(StopError, match="max-tokens"):
        run_all(rounds)
    used = 0
    for run in (tmp_path / "out").glob("round-*/*.db"):
        with Store.open(run) as store:
            used += sum(each.prompt_tokens + each.completion_tokens for each in store.usage().values())
    assert 0 < used <= 6000
    assert (tmp_path / "out" / "round-1" / "run.db").exists()
