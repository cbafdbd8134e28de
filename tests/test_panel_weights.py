"""A panel that weighs its members by their accuracy: `export` and `report --panel-weights`."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_trees import one_turn, said, score, verdict

import interalign as ia
from interalign import api
from interalign.eval.panel_tally import PanelTally
from interalign.eval.panel_weights import weight_of
from interalign.panel import weighted, weighted_score, with_panel
from interalign.tree import Choice, Verdict

Cli = Callable[..., Any]
SAID: dict[str, tuple[Choice | None, Choice | None]] = {
    "a": ("A", "B"),
    "b": ("B", "A"),
    "tie": ("tie", "tie"),
    "first": ("A", "A"),
    "half": ("A", "tie"),
    "gone": ("A", None),
}


def vote(said: str, judge: str) -> Verdict:
    return verdict("1", "2", *SAID[said], judge=judge)


@pytest.mark.parametrize(
    ("votes", "weights", "outcome"),
    [
        ("a b b", (3, 1, 1), "a"),
        ("a b b", (1, 1, 1), "b"),
        ("a b b", (2, 1, 1), "tie"),
        ("a b b", (0.3, 0.1, 0.2), "tie"),  # 0.1 + 0.2 is not 0.3 for a computer
        ("a b", (0, 1), "b"),
        ("a", (1,), "a"),
        ("first a", (5, 1), "a"),  # a judge that goes by the place speaks for both alike
        ("first tie", (1, 1), "tie"),
        ("first first a", (1, 1, 0.1), "a"),
        ("a tie tie", (1, 1, 1), "tie"),
        ("a tie tie", (3, 1, 1), "a"),
        ("half", (1,), "tie"),
        ("half half a", (1, 1, 1), "a"),
        ("a gone", (1, 9), "a"),
        ("gone gone", (1, 1), "missing"),
        ("a gone", (0, 1), "missing"),
        ("a b tie", (1, 1, 1), "tie"),
    ],
)
def test_what_has_most_weight_is_the_panels_verdict(votes: str, weights: tuple[float, ...], outcome: str) -> None:
    named = [vote(each, f"j{number}") for number, each in enumerate(votes.split())]
    said = weighted(named, {each.judge: weight for each, weight in zip(named, weights, strict=True)})
    assert (said.judge, said.a, said.b, said.outcome) == ("panel", "1", "2", outcome)


def test_scores_and_aspects_are_weighted_means() -> None:
    weights = {"x": 3.0, "y": 1.0, "z": 0.0}
    named = [score("1", 5, "x", style=4), score("1", 1, "y", content=2, style=2), score("1", 3, "z", style=1)]
    found = weighted_score(named, weights)
    assert (found.judge, found.value, dict(found.aspects)) == ("panel", 4, {"content": 2, "style": 3.5})
    assert weighted_score([score("1", None, "x"), score("1", 2, "y"), score("1", 5, "z")], weights).value == 2
    assert weighted_score([score("1", 5, "z"), score("1", None, "x")], weights).value is None
    assert weighted_score([score("1", 5, "x"), score("1", 5, "y")], {"x": 0.1, "y": 0.7}).value == 5


@pytest.mark.parametrize(
    ("accuracy", "n", "weight"),
    [
        (0.8, 98, math.log((0.8 * 98 + 1) / (0.2 * 98 + 1))),
        (0.5, 1000, 0),
        (0.2, 50, 0),
        (1, 2, math.log(3)),
        (1, 98, math.log(99)),
        (0.75, 4, math.log(2)),
    ],
)
def test_a_weight_is_the_log_odds_of_the_accuracy_and_never_infinite(accuracy: float, n: int, weight: float) -> None:
    assert weight_of(accuracy, n) == pytest.approx(weight)


GOOD, BAD, COIN = "world:judge", "world:judge?noise=0.6", "world:judge?noise=1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a panel of which two members are much worse than the third."""
    path = tmp_path_factory.mktemp("panel") / "run.db"
    ia.simulate(path, trees=8, turns=2, branch=3, judge=[GOOD, BAD, COIN])
    return path


def calibrations(run: Path, folder: Path, *judges: str) -> list[str]:
    """Files of `calibrate --json`, one a judge."""
    files = []
    for number, judge in enumerate(judges):
        found = api.calibration_json(api.calibrate(run, against="truth", judge=judge))
        (folder / f"c{number}.json").write_text(json.dumps(found))
        files.append(str(folder / f"c{number}.json"))
    return files


