"""Several judges in one run: each on record under its own name, and the panel that is derived from them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from calls_seen import calls_of, trees_of
from judged_trees import one_turn, said, score, verdict

import interalign as ia
from interalign import api
from interalign.config import SimulationSettings
from interalign.eval.panel_tally import agreement
from interalign.graphs.policy import standing
from interalign.graphs.turn import Turn
from interalign.panel import majority, mean_score, with_panel
from interalign.tree import Choice, Verdict

JUDGES = ["world:judge", "world:judge?noise=0.5", "world:judge?position_bias=0.6"]
SMALL: dict[str, Any] = {"trees": 4, "turns": 2, "branch": 3}
SAID: dict[str, tuple[Choice | None, Choice | None]] = {
    "a": ("A", "B"), "b": ("B", "A"), "tie": ("A", "A"), "missing": ("A", None),
}  # fmt: skip


def vote(outcome: str, judge: str) -> Verdict:
    return verdict("1", "2", *SAID[outcome], judge=judge)


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ("a", "a"),
        ("a b", "tie"),
        ("a a b", "a"),
        ("a b tie", "tie"),
        ("a tie", "tie"),
        ("a tie tie", "tie"),
        ("a a tie", "a"),
        ("a missing", "a"),
        ("a missing missing", "a"),
        ("a b missing", "tie"),
        ("b b b a", "b"),
        ("a a b b", "tie"),
        ("a a b tie", "tie"),
        ("missing missing", "missing"),
        ("missing", "missing"),
        ("tie missing", "tie"),
    ],
)
def test_the_panel_says_what_more_than_half_of_the_votes_say_else_a_tie(votes: str, outcome: str) -> None:
    said = majority([vote(each, f"j{number}") for number, each in enumerate(votes.split())])
    assert (said.judge, said.a, said.b, said.outcome) == ("panel", "1", "2", outcome)
    assert all(order.replies == () for order in said.orders)


@pytest.mark.parametrize(
    ("values", "mean"), [([4], 4), ([4, 5], 4.5), ([1, None, 2], 1.5), ([None, 3], 3), ([None, None], None)]
)
def test_the_panels_score_is_the_mean_of_those_that_are_there(values: list[int | None], mean: float | None) -> None:
    said = mean_score([score("1", value, f"j{number}") for number, value in enumerate(values)])
    assert (said.judge, said.node, said.value) == ("panel", "1", mean)


def test_only_its_members_have_a_vote_in_the_panel() -> None:
    judged = said(one_turn("1", "2"), vote("a", "x"), vote("b", "later"), vote("b", "last"))
    assert with_panel(judged, ["x"]).by_judge("panel").verdicts[0].outcome == "a"
    assert with_panel(judged, ["x", "later", "last"]).by_judge("panel").verdicts[0].outcome == "b"
    assert with_panel(judged, ["x"]).by_judge("later") == judged.by_judge("later")


def test_a_beam_continues_what_the_panel_likes() -> None:
    user, *replies = one_turn("1", "2").nodes
    turn = Turn(user=user, replies=replies, verdicts=(), scores=(), annotations=())
    votes = turn.model_copy(update={"verdicts": (vote("a", "x"), vote("b", "y"), vote("b", "z"))})
    assert standing(votes) == {"1": -1.0, "2": 1.0}
    scores = [score("1", 5, "x"), score("1", 1, "y"), score("2", 4, "x"), score("2", 3, "y")]
    assert standing(turn.model_copy(update={"scores": tuple(scores)})) == {"1": 3.0, "2": 3.5}


@pytest.mark.parametrize("judging", ["compare", "score"])
def test_each_judge_says_what_it_would_have_said_if_asked_later(tmp_path: Path, judging: str) -> None:
    ia.simulate(tmp_path / "panel.db", judge=JUDGES, judging=judging, **SMALL)
    ia.simulate(tmp_path / "one.db", judge=JUDGES[0], judging=judging, **SMALL)
    for judge in JUDGES[1:]:
        api.judge(tmp_path / "one.db", judge=judge)
    words = [
        {
            (judged.tree.id, judge): (judged.by_judge(judge).verdicts, judged.by_judge(judge).scores)
            for judged in trees_of(tmp_path / name)
            for judge in JUDGES
        }
        for name in ("panel.db", "one.db")
    ]
    assert words[0] == words[1]
    assert len(words[0]) == 12
    keys = [{call.key for call in calls_of(tmp_path / name)} for name in ("panel.db", "one.db")]
    assert keys[0] == keys[1]


def test_a_panel_is_exported_by_default_and_each_judge_by_its_name(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", judge=JUDGES, **SMALL)

    def exported(judge: str | None = None) -> list[dict[str, Any]]:
        ia.export(tmp_path / "run.db", tmp_path / "rows.jsonl", format="dpo", pairs="all", judge=judge)
        return [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    by_judge = {judge: _preferred(exported(judge)) for judge in JUDGES}
    panel = exported()
    assert panel == exported("panel")
    counts = Counter(each for judge in JUDGES for each in by_judge[judge])
    assert _preferred(panel) == {each for each, times in counts.items() if times > 1}
    assert _preferred(panel) not in by_judge.values()


def _preferred(rows: list[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    return {(row["tree"], row["node"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows}


def test_judges_asked_later_are_a_panel_only_where_one_is_asked_for(tmp_path: Path) -> None:
    run, out = tmp_path / "run.db", tmp_path / "rows.jsonl"
    ia.simulate(run, judge=JUDGES[0], **SMALL)
    with pytest.raises(ia.ConfigError, match=f"no verdict by 'panel'; it has {JUDGES[0]}"):
        ia.export(run, out, format="dpo", judge="panel")
    api.judge(run, judge=JUDGES[1])
    ia.export(run, out, format="dpo")
    newest = out.read_text()
    ia.export(run, out, format="dpo", judge=JUDGES[1])
    assert out.read_text() == newest
    ia.export(run, out, format="dpo", judge="panel")
    assert out.read_text() != newest


def test_the_identity_of_one_judge_is_its_name_and_of_several_a_list(tmp_path: Path) -> None:
    for name, judge in {"one.db": JUDGES[0], "also.db": JUDGES[:1], "two.db": JUDGES[:2]}.items():
        ia.simulate(tmp_path / name, judge=judge, trees=1, turns=1)
    stored = []
    for name in ("one.db", "also.db", "two.db"):
        with ia.open_run(tmp_path / name) as run:
            stored.append(run.run.identity["judge"])
    assert stored == [JUDGES[0], JUDGES[0], JUDGES[:2]]
    assert ia.simulate(tmp_path / "two.db", judge=JUDGES[:2], trees=1, turns=1).calls == 0
    with pytest.raises(ia.ConfigError, match="changed: judge "):
        ia.simulate(tmp_path / "two.db", judge=JUDGES[0], trees=1, turns=1)


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (["world:judge", "world:judge"], "--judge: world:judge is named twice; a judge has one vote in a panel"),
        ([], "--judge: expected the name of a model, or a list of them for a panel, got []"),
        (["world:judge", 7], "--judge: expected the name of a model, or a list"),
        (7, "--judge: expected the name of a model"),
        (["world:judge", "world:jugde"], "there is no 'jugde' in the world"),
        (["hf:m?max_batch=1&workers=2", "hf:m?workers=2&max_batch=1"], "--judge: hf:m is named twice"),
    ],
)
def test_judges_that_cannot_be_a_panel_are_refused(tmp_path: Path, judge: Any, said: str) -> None:
    with pytest.raises(ia.ConfigError) as refused:
        ia.simulate(tmp_path / "run.db", judge=judge, trees=1, turns=1)
    assert said in str(refused.value)
    assert not (tmp_path / "run.db").exists()


def test_a_setting_of_one_judge_is_a_name_and_of_several_are_names() -> None:
    assert SimulationSettings(judge=("j:1",)).judge == "j:1"
    assert SimulationSettings(judge="j:1").judges == ("j:1",)
    assert SimulationSettings(judge=("j:1", "j:2")).judges == ("j:1", "j:2")


def test_an_evaluation_reports_the_panels_mean_and_each_judge(cli) -> None:
    options = [word for judge in JUDGES[:2] for word in ("--judge", judge)]
    assert cli("evaluate", "run.db", "--candidate", "world:blind", "--turns", "2", "--limit", "3", *options).code == 0
    report = json.loads(cli("report", "run.db", "--json").out)
    judge = report["judge"]
    assert (judge["name"], judge["asked"], judge["others"]) == ("panel", 12, [])
    assert [(one["name"], one["asked"], one["scores"]["n"]) for one in judge["members"]] == [
        (name, 6, 6) for name in JUDGES[:2]
    ]
    said = [[word.value for tree in trees_of("run.db") for word in tree.by_judge(name).scores] for name in JUDGES[:2]]
    pairs = list(zip(*said, strict=True))
    (alike,) = judge["agreement"]
    assert (alike["a"], alike["b"], alike["n"]) == (*JUDGES[:2], 6)
    assert alike["same"] == pytest.approx(sum(one == other for one, other in pairs) / 6)
    assert report["candidates"][0]["al_mean"] == pytest.approx(sum(map(sum, pairs)) / 12)
    text = cli("report", "run.db").out
    assert "judged by a panel of world:judge, world:judge?noise=0.5" in " ".join(text.split())
    assert "answers alike, kappa" in " ".join(text.split())
    assert cli("report", "run.db", "--html", "r.html").code == 0
    assert "Agreement of the judges" in Path("r.html").read_text()


@pytest.mark.parametrize(
    ("met", "n", "same", "kappa"),
    [
        ({}, 0, None, None),
        ({("a", "a"): 3}, 3, 1.0, None),
        ({("a", "a"): 2, ("b", "b"): 2}, 4, 1.0, 1.0),
        ({("a", "b"): 2, ("b", "a"): 2}, 4, 0.0, -1.0),
        # Expected by chance: 0.5 x 0.6 + 0.5 x 0.4 = 0.5, so kappa is (0.7 - 0.5) / 0.5.
        ({("a", "a"): 4, ("b", "b"): 3, ("a", "b"): 1, ("b", "a"): 2}, 10, 0.7, 0.4),
    ],
)
def test_agreement_is_the_share_alike_and_cohens_kappa(met, n, same, kappa) -> None:
    found = agreement("x", "y", Counter(met))
    assert (found.n, found.same) == (n, same)
    assert found.kappa == (None if kappa is None else pytest.approx(kappa))


def test_a_judge_of_the_panel_that_cannot_be_read_stops_the_run(cli) -> None:
    panel = ["--judge", "world:judge", "--judge", "mendable_judges:model"]
    ended = cli("simulate", "run.db", "--trees", "12", "--turns", "2", *panel)
    assert ended.code == 3
    assert "none of the first 20 questions to the judge mendable_judges:model had a readable answer" in ended.err
    Path("MENDED").touch()
    ended = cli("simulate", "run.db", "--trees", "12", "--turns", "2", *panel)
    assert ended.code == 0
    assert "missing" not in ended.err


def test_what_is_missing_is_counted_over_all_judges_of_the_panel(tmp_path: Path) -> None:
    judges = ["world:judge", "mendable_judges:ReadsTheTwentieth"]
    summary = ia.simulate(tmp_path / "run.db", judge=judges, trees=5, turns=2)
    assert summary.shortfalls is not None
    found = summary.shortfalls.judge
    assert found is not None
    assert (found.judge, found.asked, found.missing) == ("panel", 40, 19)
    with ia.open_run(tmp_path / "run.db") as run:
        assert all(word.outcome != "missing" for tree in run.judged_trees() for word in tree.by_judge("panel").verdicts)


def test_the_viewer_shows_the_panel_and_each_of_its_judges(tmp_path: Path) -> None:
    for judging in ("compare", "score"):
        path = tmp_path / f"{judging}.db"
        ia.simulate(path, judge=JUDGES[:2], judging=judging, trees=2, turns=2)
        api.view_export(path, tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert all(judge in page for judge in ("panel", *JUDGES[:2]))
