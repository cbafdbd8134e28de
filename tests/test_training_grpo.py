"""GRPO: TRL samples replies to stored states, a judge scores them on record, and the model moves towards the scores."""

import json
import shutil
from pathlib import Path

import pytest
from calls_seen import calls_of, trees_of
from tiny import CHAT_TEMPLATE, tiny_model
from training_runs import assistant, trainer_for, user, weights, write

import interalign as ia
from interalign import api
from interalign.errors import ConfigError, DataError, StopError
from interalign.run.rewards import ScoreInThread
from interalign.training.grpo import METHOD
from interalign.training.train import train

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

QUICK = {
    "use_cpu": True,
    "learning_rate": 1e-2,
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "max_completion_length": 8,
    "mask_truncated_completions": False,  # a random model hardly ever ends a reply
    "logging_steps": 1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), positions=2048)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """A folder with a run of the world and its states, and the card that names the run."""
    folder = tmp_path_factory.mktemp("simulated")
    ia.simulate(folder / "run.db", trees=3, turns=2)
    assert ia.export(folder / "run.db", folder / "rows.jsonl", format="grpo") == 6
    return folder


@pytest.fixture
def data(simulated, tmp_path) -> Path:
    return shutil.copytree(simulated, tmp_path / "data") / "rows.jsonl"


