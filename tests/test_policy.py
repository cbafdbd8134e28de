"""Branching policies: which replies are continued."""

import asyncio
from collections import Counter

import pytest
from judged_trees import reply, score, user, verdict

import interalign as ia
from interalign.config import SimulationSettings, build
from interalign.graphs.policy import beam, branching_policy, caterpillar, full, standing
from interalign.graphs.turn import Conversation, Turn

PERSONA = ia.Persona(id="p", profile=("I keep bees.",), personality="Dry.")


def talk(seed: int = 0, case: str = "t0") -> Conversation:
    return Conversation(tree="t0", case=case, seed=seed, persona=PERSONA, turns=3)


def turn(at: str = "", replies: int = 3, scores: dict[str, int | None] | None = None, verdicts=()) -> Turn:
    """A turn below reply `at` with so many replies, numbered from 1."""
    prefix = f"{at}/" if at else ""
    number = prefix.count("/") + 1
    asked = user(f"{prefix}u", "?", parent=at or None, turn=number)
    nodes = tuple(reply(f"{prefix}{n}", "!", parent=asked.id, turn=number) for n in range(1, replies + 1))
    said = tuple(score(node, value) for node, value in (scores or {}).items())
    return Turn(user=asked, replies=nodes, verdicts=tuple(verdicts), scores=said, annotations=())


def ids(continued) -> list[str]:
    """What the policy continues, by id."""
    return [node.id for node in asyncio.run(continued)]


def test_full_continues_every_reply_of_the_level() -> None:
    assert ids(full(talk(), [turn("1", 2), turn("2", 2)])) == ["1/1", "1/2", "2/1", "2/2"]


def test_caterpillar_continues_one_reply_whatever_the_judge_said() -> None:
    scored = turn(scores={"1": 5, "2": 1, "3": 1})
    taken = Counter(ids(caterpillar(talk(seed), [scored]))[0] for seed in range(300))
    assert set(taken) == {"1", "2", "3"}
    # Fair: 100 each are expected, with a standard deviation of 8.
    assert all(70 <= count <= 130 for count in taken.values())


def test_what_caterpillar_takes_depends_on_seed_case_and_place_alone() -> None:
    assert ids(caterpillar(talk(3), [turn()])) == ids(caterpillar(talk(3), [turn(scores={"2": 5})]))
    places = {tuple(ids(caterpillar(talk(3, case), [turn()]))) for case in ("t0", "t1", "t2", "t3", "t4", "t5")}
    assert len(places) > 1
    deeper = {ids(caterpillar(talk(3), [turn(at)]))[0].rpartition("/")[2] for at in ("1", "2", "3", "1/1", "1/2")}
    assert len(deeper) > 1


def test_beam_continues_the_best_of_the_whole_level_in_stored_order() -> None:
    level = [turn("1", scores={"1/1": 2, "1/2": 5, "1/3": 1}), turn("2", scores={"2/1": 4, "2/2": 3, "2/3": None})]
    assert ids(beam(1)(talk(), level)) == ["1/2"]
    assert ids(beam(3)(talk(), level)) == ["1/2", "2/1", "2/2"]
    assert ids(beam(99)(talk(), level)) == ["1/1", "1/2", "1/3", "2/1", "2/2", "2/3"]


def test_a_reply_whose_score_is_missing_comes_last_and_is_no_three() -> None:
    scored = turn(scores={"1": 2, "2": None, "3": 1})
    assert standing(scored) == {"1": 2.0, "2": float("-inf"), "3": 1.0}
    assert ids(beam(2)(talk(), [scored])) == ["1", "3"]


def test_comparisons_count_as_wins_minus_losses_and_ties_and_missing_verdicts_for_nobody() -> None:
    compared = turn(verdicts=[verdict("1", "2", "A", "B"), verdict("1", "3", "A", "A"), verdict("2", "3", None, "A")])
    assert standing(compared) == {"1": 1.0, "2": -1.0, "3": 0.0}
    assert ids(beam(1)(talk(), [compared])) == ["1"]


def test_ties_in_a_beam_fall_at_random_but_always_the_same_way() -> None:
    level = [turn(scores={"1": 4, "2": 4, "3": 4})]
    taken = [ids(beam(1)(talk(seed), level))[0] for seed in range(200)]
    assert set(taken) == {"1", "2", "3"}
    assert taken == [ids(beam(1)(talk(seed), level))[0] for seed in range(200)]


def test_best_continues_the_reply_that_the_judge_prefers() -> None:
    best = branching_policy("best")
    assert ids(best(talk(), [turn(verdicts=[verdict("1", "2", "B", "A"), verdict("2", "3", "A", "B")])])) == ["2"]
    assert ids(best(talk(), [turn(scores={"1": 2, "2": None, "3": 4})])) == ["3"]
    assert {ids(best(talk(seed), [turn()]))[0] for seed in range(50)} == {"1", "2", "3"}


def test_policies_are_known_by_name() -> None:
    assert branching_policy("caterpillar") is caterpillar
    assert branching_policy("full") is full
    assert ids(branching_policy("beam:2")(talk(), [turn(scores={"1": 1, "2": 2, "3": 3})])) == ["2", "3"]


@pytest.mark.parametrize("name", ["beam", "beam:0", "beam:-1", "beam:2.5", "greedy", "Full", ""])
def test_a_policy_that_does_not_exist_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(ia.ConfigError, match=r"policy: .* is none of caterpillar, full, beam:K"):
        build(SimulationSettings, {"policy": name})


def test_a_full_tree_that_cannot_be_grown_is_refused_with_its_size() -> None:
    assert build(SimulationSettings, {"policy": "full", "branch": 2, "turns": 16}).turns == 16
    with pytest.raises(ia.ConfigError, match=r"131,072 leaves a tree; use fewer turns or beam:K"):
        build(SimulationSettings, {"policy": "full", "branch": 2, "turns": 17})
