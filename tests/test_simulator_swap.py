"""Whether the ranking of candidates stands under another simulated user: `evaluate --user A --user B`, `compare`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

import interalign as ia
from interalign import api
from interalign.eval.results import CandidateScores, SimulatorSwap
from interalign.eval.simulator_swap import kendall_tau, scores_by_user, simulator_swaps, swap_lines
from interalign.records import case_under, split_case

Cli = Callable[..., Any]
USERS = ["world:user", "world:user?answers=0"]
SETTINGS: dict[str, Any] = {"limit": 10, "turns": 2, "candidate": ["world:blind", "world:oracle"]}


def scored(name: str, *levels: float | None) -> CandidateScores:
    """A candidate with one score a case, each case of a profile of its own."""
    cases = {f"c{number}": [level] for number, level in enumerate(levels)}
    return CandidateScores(name=name, scores=cases, profile_of={case: case for case in cases})


def swapped(one: list[CandidateScores], other: list[CandidateScores]) -> SimulatorSwap:
    (found,) = simulator_swaps({"A": one, "B": other})
    return found


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [
        ([3, 2, 1], [5, 4, 3], 1),
        ([3, 2, 1], [1, 2, 3], -1),
        ([3, 2, 1], [3, 1, 2], 1 / 3),
        ([2, 1], [1, 2], -1),
        ([4, 3, 2, 1], [1, 4, 3, 2], 0),
        ([3, 3, 1], [3, 2, 1], 2 / 6**0.5),
        ([3, 3, 3], [3, 2, 1], None),
        ([3, 2, np.nan], [3, 2, 1], None),
    ],
)
def test_tau_is_kendalls_tau_b(one: list[float], other: list[float], tau: float | None) -> None:
    found = float(kendall_tau(np.array(one, float), np.array(other, float)))
    if tau is None:
        assert np.isnan(found)
        return
    assert found == pytest.approx(tau)
    assert found == pytest.approx(kendalltau(one, other).statistic)


def test_a_pair_that_flips_is_named_with_both_differences_and_whether_chance_could_do_it() -> None:
    steady = [4.0, 4.0, 5.0, 5.0, 4.0, 5.0, 4.0, 5.0, 4.0, 5.0]
    low = [level - 2 for level in steady]
    found = swapped(
        [scored("good", *steady), scored("bad", *low)], [scored("good", *low), scored("bad", *reversed(steady))]
    )
    assert (found.rankings, found.tau, found.n) == ((("good", "bad"), ("bad", "good")), -1, 10)
    (pair,) = found.pairs
    assert (pair.delta_al, pair.flips, pair.clear) == ((2.0, -2.0), True, True)
    assert pair.shift == 4
    lines = list(swap_lines(found))
    assert lines[0] == "Ranking under user A: good 4.50, bad 2.50"
    assert lines[3].startswith("  good - bad flips: +2.00 [2.00, 2.00] under A and -2.00 [")
    assert lines[3].endswith("under B; neither interval has 0 in it")


def test_a_flip_within_chance_is_not_clear() -> None:
    one = [scored("a", 3, 4, 3, 4, 4, 3, 4, 3), scored("b", 4, 3, 4, 3, 3, 4, 3, 3)]
    other = [scored("a", 3, 4, 3, 4, 3, 3, 4, 3), scored("b", 4, 3, 4, 3, 4, 4, 3, 3)]
    (pair,) = swapped(one, other).pairs
    assert (pair.delta_al, pair.flips, pair.clear) == ((0.125, -0.125), True, False)
    assert list(swap_lines(swapped(one, other)))[-1].endswith("chance alone can do that")


def test_the_interval_of_tau_has_the_draws_of_profiles_in_it() -> None:
    sure = [scored("a", *[5.0] * 12), scored("b", *[3.0] * 12), scored("c", *[1.0] * 12)]
    assert swapped(sure, sure).ci == (1, 1)
    close = [scored("a", *[3, 4] * 6), scored("b", *[4, 3] * 5, 3, 3), scored("c", *[1.0] * 12)]
    found = swapped(close, sure)
    assert found.tau == 1
    assert found.ci is not None
    assert found.ci[0] == pytest.approx(1 / 3)


def test_equal_candidates_do_not_flip_and_leave_tau_open() -> None:
    found = swapped([scored("a", 3, 3), scored("b", 3, 3)], [scored("a", 4, 4), scored("b", 2, 2)])
    assert (found.tau, found.ci, [pair.flips for pair in found.pairs]) == (None, None, [False])
    assert "Kendall's tau of both rankings: undefined; 2 cases of 2 profiles" in list(swap_lines(found))


def test_only_cases_that_all_candidates_have_under_both_users_count() -> None:
    one = [scored("a", 5, 5, 1), scored("b", 4, 4, 4)]
    other = [scored("a", 5, 5), scored("b", 4, 4)]
    found = swapped(one, other)
    assert (found.n, found.al_mean[0]) == (2, (5, 4))


def test_a_candidate_without_any_score_stands_last() -> None:
    one = [scored("a", None, None), scored("b", 3, 3)]
    found = swapped(one, [scored("a", 1, 2), scored("b", 3, 3)])
    assert (found.rankings[0], found.al_mean[0], found.tau) == (("b", "a"), (3, None), None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([scored("a", 3)], [scored("a", 3)]),
        ([scored("a", 3), scored("b", 2)], [scored("a", 3), scored("c", 2)]),
        ([], []),
    ],
)
def test_fewer_than_two_candidates_under_both_users_have_no_ranking(
    one: list[CandidateScores], other: list[CandidateScores]
) -> None:
    assert simulator_swaps({"A": one, "B": other}) == ()


@pytest.mark.parametrize(
    ("case", "users", "split"),
    [
        ("p1", 2, ("p1", 1)),
        ("p1@2", 2, ("p1", 2)),
        ("p1#2@3", 3, ("p1#2", 3)),
        ("p1@2", 1, ("p1@2", 1)),
        ("me@home", 2, ("me@home", 1)),
        ("p1@3", 2, ("p1@3", 1)),
        ("p1@1", 2, ("p1@1", 1)),
        ("p1@02", 2, ("p1@02", 1)),
    ],
)
def test_a_case_says_by_which_user_it_was_met(case: str, users: int, split: tuple[str, int]) -> None:
    assert split_case(case, users) == split
    assert split_case(case_under("p1", 2), 2) == ("p1", 2)


def test_scores_are_told_apart_by_user_under_the_cases_that_all_share() -> None:
    both = CandidateScores(name="a", scores={"p": [1], "p@2": [2]}, profile_of={"p": "x", "p@2": "x"}, ended={"p@2": 1})
    found = scores_by_user([both], ["A", "B"])
    assert [each.scores for each in (*found["A"], *found["B"])] == [{"p": [1]}, {"p": [2]}]
    assert [each.ended for each in (*found["A"], *found["B"])] == [{}, {"p": 1}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with two users, and one with each of them."""
    folder = tmp_path_factory.mktemp("runs")
    ia.evaluate(folder / "both.db", user=USERS, **SETTINGS)
    for name, user in zip("ab", USERS, strict=True):
        ia.evaluate(folder / f"{name}.db", user=user, **SETTINGS)
    return folder