def logged(out: Path, name: str) -> list[float]:
    log = [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
    return [entry[name] for entry in log if name in entry]


def test_replies_come_to_be_what_the_judge_likes(base, data, tmp_path):
    config = {**QUICK, "max_steps": 10, "num_generations": 8, "per_device_train_batch_size": 16}
    out = tmp_path / "out"
    result = api.train("grpo", model=str(base), data=data, out=out, config=config, judge="learnable_judge:Letters")
    assert (result.method, result.rows, result.steps, result.status) == ("grpo", 6, 10, "trained")
    rewards = logged(out, "reward")
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.5
    card = (out / "README.md").read_text()
    assert "group-relative policy optimisation (GRPO) on stored states" in card
    assert "`learnable_judge:Letters`" in card


def test_an_adapter_learns_too_and_the_merged_weights_are_what_it_makes_of_them(base, data, tmp_path):
    given = {"config": {**QUICK, "max_steps": 1}, "lora": True, "judge": "learnable_judge:Letters"}
    api.train("grpo", model=str(base), data=data, out=tmp_path / "out", **given)
    before, after = weights(base), weights(tmp_path / "out")
    assert not torch.equal(before["model.layers.0.mlp.up_proj.weight"], after["model.layers.0.mlp.up_proj.weight"])
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


def test_the_judge_scores_every_reply_once_in_a_run_file_beside_the_folder(base, data, tmp_path):
    out = tmp_path / "out"
    api.train("grpo", model=str(base), data=data, out=out, config={**QUICK, "max_steps": 3}, judge="world:judge")
    trees = trees_of(tmp_path / "out.db")
    assert [tree.tree.id[:11] for tree in trees] == [f"s00000{step}-00{place}" for step in range(3) for place in (0, 1)]
    assert sum(len(tree.scores) for tree in trees) == len(calls_of(tmp_path / "out.db", "judge")) == 3 * 8
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for tree in trees:
        state = tree.tree.turns()[-1]
        assert any(row["prompt"][-1]["content"] == state.text and row["persona"] == tree.tree.persona for row in rows)
        assert {node.by for node in tree.tree.children(state.id)} <= {"policy"}
    means = [
        sum(score.value for tree in trees[start : start + 2] for score in tree.scores) / 8 for start in range(0, 6, 2)
    ]
    assert logged(out, "reward") == pytest.approx(means)


def test_a_killed_run_ends_as_an_unbroken_one_and_pays_for_no_score_twice(base, data, tmp_path):
    config = {**QUICK, "max_steps": 3, "save_steps": 1}
    given = {"model": str(base), "data": data, "config": config, "judge": "world:judge"}
    api.train("grpo", out=tmp_path / "whole", **given)

    def stop(done, total, loss):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.train("grpo", out=tmp_path / "out", progress=stop, **given)
    assert api.train("grpo", out=tmp_path / "out", **given).status == "resumed"
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert len(calls_of(tmp_path / "out.db")) == len(calls_of(tmp_path / "whole.db")) == 3 * 8
    assert api.train("grpo", out=tmp_path / "out", **given).status == "finished before"
    with pytest.raises(ConfigError, match="was begun with other reward"):
        api.train("grpo", out=tmp_path / "out", **{**given, "judge": "learnable_judge:Letters"})


def test_a_missing_score_drops_the_reply_and_is_no_zero(base, data, tmp_path, caplog):
    out = tmp_path / "out"
    config = {**QUICK, "max_steps": 2, "num_generations": 8}
    api.train("grpo", model=str(base), data=data, out=out, config=config, judge="reward_judges:Half")
    trees = trees_of(tmp_path / "out.db")
    known = [[score.value for score in tree.scores if score.value is not None] for tree in trees]
    assert any(len(values) < 8 for values in known)
    assert logged(out, "reward") == pytest.approx([sum(values) / len(values) for values in known])
    assert not caplog.records  # TRL would warn of every such reply, over several lines


def test_a_spent_budget_stops_the_training_and_the_same_command_goes_on(base, data, tmp_path):
    given = {"model": str(base), "data": data, "out": tmp_path / "out", "config": {**QUICK, "max_steps": 3}}
    with pytest.raises(StopError):
        api.train("grpo", judge="world:judge", max_tokens=3000, **given)
    made = len(calls_of(tmp_path / "out.db"))
    assert 0 < made < 24
    assert api.train("grpo", judge="world:judge", **given).steps == 3
    assert len(calls_of(tmp_path / "out.db")) == 24


def test_looking_ahead_the_user_and_the_model_in_training_talk_on_and_a_killed_run_goes_on_the_same(
    base, data, tmp_path
):
    config = {**QUICK, "max_steps": 2, "save_steps": 1, "num_generations": 4, "per_device_train_batch_size": 4}
    given = {"model": str(base), "data": data, "config": config, "judge": "world:judge"}
    ahead = {"lookahead": 1, "user": "world:user"}
    api.train("grpo", out=tmp_path / "out", **given, **ahead)
    trees = trees_of(tmp_path / "out.db")
    assert len(trees) == 2
    for tree in trees:
        state = next(turn for turn in tree.tree.turns() if len(tree.tree.children(turn.id)) > 1)
        for reply in tree.tree.children(state.id):
            (user_node,) = tree.tree.children(reply.id)
            (after,) = tree.tree.children(user_node.id)
            assert (after.by, after.turn) == ("policy", reply.turn + 1)
    known = [{score.node: score.value for score in tree.scores} for tree in trees]
    assert [len(scores) for scores in known] == [8, 8]
    assert logged(tmp_path / "out", "reward") == pytest.approx([sum(scores.values()) / 8 for scores in known])

    def stop(done, total, loss):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.train("grpo", out=tmp_path / "again", progress=stop, **given, **ahead)
    assert api.train("grpo", out=tmp_path / "again", **given, **ahead).status == "resumed"
    whole, again = weights(tmp_path / "out"), weights(tmp_path / "again")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_trl_samples_after_the_very_prompt_that_is_served(base, data, tmp_path):
    score = ScoreInThread(lambda asked: [], lookahead=0)
    trainer = trainer_for(METHOD.recipe, "grpo", base, data, tmp_path / "out", score=score, **QUICK)
    row = json.loads(data.read_text().splitlines()[3])
    served = trainer.processing_class.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
    assert trainer._tokenize_prompts([row["prompt"]])[0] == [served]


GOOD = {"prompt": [user("Hi.")], "persona": "p"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"persona": None}, "persona: "),
        ({"prompt": []}, "prompt: "),
        ({"prompt": [user("Hi."), assistant("Yes?")]}, "prompt does not end with a user's message"),
        ({"prompt": [{"role": "system", "content": "Be warm."}]}, "prompt does not end with a user's message"),
        ({"prompt": [assistant("Hi."), user("Yes?")]}, "user and assistant do not take turns"),
        ({"prompt": [user("Hi."), user("Yes?")]}, "user and assistant do not take turns"),
        ({"prompt": [user("Hi.<|end|><|user|>Ho.")]}, "TRL would not read this prompt as it is served"),
        ({"prompt": [user("a" * 2040)]}, "a reply of up to 8 (max_completion_length) are more than the 2048"),
    ],
)
def test_a_state_that_cannot_be_sampled_from_is_refused_by_line_and_reason(base, tmp_path, row, reason):
    data = write(tmp_path / "rows.jsonl", GOOD, {**GOOD, **row})
    people = write(tmp_path / "people.jsonl", {"id": "p", "profile": ["Has bees."], "personality": "Dry."})
    given = {"config": QUICK, "judge": "reward_judges:Three", "personas": people}
    with pytest.raises(DataError, match="line 2: ") as error:
        api.train("grpo", model=str(base), data=data, out=tmp_path / "out", **given)
    assert reason in str(error.value)
    assert not (tmp_path / "out.db").exists()


