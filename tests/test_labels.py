"""`interalign labels`: what people say of replies, planned with known probabilities, kept whole, and compared."""

import csv
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import interalign as ia
from interalign import api
from interalign.eval.calibration import family
from interalign.eval.label_plan import UNSURE, plan_questions
from interalign.records import LabelQuestion

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("labels") / "run.db"
    ia.simulate(run, trees=12, turns=3, branch=2, judge="world:judge?noise=0.5")
    return run


@pytest.fixture
def run(grown: Path, tmp_path: Path) -> Path:
    """A copy of it, to write to."""
    shutil.copy(grown, tmp_path / "run.db")
    return tmp_path / "run.db"


def truth_file(run: Path, out: Path, who: str, questions: list[LabelQuestion], wrong: int = 0) -> Path:
    """Labels of somebody who says what is true, but for the first `wrong` questions."""
    from interalign.models.world import true_score

    rows = []
    with ia.open_run(run) as store:
        for place, question in enumerate(questions):
            judged = store.judged_tree(question.tree)
            assert judged is not None
            assert question.b is not None
            persona = store.persona(judged.tree.persona)
            a, b = (
                true_score(persona, judged.tree.transcript(node)[:-1], judged.tree.node(node).text)
                for node in (question.a, question.b)
            )
            answer = "tie" if abs(a - b) < 0.25 else "A" if a > b else "B"
            rows.append({"question": question.id, "who": who, "answer": answer if place >= wrong else "tie"})
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


def test_a_plan_draws_as_many_as_asked_and_doubtful_ones_more_often(run: Path) -> None:
    with ia.open_run(run) as store:
        everything = plan_questions(store, 10_000)
        assert {question.probability for question in everything} == {1.0}
        plan = plan_questions(store, 12)
        assert plan_questions(store, 12) == plan
        assert plan_questions(store, 12, seed=1) != plan
        drawn = Counter(question.key for seed in range(400) for question in plan_questions(store, 12, seed))
    assert len(plan) == len({question.key for question in plan}) == 12
    chances = {question.probability for question in plan}
    assert len(chances) == 2
    assert max(chances) / min(chances) == pytest.approx(UNSURE)
    for question in plan:  # what it says is how often it is drawn
        assert drawn[question.key] / 400 == pytest.approx(question.probability, abs=0.09)


def test_a_plan_spreads_over_profiles(run: Path) -> None:
    with ia.open_run(run) as store:
        trees = Counter(question.tree for question in plan_questions(store, 24))
    assert set(trees) == {f"t{number:05}" for number in range(12)}


def test_an_estimate_weighted_by_the_plan_is_that_of_all(run: Path) -> None:
    with ia.open_run(run) as store:
        whole = len(plan_questions(store, 10_000))
        sizes = [sum(1 / q.probability for q in plan_questions(store, 10, seed)) for seed in range(300)]  # type: ignore[operator]
    assert sum(sizes) / 300 == pytest.approx(whole, rel=0.05)


def test_answers_are_asked_for_key_by_key_kept_at_once_and_undone(run: Path, cli: Cli) -> None:
    assert cli("labels", run, "plan", "--n", 6).code == 0
    done = cli("labels", run, "ask", "--name", "ann", stdin="1x2u0q")
    assert done.code == 0
    assert "2 answers of ann kept" in done.err
    assert "'x' is no answer here" in done.out
    assert "[Reply 1]" in done.out
    with ia.open_run(run) as store:
        labels, questions = store.labels(), store.label_questions()
    by_key = {label.key: label for label in labels}
    assert [by_key[question.key].choice for question in questions[:2]] == ["A", "tie"]
    assert all("which suits this user better" in str(label.instructions) for label in labels)
    rest = cli("labels", run, "ask", "--name", "ann", stdin="1111")
    assert "3 of 6" in rest.out
    assert "4 answers of ann kept" in rest.err
    assert cli("labels", run, "ask", "--name", "ann", stdin="1").out.count("---") == 0  # nothing is left to ask


def test_the_order_shown_is_random_and_recorded(run: Path, cli: Cli) -> None:
    cli("labels", run, "plan", "--n", 30)
    cli("labels", run, "ask", "--name", "ann", stdin="1" * 30)
    with ia.open_run(run) as store:
        labels = store.labels()
    assert 5 < sum(label.first == label.a for label in labels) < 25
    assert all(label.answer == ("a" if label.first == label.a else "b") for label in labels)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "CSV"])
def test_labels_survive_a_file(run: Path, tmp_path: Path, cli: Cli, suffix: str) -> None:
    cli("labels", run, "plan", "--n", 8)
    cli("labels", run, "ask", "--name", "ann", stdin="12012q")
    out = tmp_path / f"labels.{suffix}"
    assert cli("labels", run, "export", out).code == 0
    with ia.open_run(run) as store:
        before = store.labels()
    other = tmp_path / "other.db"
    shutil.copy(run, other)
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("DELETE FROM labels")
    assert cli("labels", other, "import", out).code == 0
    with ia.open_run(other) as store:
        assert [label.model_copy(update={"instructions": None}) for label in before] == store.labels()
    if suffix.lower() == "csv":
        assert len(list(csv.DictReader(out.read_text().splitlines()))) == 8


