"""Content, style and engagement scored beside the whole, in one call: `--aspects`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loopback
import pytest
from calls_seen import calls_of, trees_of
from judged_trees import path, said, score

import interalign as ia
from interalign import api
from interalign.agents.answers import parse_score_with_aspects
from interalign.eval.aspects import AspectTally
from interalign.panel import mean_score
from interalign.tree import Score

Cli = Callable[..., Any]
READ = [
    ("Content: 4\nStyle: 2\nEngagement: 5\nScore: 3", 3, (4, 2, 5)),
    ("Warm.\n\n**Content: 4/5**\n- Style: **2**.\n`Engagement: 5`\n### Score: 3", 3, (4, 2, 5)),
    ("CONTENT: 1\nstyle\uff1a2\nEngagement: 3!\nScore: 4", 4, (1, 2, 3)),
    ("Score: 3", 3, (None, None, None)),
    ("Score: 3\nStyle: 4", 3, (None, 4, None)),
    # an aspect that cannot be read is missing, and the score stands
    ("Content: 4\nContent: 2\nStyle: 2\nEngagement: 5\nScore: 3", 3, (None, 2, 5)),
    ("Content: 4\nContent: 4\nScore: 3", 3, (4, None, None)),
    ("Content: 6\nStyle: 0\nEngagement: 4.5\nScore: 3", 3, (None, None, None)),
    ("Content: 8/10\nStyle: 2 or 3\nEngagement: -1\nScore: 3", 3, (None, None, None)),
    ("Content: good\nStyle: it is 4 of 5\nEngagement: 5 (lively)\nScore: 3", 3, (None, None, None)),
    ("Content: good\nContent: 4\nScore: 3", 3, (None, None, None)),
    ("Content: it names the cat.\nContent: 4\nScore: 3", 3, (4, None, None)),
    ("The content: 4\nMy style: 3\nScore: 3", 3, (None, None, None)),
    ("| Content: 5\nContent: 2\nScore: 3", 3, (2, None, None)),
    ("Content score: 4\nContents: 3\nScore: 3", 3, (None, None, None)),
    # the score alone decides whether the reply counts
    ("Content: 4\nStyle: 2\nEngagement: 5", None, ()),
    ("Content: 4\nStyle: 2\nEngagement: 5\nScore: 3\nScore: 4", None, ()),
    ("Content: 4\nScore: 6", None, ()),
    ("", None, ()),
]


@pytest.mark.parametrize(("reply", "value", "aspects"), READ)
def test_aspects_are_read_like_scores_and_the_score_decides(
    reply: str, value: int | None, aspects: tuple[int | None, ...]
) -> None:
    if value is None:
        with pytest.raises(ia.BadContentError):
            parse_score_with_aspects(reply)
        return
    found = parse_score_with_aspects(reply)
    assert found.value == value
    assert tuple(found.aspects.get(name) for name in ("content", "style", "engagement")) == aspects


def judged_by(answers: list[str], run: Path, **settings: Any) -> tuple[list[dict[str, Any]], list[Score]]:
    """The requests to a judge that answers so, the last answer for ever, and its scores of a tree with two turns."""
    left = list(answers)

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return loopback.completion(left.pop(0) if len(left) > 1 else left[0])

    shape: dict[str, Any] = {"trees": 1, "turns": 2, "branch": 1, "inducer": "none", "judging": "score"}
    with loopback.serving(answer) as server:
        runtime = ia.Runtime(base_url=server.url, concurrency=1)
        assert ia.simulate(run, runtime=runtime, judge="openai:j", aspects=True, **{**shape, **settings}).done == 1
    return server.asked, list(trees_of(run)[0].scores)


def test_one_call_scores_the_whole_and_what_it_says_of_the_aspects_is_kept(tmp_path: Path) -> None:
    said = "Fine.\nContent: 4\nStyle: 2\nEngagement: 5\nScore: 3"
    asked, scores = judged_by([said, "Style: 1\nScore: 2"], tmp_path / "run.db")
    assert len(asked) == 2
    assert all(
        "`Content: N`, `Style: N`, `Engagement: N`" in " ".join(b["messages"][-1]["content"].split()) for b in asked
    )
    assert [(score.value, dict(score.aspects)) for score in scores] == [
        (3, {"content": 4, "style": 2, "engagement": 5}),
        (2, {"style": 1}),
    ]
    (note, _) = trees_of(tmp_path / "run.db")[0].annotations
    assert (note.name, note.by, note.value) == ("aspects", "openai:j", {"content": 4, "style": 2, "engagement": 5})


def test_without_a_score_it_is_asked_again_for_all_four_lines_and_nothing_is_kept(tmp_path: Path) -> None:
    asked, scores = judged_by(["Content: 4\nStyle: 2\nEngagement: 5"], tmp_path / "run.db", turns=1)
    assert [score.value for score in scores] == [None]
    assert scores[0].aspects == {}
    assert len(asked) == 3
    again = asked[1]["messages"][-1]["content"].partition("[asked again]")[2]
    assert "`Content: N`, `Style: N`, `Engagement: N` and, as the last one, `Score: N`" in " ".join(again.split())


def test_a_rubric_stands_in_the_prompt_that_asks_for_aspects(tmp_path: Path) -> None:
    (tmp_path / "rubric.txt").write_text("Warmth above all.\n")
    asked, _ = judged_by(["Score: 2"], tmp_path / "run.db", turns=1, rubric=tmp_path / "rubric.txt")
    text = asked[0]["messages"][-1]["content"]
    assert "| Warmth above all." in text
    assert "`Engagement: N`" in text


SMALL: dict[str, Any] = {"limit": 10, "turns": 2, "candidate": ["world:oracle", "world:blind"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same evaluation with aspects and without."""
    folder = tmp_path_factory.mktemp("runs")
    ia.evaluate(folder / "with.db", aspects=True, **SMALL)
    ia.evaluate(folder / "without.db", **SMALL)
    return folder