def texts(run: Path) -> dict[str, list[str]]:
    """What was said in each conversation."""
    with ia.open_run(run) as store:
        return {judged.tree.id: [node.text for node in judged.tree.nodes] for judged in store.judged_trees()}


def test_every_candidate_meets_every_case_under_each_user(runs: Path) -> None:
    both = texts(runs / "both.db")
    assert len(both) == 2 * 10 * 2
    assert texts(runs / "a.db").items() <= both.items()  # the first user's trees are those of a run with it alone
    assert both["oracle/heldout-0000@2"] != both["oracle/heldout-0000"]
    report = api.report(runs / "both.db")
    assert [each.n_cases for each in report.candidates] == [20, 20]
    assert [(each.user, each.conversations) for each in report.simulator.members] == [(user, 20) for user in USERS]
    assert report.simulator.user is None


def test_the_report_says_whether_the_ranking_stands(runs: Path, cli: Cli) -> None:
    (swap,) = json.loads(cli("report", runs / "both.db", "--json").out)["simulator_swap"]
    assert set(swap) == {"users", "rankings", "al_mean", "tau", "ci", "n", "n_profiles", "pairs"}
    assert set(swap["pairs"][0]) == {"a", "b", "delta_al", "ci", "flips", "clear", "shift", "shift_ci"}
    assert (swap["users"], swap["rankings"], swap["tau"]) == (USERS, [["oracle", "blind"]] * 2, 1)
    assert (swap["n"], swap["n_profiles"]) == (10, 2)
    shown = cli("report", runs / "both.db").out
    assert "Kendall's tau of both rankings: 1.00" in shown
    assert "User world:user?answers=0: 40 messages" in shown
    cli("report", runs / "both.db", "--html", "r.html", "--md", "r.md")
    for page in ("r.html", "r.md"):
        assert "no pair of candidates flips" in Path(page).read_text()
    assert json.loads(cli("report", runs / "a.db", "--json").out)["simulator_swap"] == []