def test_a_template_without_a_system_role_is_refused_for_rows_with_one(tmp_path):
    template = CHAT_TEMPLATE.replace(
        "<|{{ message['role'] }}|>",
        "<|{{ message['role'] }}|>{{ raise_exception('no') if message['role'] == 'system' }}",
    )
    model = tiny_model(tmp_path / "base", chat_template=template)
    data = write(tmp_path / "rows.jsonl", {**GOOD, "prompt": [{"role": "system", "content": "Be."}, user("Hi.")]})
    people = write(tmp_path / "people.jsonl", {"id": "p", "profile": ["Has bees."], "personality": "Dry."})
    with pytest.raises(DataError, match="the template takes no system message"):
        api.train(
            "grpo",
            model=str(model),
            data=data,
            out=tmp_path / "out",
            config=QUICK,
            judge="reward_judges:Three",
            personas=people,
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "train grpo needs a judge that scores the replies it samples; name one with --judge"),
        (("--judge", "world:judge", "--personas", "absent.jsonl"), "absent.jsonl: cannot be read"),
        (("--judge", "world:judge", "--personas", "world"), "the world's personas are made for a run"),
        (("--judge", "world:judge", "--personas", "aloe"), "held out"),
        (("--judge", "world:judge", "--concurrency", "0"), "--concurrency: must be at least 1"),
        (("--judge", "openai:judge", "--max-usd", "1"), "--prices"),
        (("--judge", "world:juge"), "world:juge"),
        (("--judge", "world:judge", "--judge", "world:judge"), "named twice"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line_and_nothing_is_left(base, data, tmp_path, cli, words, said):
    config = write(tmp_path / "train.yaml", {**QUICK, "max_steps": 1})
    given = ("--model", base, "--data", data, "--out", "out", "--config", config)
    ended = cli("train", "grpo", *given, *words)
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out.db").exists()
    assert not (tmp_path / "out").exists()


def test_a_card_without_its_run_and_options_for_another_method_are_refused(base, data, tmp_path, cli):
    data.with_name("run.db").rename(tmp_path / "elsewhere.db")
    config = write(tmp_path / "train.yaml", {**QUICK, "max_steps": 1})
    given = ("--model", base, "--data", data, "--out", "out", "--config", config)
    ended = cli("train", "grpo", *given, "--judge", "world:judge")
    assert (ended.code, "run.db, which is not there; name the run file" in ended.err) == (2, True)
    assert cli("train", "grpo", *given, "--judge", "world:judge", "--personas", "elsewhere.db").code == 0
    for words in (("--judge", "world:judge"), ("--personas", "elsewhere.db"), ("--concurrency", "3")):
        ended = cli("train", "sft", *given, *words)
        assert (ended.code, f"{words[0]}: train sft learns from the rows alone" in ended.err) == (2, True)


def test_the_python_function_of_training_needs_somebody_who_scores(base, data, tmp_path):
    with pytest.raises(ConfigError, match="train grpo needs a judge"):
        train("grpo", str(base), data, tmp_path / "out", config=QUICK)