def test_the_worlds_judge_scores_the_whole_as_without_and_the_aspects_beside(runs: Path) -> None:
    asked, plain = trees_of(runs / "with.db"), trees_of(runs / "without.db")
    assert [s.value for tree in asked for s in tree.scores] == [s.value for tree in plain for s in tree.scores]
    assert all(set(score.aspects) == {"content", "style", "engagement"} for tree in asked for score in tree.scores)
    assert not any(score.aspects for tree in plain for score in tree.scores)
    assert len(calls_of(runs / "with.db")) == len(calls_of(runs / "without.db"))


def test_the_report_has_the_mean_of_each_aspect_with_an_interval(runs: Path, cli: Cli) -> None:
    found = json.loads(cli("report", runs / "with.db", "--json").out)["aspects"]
    assert [(each["candidate"], each["aspect"]) for each in found] == [
        (name, aspect) for name in ("oracle", "blind") for aspect in ("content", "style", "engagement")
    ]
    assert set(found[0]) == {"candidate", "aspect", "mean", "ci", "n", "missing"}
    values = [
        score.aspects["style"]
        for judged in trees_of(runs / "with.db")
        for score in judged.scores
        if judged.tree.node(score.node).by == "oracle"
    ]
    style = found[1]
    assert (style["n"], style["missing"]) == (20, 0)
    assert style["mean"] == pytest.approx(sum(values) / len(values))
    assert style["ci"][0] <= style["mean"] <= style["ci"][1]
    assert "Style of oracle: " in cli("report", runs / "with.db").out
    cli("report", runs / "with.db", "--html", "r.html", "--md", "r.md", "--csv", "r.csv")
    assert '<th scope="row">oracle: style</th>' in Path("r.html").read_text()
    assert f"| oracle | style | {style['mean']:.2f} |" in Path("r.md").read_text()
    assert "\noracle,style,," in Path("r.csv").read_text()
    assert json.loads(cli("report", runs / "without.db", "--json").out)["aspects"] == []


def test_the_default_stands_neither_in_the_identity_nor_in_the_prompts_of_a_run(runs: Path) -> None:
    with ia.open_run(runs / "without.db") as plain, ia.open_run(runs / "with.db") as asked:
        assert plain.run is not None
        assert asked.run is not None
        assert "aspects" not in plain.run.identity
        assert asked.run.identity["aspects"] is True
        more = set(asked.run.identity["prompts"]) - set(plain.run.identity["prompts"])
        assert more == {"judge_aspects", "again_aspects"}