def calibration(judge: str, figures: object) -> str:
    """A file as `calibrate --json` writes it, in short."""
    return json.dumps({"judge": judge, "against": "truth", "figures": figures})


def options(files: list[str]) -> list[str]:
    return [word for file in files for word in ("--panel-weights", file)]


def exported(cli: Cli, run: Path, *more: str) -> list[dict[str, Any]]:
    ended = cli("export", run, "--format", "dpo", "--pairs", "all", "--out", "rows.jsonl", *more)
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]


def pairs_of(rows: list[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    return {(row["tree"], row["node"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows}


def test_the_weighted_panel_follows_its_accurate_member_and_the_plain_one_stays_the_majority(
    run: Path, cli: Cli, tmp_path: Path
) -> None:
    plain, own = pairs_of(exported(cli, run)), pairs_of(exported(cli, run, "--judge", GOOD))
    by_truth = pairs_of(exported(cli, run, "--panel-weights", "truth"))
    assert by_truth == own  # its weight is more than that of both others together
    assert plain != by_truth
    assert pairs_of(exported(cli, run)) == plain
    by_files = pairs_of(exported(cli, run, "--judge", "panel", *options(calibrations(run, tmp_path, BAD, COIN, GOOD))))
    assert by_files == by_truth


def test_the_data_card_says_by_what_the_panel_was_weighed(run: Path, cli: Cli) -> None:
    exported(cli, run, "--panel-weights", "truth")
    card = json.loads(Path("rows.jsonl.card.json").read_text())
    assert [each["judge"] for each in card["panel_weights"]] == [GOOD, BAD, COIN]
    assert set(card["panel_weights"][0]) == {"judge", "weight", "accuracy", "n", "against"}
    good, bad, coin = (each["weight"] for each in card["panel_weights"])
    assert good > bad > coin >= 0
    exported(cli, run)
    assert "panel_weights" not in json.loads(Path("rows.jsonl.card.json").read_text())


def test_the_report_weighs_the_panel_and_says_so(run: Path, cli: Cli) -> None:
    ended = cli("report", run, "--json", "--panel-weights", "truth")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert [each["judge"] for each in found["panel_weights"]] == [GOOD, BAD, COIN]
    assert any(
        note.startswith("The panel weighs its members by their accuracy against truth: ") for note in found["notes"]
    )
    plain = json.loads(cli("report", run, "--json").out)
    assert plain["panel_weights"] == []
    assert found["judge"]["hint"] != plain["judge"]["hint"]
    assert found["judge"]["members"] == plain["judge"]["members"]


def test_labels_in_the_run_can_be_what_the_panel_is_weighed_by(run: Path, cli: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(run.read_bytes())
    with ia.open_run(copy) as store:
        said = [
            {"tree": judged.tree.id, "a": verdict.a, "b": verdict.b, "who": "Kim",
             "answer": {"a": "A", "b": "B"}.get(verdict.outcome, "tie")}
            for judged in store.judged_trees()
            for verdict in judged.by_judge(GOOD).verdicts
        ]  # fmt: skip
    Path("labels.jsonl").write_text("".join(json.dumps(each) + "\n" for each in said))
    assert cli("labels", copy, "import", "labels.jsonl").code == 0
    assert pairs_of(exported(cli, copy, "--panel-weights", "labels")) == pairs_of(exported(cli, run, "--judge", GOOD))


def test_all_judges_of_a_run_with_one_can_be_weighed_at_an_export(tmp_path: Path, cli: Cli) -> None:
    ia.simulate("one.db", trees=3, turns=1, branch=3, judge=BAD)
    api.judge("one.db", judge=GOOD)
    rows = exported(cli, Path("one.db"), "--judge", "panel", "--panel-weights", "truth")
    assert pairs_of(rows) == pairs_of(exported(cli, Path("one.db"), "--judge", GOOD))
    ended = cli("report", "one.db", "--panel-weights", "truth")
    assert (ended.code, "was begun with one judge" in ended.err) == (2, True)


def test_a_member_of_weight_zero_is_named_in_the_report(run: Path, cli: Cli, tmp_path: Path) -> None:
    files = calibrations(run, tmp_path, GOOD, BAD, COIN)
    facts = json.loads(Path(files[2]).read_text())
    facts["figures"]["accuracy"] = {"value": 0.4, "ci": None, "n": 50}
    Path(files[2]).write_text(json.dumps(facts))
    shown = cli("report", run, *options(files)).out
    assert f"Without a vote, since no better than a coin: {COIN}." in " ".join(shown.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "missing.json: cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[]", "is no output of `interalign calibrate --json`"),
        ('{"judge": "world:judge", "against": "truth"}', "is no output of"),
        (calibration(GOOD, []), "is no output of"),
        (calibration(GOOD, {"accuracy": {"value": 2, "n": 4}}), "is no output of"),
        (calibration(GOOD, {"accuracy": {"value": "1", "n": 4}}), "is no output of"),
        (calibration(GOOD, {"accuracy": {"value": 1, "n": True}}), "is no output of"),
        (calibration(GOOD, {"accuracy": {"value": None, "n": 0}}), "no accuracy there"),
        (calibration("openai:m", {"accuracy": {"value": 1, "n": 4}}), "no judge of the panel"),
        (calibration(GOOD, {"accuracy": {"value": 1, "n": 4}}), f"no calibration of {BAD}; make one with"),
    ],
)
def test_a_file_that_is_no_calibration_of_a_member_is_refused_in_one_line(
    run: Path, cli: Cli, text: str | None, said: str
) -> None:
    if text is not None:
        Path("missing.json").write_text(text)
    for command in (["export", run, "--format", "dpo", "--out", "rows.jsonl"], ["report", run]):
        ended = cli(*command, "--panel-weights", "missing.json")
        assert (ended.code, ended.out, ended.err.count("\n"), said in ended.err) == (2, "", 1, True), ended.err
        assert not Path("rows.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--panel-weights", "labels"], "has no labels of people"),
        (["--panel-weights", "truth", "--panel-weights", "labels"], "truth: stands alone"),
        (["--panel-weights", "truth", "--judge", GOOD], f"the rows are by {GOOD}; add --judge panel"),
    ],
)
def test_weights_that_cannot_be_had_are_refused_in_one_line(run: Path, cli: Cli, words: list[str], said: str) -> None:
    ended = cli("export", run, "--format", "dpo", "--out", "rows.jsonl", *words)
    assert (ended.code, ended.err.count("\n"), said in ended.err, Path("rows.jsonl").exists()) == (2, 1, True, False)


