"""`train dpo` on packed trees: the default, what it says, what it equals, and when plain pairs are read instead."""

import json

import pytest
from training_runs import assistant, user, weights, write

from interalign.errors import ConfigError
from interalign.training.dpo import train_dpo
from interalign.training.weights import RECORD

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train

TREES, TURNS = 3, 4
PAIRS = TREES * TURNS
ONE_STEP = {"learning_rate": 1e-3, "max_steps": 1, "logging_steps": 1, "use_cpu": True, "beta": 0.5}


def rows(trees: int = TREES, named: bool = True):
    """Caterpillars: a pair in each turn, whose chosen reply is continued."""
    for tree in range(trees):
        prompt = [user(f"I am number {tree}.")]
        for turn in range(TURNS):
            chosen, rejected = assistant(f"Hello {tree}, turn {turn}."), assistant("Go away.")
            yield {"prompt": [*prompt], "chosen": [chosen], "rejected": [rejected]} | (
                {"tree": f"t{tree}"} if named else {}
            )
            prompt += [chosen, user(f"And {turn}?")]


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "dpo.jsonl", *rows())


def packing(folder) -> str:
    """How the pairs of a folder's training were read."""
    settings = json.loads((folder / RECORD).read_text())["identity"]["settings"]
    return settings.get("packing", "pairs")


def test_trees_are_read_whole_by_default_and_one_line_says_what_that_saves(base, data, tmp_path):
    said: list[str] = []
    result = train_dpo(str(base), data, tmp_path / "out", config=ONE_STEP, tell=said.append)
    assert (result.rows, packing(tmp_path / "out")) == (PAIRS, "tree")
    assert [line.partition(":")[0] for line in said[:-1]] == ["memory"]
    said = said[-1:]
    assert said[0].startswith(f"{PAIRS} pairs of {TREES} trees, read tree by tree: ")
    assert said[0].endswith(" x fewer tokens than pair by pair; 1 tree a step, about 4 pairs")
    saving = float(said[0].partition("tree by tree: ")[2].split()[0])
    logged = [json.loads(line) for line in (tmp_path / "out" / "training_log.jsonl").read_text().splitlines()]
    assert saving == pytest.approx(logged[0]["tree/sharing"], abs=0.3)
    assert saving > 2


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "found by their prompts"])
def test_a_step_on_all_trees_gives_the_weights_of_a_step_on_all_pairs(base, tmp_path, named, lora):
    data = write(tmp_path / "dpo.jsonl", *rows(named=named))
    for method, items in (("tree", TREES), ("pairs", PAIRS)):
        config = {**ONE_STEP, "per_device_train_batch_size": items}
        train_dpo(str(base), data, tmp_path / method, method=method, config=config, lora=lora)
    trees, pairs = weights(tmp_path / "tree"), weights(tmp_path / "pairs")
    before = weights(base)
    assert any(not torch.equal(trees[name], before[name]) for name in trees)
    for name in trees:
        torch.testing.assert_close(trees[name], pairs[name], rtol=1e-4, atol=2e-5)


def test_where_trees_cannot_be_packed_plain_pairs_are_read_and_one_line_says_why(base, data, tmp_path):
    said: list[str] = []
    config = {**ONE_STEP, "precompute_ref_log_probs": True}
    assert train_dpo(str(base), data, tmp_path / "out", config=config, tell=said.append).rows == PAIRS
    assert packing(tmp_path / "out") == "pairs"
    assert [line for line in said if not line.startswith("memory: ")] == [
        "read as plain pairs: precompute_ref_log_probs is not supported: here the reference is one forward pass a tree"
    ]


def test_trees_asked_for_by_name_are_refused_where_they_cannot_be_packed(base, data, tmp_path):
    config = {**ONE_STEP, "precompute_ref_log_probs": True}
    with pytest.raises(ConfigError, match="precompute_ref_log_probs is not supported"):
        train_dpo(str(base), data, tmp_path / "out", method="tree", config=config)
    assert not (tmp_path / "out" / RECORD).exists()


def test_another_way_to_read_pairs_is_refused(base, data, tmp_path):
    with pytest.raises(ConfigError, match="no way 'forest' to read pairs; give --method pairs, --method tree"):
        train_dpo(str(base), data, tmp_path / "out", method="forest", config=ONE_STEP)  # type: ignore[arg-type]


def test_a_folder_that_was_begun_with_plain_pairs_goes_on_with_them(base, data, tmp_path):
    first = train_dpo(str(base), data, tmp_path / "out", method="pairs", config=ONE_STEP)
    assert "packing" not in json.loads((tmp_path / "out" / RECORD).read_text())["identity"]["settings"]
    again = train_dpo(str(base), data, tmp_path / "out", config=ONE_STEP)
    assert (first.status, again.status) == ("trained", "finished before")
    with pytest.raises(ConfigError, match="was begun with other settings"):
        train_dpo(str(base), data, tmp_path / "out", method="tree", config=ONE_STEP)


def test_the_settings_of_packed_trees_are_read_from_the_configuration(base, data, tmp_path):
    config = {**ONE_STEP, "max_tree_tokens": 64, "check_first_batch": False}
    assert train_dpo(str(base), data, tmp_path / "out", config=config).steps == 1
    with pytest.raises(ConfigError, match="unknown key 'max_tree_tokens'"):
        train_dpo(str(base), data, tmp_path / "pairs", method="pairs", config=config)


def test_the_command_trains_on_trees_and_says_so(base, data, tmp_path, cli):
    (tmp_path / "train.yaml").write_text("max_steps: 1\nuse_cpu: true\n")
    words = ("train", "dpo", "--model", str(base), "--data", str(data), "--config", str(tmp_path / "train.yaml"))
    ended = cli(*words, "--out", "out")
    assert ended.code == 0, ended.err
    assert f"{PAIRS} pairs of {TREES} trees, read tree by tree" in ended.err
    plain = cli(*words, "--out", "plain", "--method", "pairs")
    assert (plain.code, "tree by tree" in plain.err) == (0, False)
    refused = cli("train", "sft", *words[2:], "--out", "sft", "--method", "tree")
    assert refused.code == 2
    assert "--method tree: sft has no trainer that reads trees whole" in refused.err