def test_a_run_cannot_change_its_mind_about_aspects_and_a_dry_run_says_so_too(runs: Path) -> None:
    with pytest.raises(ia.ConfigError, match="aspects true -> null"):
        ia.evaluate(runs / "with.db", **SMALL)
    with pytest.raises(ia.ConfigError, match="aspects true -> null"):
        api.estimate("evaluation", runs / "with.db", **SMALL)
    with pytest.raises(ia.ConfigError, match="aspects null -> true"):
        ia.evaluate(runs / "without.db", aspects=True, **SMALL)
    assert api.estimate("evaluation", runs / "new.db", aspects=True, **SMALL).trees == 20


def test_another_judge_of_the_run_is_asked_for_aspects_too(runs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes((runs / "with.db").read_bytes())
    api.judge(copy, judge="world:judge?noise=0.5")
    said = [score for tree in trees_of(copy) for score in tree.by_judge("world:judge?noise=0.5").scores]
    assert all(len(score.aspects) == 3 for score in said)
    own = [score.aspects for tree in trees_of(copy) for score in tree.by_judge("world:judge").scores]
    assert own != [score.aspects for score in said]
    assert own == [score.aspects for tree in trees_of(runs / "with.db") for score in tree.scores]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "r.db", "--aspects"], "--aspects are scores, and the judge is to compare; add --judging score"),
        (["simulate", "r.db", "--aspects", "--judging", "compare"], "add --judging score"),
        (["simulate", "r.db", "--config", "a.yaml"], "a.yaml: aspects: "),
    ],
)
def test_aspects_that_cannot_be_had_are_refused_in_one_line(words: list[str], said: str, cli: Cli) -> None:
    Path("a.yaml").write_text("aspects: style\njudging: score\n")
    ended = cli(*words)
    assert (ended.code, said in ended.err, ended.err.count("\n"), Path("r.db").exists()) == (2, True, 1, False), ended


def test_a_panels_aspects_are_the_means_of_those_that_are_there() -> None:
    found = mean_score([score("1", 4, content=4, style=2), score("1", 5, content=1), score("1", None)])
    assert (found.value, dict(found.aspects)) == (4.5, {"content": 2.5, "style": 2})
    assert mean_score([score("1", 4)]).aspects == {}


def test_every_turn_weighs_the_same_and_what_lacks_an_aspect_is_counted_as_missing() -> None:
    tally = AspectTally("j", turns=2)
    talk = path("Hi", "one", "So", "two")
    tally.add(said(talk, score("1", 3, style=1, content=2), score("1/1", 3, style=5)), "p1")
    tally.add(said(talk, score("1", 3, style=3), score("1/1", None)), "p2")
    content, style, engagement = tally.figures()
    assert (style.mean, style.n, style.missing) == ((2 + 5) / 2, 3, 0)
    assert (content.mean, content.n, content.missing) == (2, 1, 2)
    assert (engagement.mean, engagement.ci, engagement.n, engagement.missing) == (None, None, 0, 3)
    assert AspectTally("j", turns=2).figures() == ()


class Critic:
    """A plug-in judge that scores aspects where it is asked for them."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        """Always 4, with a style of 2 if that is asked for."""
        return ia.ScoreOpinion(value=4, replies=("4",), aspects={"style": 2} if ask.aspects else {})


@pytest.mark.parametrize("asked", [True, False])
def test_a_plug_in_is_told_whether_aspects_are_asked_for(asked: bool, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**SMALL, "limit": 1, "turns": 1, "judge": "test_aspects:Critic"}
    ia.evaluate(tmp_path / "run.db", **settings, **({"aspects": True} if asked else {}))
    said = [score for tree in trees_of(tmp_path / "run.db") for score in tree.scores]
    assert [(each.value, dict(each.aspects)) for each in said] == [(4, {"style": 2} if asked else {})] * 2
    found = api.report(tmp_path / "run.db").aspects
    assert [(each.aspect, each.n, each.missing) for each in found[:3]] == (
        [("content", 0, 1), ("style", 1, 0), ("engagement", 0, 1)] if asked else []
    )