def test_a_panel_of_coins_and_a_second_calibration_are_refused(run: Path, cli: Cli, tmp_path: Path) -> None:
    files = calibrations(run, tmp_path, GOOD, BAD, COIN)
    twice = cli("report", run, *options([*files, files[0]]))
    assert (twice.code, f"a second calibration of {GOOD}" in twice.err) == (2, True)
    for file in files:
        facts = json.loads(Path(file).read_text())
        facts["figures"]["accuracy"] = {"value": 0.5, "ci": None, "n": 10}
        Path(file).write_text(json.dumps(facts))
    coins = cli("report", run, *options(files))
    assert (coins.code, "no judge of the panel is better than a coin" in coins.err) == (2, True)


def test_without_weights_a_tree_reads_as_ever(run: Path) -> None:
    with ia.open_run(run) as store:
        judged = next(iter(store.judged_trees()))
    alone = judged.model_copy(
        update={"verdicts": tuple(verdict for verdict in judged.verdicts if verdict.judge != "panel")}
    )
    assert with_panel(alone, [GOOD, BAD, COIN]) == judged


@pytest.mark.parametrize(
    ("votes", "split", "undecided"),
    [("a a b", 0, 0), ("a b", 1, 0), ("a b tie", 1, 0), ("a tie", 0, 1), ("first tie", 0, 1), ("a first gone", 0, 1)],
)
def test_the_report_says_whether_a_panel_is_split_or_undecided(votes: str, split: int, undecided: int) -> None:
    named = [vote(each, f"j{number}") for number, each in enumerate(votes.split())]
    members = [each.judge for each in named]
    tally = PanelTally(members)
    tally.add(with_panel(said(one_turn("1", "2"), *named), members), "p")
    ties = tally.figures(turns=1, resamples=10).ties
    assert ties is not None
    assert (ties.n, ties.ties, ties.split, ties.undecided) == (1, split + undecided, split, undecided)


def test_a_panel_that_only_scored_has_no_ties_to_explain() -> None:
    assert PanelTally(["x", "y"]).figures(turns=1, resamples=10).ties is None