def test_compare_says_it_of_evaluations_by_different_users(runs: Path, cli: Cli) -> None:
    ended = cli("compare", runs / "a.db", runs / "b.db")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0].startswith("| a - b")
    assert f"Ranking under user {USERS[1]}: oracle " in ended.out
    pairs = json.loads(cli("compare", runs / "a.db", runs / "b.db", "--json").out)
    assert {"a", "b", "delta_al"} <= set(pairs[0])
    (swap,) = json.loads(cli("compare", runs / "a.db", runs / "b.db", "--swap", "--json").out)
    assert (swap["users"], swap["n"], swap["tau"]) == (USERS, 10, 1)
    assert cli("compare", runs / "both.db", "--swap").code == 0


def test_compare_refuses_to_speak_of_rankings_under_one_user(runs: Path, cli: Cli) -> None:
    assert "Ranking" not in cli("compare", runs / "a.db").out
    ended = cli("compare", runs / "a.db", "--swap")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "no two candidates were met by two users" in ended.err


def test_one_user_stands_in_the_identity_by_its_name_alone(runs: Path, tmp_path: Path) -> None:
    ia.evaluate(tmp_path / "listed.db", user=USERS[:1], **{**SETTINGS, "limit": 1, "turns": 1})
    for run, user in ((tmp_path / "listed.db", USERS[0]), (runs / "a.db", USERS[0]), (runs / "both.db", USERS)):
        with ia.open_run(run) as store:
            assert store.run is not None
            assert store.run.identity["user"] == user


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "r.db", "--user", "world:user", "--config", "two.yaml"], None),
        (
            ["simulate", "r.db", "--config", "two.yaml"],
            "two.yaml: user: expected text, got ['world:user', 'world:user?answers=0']",
        ),
        (["evaluate", "r.db", "--user", "world:user", "--user", "world:user"], "world:user is named twice"),
        (
            [
                "evaluate",
                "r.db",
                "--user",
                "openai:m@http://127.0.0.1:1/v1",
                "--user",
                "openai:m@http://127.0.0.1:1/v1",
            ],
            "is named twice",
        ),
    ],
)
def test_users_that_cannot_be_are_refused_in_one_line(words: list[str], said: str | None, cli: Cli) -> None:
    Path("two.yaml").write_text('user: ["world:user", "world:user?answers=0"]\ntrees: 1\nturns: 1\n')
    ended = cli(*words, *([] if said is None else ["--candidate", "world:blind"]))
    assert ended.code == (0 if said is None else 2), ended.err
    if said is not None:
        assert (said in ended.err, ended.err.count("\n"), Path("r.db").exists()) == (True, 1, False)


def test_a_case_named_like_one_under_another_user_is_refused(tmp_path: Path, cli: Cli) -> None:
    cli("personas", "generate", "--out", "cases.jsonl", "--n", 1, "--heldout")
    cases = Path("cases.jsonl")
    cases.write_text(cases.read_text().replace('"heldout-0000"', '"me@2"'))
    two = [word for user in USERS for word in ("--user", user)]
    done = cli("evaluate", "e.db", "--cases", cases, *two, "--candidate", "world:blind")
    assert (done.code, "me@2" in done.err, Path("e.db").exists()) == (2, True, False)
    assert cli("evaluate", "e.db", "--cases", cases, "--candidate", "world:blind", "--turns", 1).code == 0


def test_more_cases_extend_a_run_with_two_users_and_a_dry_run_counts_both(tmp_path: Path) -> None:
    small = {**SETTINGS, "turns": 1, "user": USERS}
    ia.evaluate(tmp_path / "r.db", **{**small, "limit": 1})
    assert api.estimate("evaluation", tmp_path / "r.db", **{**small, "limit": 2}).trees == 4
    done = ia.evaluate(tmp_path / "r.db", **{**small, "limit": 2})
    assert (done.done, done.calls) == (8, 4 * 3)
    with pytest.raises(ia.ConfigError, match=r"user .* -> "):
        ia.evaluate(tmp_path / "r.db", **{**small, "user": USERS[:1]})


def test_shards_of_a_run_with_two_users_join_to_the_whole(tmp_path: Path) -> None:
    small = {**SETTINGS, "turns": 1, "limit": 3, "user": USERS}
    files = [tmp_path / f"s{number}.db" for number in (1, 2, 3)]
    for number, file in enumerate(files, start=1):
        ia.evaluate(file, shard=f"{number}/3", **small)
    part = api.merge(tmp_path / "part.db", files[:2])
    assert {shard: named.trees for shard, named in part.missing.items()} == {"3/3": 4}
    assert api.merge(tmp_path / "all.db", files).is_whole