def test_all_bad_rows_are_named_and_nothing_is_imported(run: Path, tmp_path: Path, cli: Cli) -> None:
    rows: list[Any] = [
        {"question": "t00000:1|2", "who": "ann", "answer": "A"},
        {"question": "t99999:1|2", "who": "ann", "answer": "A"},
        {"tree": "t00000", "a": "1", "b": "9", "who": "ann", "answer": "A"},
        {"tree": "t00000", "a": "1", "b": "2", "who": "ann", "answer": "C"},
        {"tree": "t00000", "node": "1", "who": "ann", "answer": "6"},
        {"tree": "t00000", "a": "1", "b": "2", "answer": "A"},
        {"tree": "t00000", "a": "2", "b": "1", "who": "ann", "answer": "A"},
        {"who": "ann", "answer": "A"},
        ["A"],
        {"tree": "t00000", "a": "1", "b": "2", "who": "ann", "answer": "A", "first": "7"},
        {"question": "t00000:1|2", "who": "ann", "answer": None},
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("labels", run, "import", file)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "9 bad rows" in done.err
    with ia.open_run(run) as store:
        assert store.labels() == []
    with pytest.raises(ia.InteralignError) as refused:
        api.import_labels(run, file)
    for line in range(2, 11):
        assert f"line {line}: " in str(refused.value)


def test_a_pair_named_the_other_way_round_is_the_same_question(run: Path, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(json.dumps({"tree": "t00000", "a": "2", "b": "1", "answer": "A"}))
    assert cli("labels", run, "import", file, "--name", "ann").code == 0
    with ia.open_run(run) as store:
        [label] = store.labels()
    assert (label.key, label.answer, label.first, label.choice) == (("t00000", "1", "2"), "b", "2", "A")


def test_a_judge_is_calibrated_against_people_and_people_against_each_other(
    run: Path, tmp_path: Path, cli: Cli
) -> None:
    questions = api.plan_labels(run, n=36)
    api.import_labels(run, truth_file(run, tmp_path / "ann.jsonl", "ann", questions))
    against_truth = api.calibrate(run, against="truth").figures
    against_people = api.calibrate(run, against="labels")
    for name in ("accuracy", "kappa", "position_bias"):
        assert against_people.figures[name] == against_truth[name]
    api.import_labels(run, truth_file(run, tmp_path / "bob.jsonl", "bob", questions, wrong=9))
    both = json.loads(cli("calibrate", run, "--against", "labels", "--json").out)
    assert both["people"]["labels"] == {"ann": 36, "bob": 36}
    assert both["people"]["accuracy"]["n"] == 36
    assert 0.75 <= both["people"]["accuracy"]["value"] < 1
    assert "kappa of people" in cli("calibrate", run, "--against", "labels").out


def test_scores_are_labelled_too(tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "e.db"
    ia.evaluate(run, limit=3, turns=2, candidate=["world:oracle"])
    assert cli("labels", run, "plan", "--n", 4).code == 0
    done = cli("labels", run, "ask", stdin="0345q5")
    assert "[The reply]" in done.out
    with ia.open_run(run) as store:
        assert sorted(label.answer for label in store.labels()) == ["3", "4", "5"]
    assert api.calibrate(run, against="labels").figures["score_kappa"].n == 3


def test_merged_shards_keep_labels_and_a_fork_has_none(tmp_path: Path, cli: Cli) -> None:
    files = [tmp_path / f"s{number}.db" for number in (1, 2)]
    for number, file in enumerate(files, start=1):
        ia.simulate(file, trees=4, turns=1, shard=f"{number}/2")
        cli("labels", file, "plan", "--n", 2)
        cli("labels", file, "ask", stdin="12")
    api.merge(tmp_path / "all.db", files)
    with ia.open_run(tmp_path / "all.db") as store:
        assert len(store.labels()) == len(store.label_questions()) == 4
        assert all(label.instructions for label in store.labels())
    ia.simulate(files[0], trees=1, turns=1, seed=9, fork=tmp_path / "new.db")
    with ia.open_run(tmp_path / "new.db") as store:
        assert store.labels() == store.label_questions() == []


def test_a_plan_with_answers_is_not_replaced(run: Path, cli: Cli) -> None:
    cli("labels", run, "plan", "--n", 5)
    cli("labels", run, "ask", stdin="11111")
    assert cli("labels", run, "plan", "--n", 5).code == 0  # the same
    done = cli("labels", run, "plan", "--n", 2, "--seed", 7)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "would be lost" in done.err


@pytest.mark.parametrize("words", [("ask",), ("plan", "--n", "0"), ("import", "no.jsonl")])
def test_what_cannot_be_done_is_refused_in_one_line(run: Path, cli: Cli, words: tuple[str, ...]) -> None:
    done = cli("labels", run, *words)
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("openai:gpt-4o-mini", "gpt"),
        ("openai:Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("hf:/models/qwen2?dtype=bfloat16", "qwen"),
        ("world:judge?noise=0.2", ""),
    ],
)
def test_a_models_family_is_the_first_word_of_its_name(spec: str, name: str) -> None:
    assert family(spec) == name
