"""Which rows are trained on: held-out personas are refused, and nobody has more rows than asked for."""

import json
from pathlib import Path

import pytest
from tiny import tiny_model
from training_runs import assistant, dpo_rows, sft_rows, user, write

import interalign as ia
from interalign import api
from interalign.errors import ConfigError
from interalign.people.held_out import is_held_out
from interalign.training.row_choice import at_most, refuse_held_out
from interalign.training.rows import TrainingRow
from interalign.tree import Message


def row(number: int, persona: str | None) -> TrainingRow:
    return TrainingRow(number, (Message(role="user", content="Hi."),), (), persona=persona)


@pytest.mark.parametrize(
    ("persona", "held_out"),
    [("heldout-0007", True), ("train-0007", False), ("p089-s71", True), ("p237-s25", False), ("ann", False)],
)
def test_held_out_are_the_shipped_cases_and_those_of_the_world(persona: str, held_out: bool) -> None:
    assert is_held_out(persona) == held_out


@pytest.mark.parametrize("persona", ["heldout-0000", "p089-s71"])
def test_a_row_about_a_held_out_persona_is_refused_by_its_line(persona: str, tmp_path: Path) -> None:
    rows = [row(1, "ann"), row(2, persona), row(3, None), row(4, persona)]
    with pytest.raises(ConfigError, match=f"rows.jsonl, line 2: persona '{persona}' is held out \\(2 such rows\\)"):
        refuse_held_out(rows, tmp_path / "rows.jsonl")
    refuse_held_out(rows[::2], tmp_path / "rows.jsonl")


def test_rows_that_do_not_say_their_persona_are_refused_by_their_card(tmp_path: Path) -> None:
    ia.evaluate(tmp_path / "eval.db", candidate="world:blind", limit=2, turns=2)
    api.personas_generate(tmp_path / "people.jsonl", n=2, heldout=True, seed=0)
    ia.simulate(tmp_path / "run.db", personas=str(tmp_path / "people.jsonl"), trees=2, turns=2)
    ia.simulate(tmp_path / "good.db", trees=2, turns=2)
    for run, said in (("eval.db", "from an evaluation of held-out cases"), ("run.db", "counts 2 trees about held-out")):
        ia.export(tmp_path / run, tmp_path / "rows.jsonl", format="messages")
        with pytest.raises(ConfigError, match=said):
            refuse_held_out([row(1, None)], tmp_path / "rows.jsonl")
    ia.export(tmp_path / "good.db", tmp_path / "rows.jsonl", format="messages")
    refuse_held_out([row(1, None)], tmp_path / "rows.jsonl")
    assert "held_out" not in json.loads((tmp_path / "rows.jsonl.card.json").read_text())


@pytest.mark.parametrize("card", ["", "[1]", '{"run": null}', '{"run": 3}', "{", '{"run": {"kind": "simulation"}}'])
def test_a_card_of_another_kind_refuses_nothing(card: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.card.json").write_text(card)
    refuse_held_out([row(1, "ann")], tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("most", "kept"),
    [(1, [1, 3]), (2, [1, 3, 4, 6]), (3, [1, 2, 3, 5, 6]), (4, [1, 2, 3, 4, 5, 6]), (5, [1, 2, 3, 4, 5, 6, 7])],
)
def test_rows_of_one_persona_are_chosen_evenly_apart_in_the_order_of_the_file(most: int, kept: list[int]) -> None:
    rows = [row(number, "bo" if number in (3, 6) else "ann") for number in range(1, 8)]
    assert [each.number for each in at_most(rows, most, Path("rows.jsonl"))] == kept


def test_a_row_without_a_persona_cannot_be_counted() -> None:
    with pytest.raises(ConfigError, match=r"rows.jsonl, line 2: does not say its persona, which max_per_persona"):
        at_most([row(1, "ann"), row(2, None)], 1, Path("rows.jsonl"))


@pytest.mark.train
def test_training_keeps_to_the_limit_and_says_how_many_rows_it_left_out(tmp_path: Path, cli) -> None:
    pytest.importorskip("trl")
    model = tiny_model(tmp_path / "base")
    rows = [{**each, "persona": "ann"} for each in dpo_rows(5)]
    data, config = write(tmp_path / "dpo.jsonl", *rows), tmp_path / "train.yaml"
    config.write_text("max_steps: 1\nuse_cpu: true\n")
    given = ("--model", model, "--config", config, "--out")
    ended = cli("train", "dpo", "--data", data, "--max-per-persona", "2", *given, "out")
    assert ended.code == 0, ended.err
    assert "dpo on 2 rows (3 beyond max_per_persona left out), 1 steps" in ended.err
    assert "2 rows, sha256" in (tmp_path / "out" / "README.md").read_text()
    assert "; 3 rows more, beyond `max_per_persona`, were left out" in (tmp_path / "out" / "README.md").read_text()
    write(tmp_path / "sft.jsonl", *sft_rows(2))
    ended = cli("train", "sft", "--data", "sft.jsonl", "--max-per-persona", "2", *given, "sft")
    assert (ended.code, "line 1: does not say its persona" in ended.err) == (2, True)
    held = {
        "prompt": [user("Hi.")],
        "chosen": [assistant("a")],
        "rejected": [assistant("b")],
        "persona": "heldout-0001",
    }
    ended = cli("train", "dpo", "--data", write(tmp_path / "held.jsonl", held), *given, "held")
    assert (ended.code, "persona 'heldout-0001' is held out" in ended.err) == (2, True)
    assert not Path("held").exists()
