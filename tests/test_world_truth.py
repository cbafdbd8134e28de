"""The true score, computed by hand."""

import pytest
from world_talk import PERSON, RIGHT, TOLD, UNTOLD, WARM, ask, said, with_last

from interalign.errors import ConfigError
from interalign.models.world import is_world_persona, true_score
from interalign.personas import Persona


def score(reply: str, talk: list[object] | None = None, persona: Persona = PERSON) -> float:
    return true_score(persona, TOLD if talk is None else talk, reply)  # type: ignore[arg-type]


def test_the_right_fact_in_the_right_style_scores_five() -> None:
    assert score(RIGHT) == 5


def test_the_right_fact_scores_the_same_before_it_was_told() -> None:
    assert score(RIGHT, UNTOLD) == 5


def test_nothing_personal_in_the_right_style_scores_its_style_alone() -> None:
    assert score("Just plan the walk in the way most people do.") == pytest.approx(1 + 4 * 0.4)


def test_asking_for_the_untold_fact_earns_a_little() -> None:
    assert score("For the walk, which pet do you have?", UNTOLD) == pytest.approx(1 + 4 * (0.6 * 0.2 + 0.4))


def test_asking_for_what_was_told_costs() -> None:
    assert score("For the walk, which pet do you have?") == pytest.approx(1 + 4 * (0.6 * -0.5 + 0.4))


def test_a_wrong_value_costs_as_much_as_the_floor_allows() -> None:
    assert score("Since you have a dog, plan the walk around that.") == pytest.approx(1 + 4 * (0.6 * -0.5 + 0.4))


def test_a_right_fact_beside_a_wrong_one_is_worth_nothing() -> None:
    assert score("You have a cat and a dog, so plan the walk.") == pytest.approx(1 + 4 * 0.4)


@pytest.mark.parametrize(
    ("reply", "content"),
    [
        ("You have a cat and live in Paris, so plan the walk to fit.", 0.5),
        ("You have a cat, so for the walk, think of the cat.", 0.5),
        ("You have a cat, so plan the walk; which city do you live in?", 0.75),
    ],
)
def test_irrelevant_facts_repeats_and_further_questions_cost(reply: str, content: float) -> None:
    words = len(reply.replace(";", "").split())
    long = max(0, words - 12) / 3
    assert score(reply) == pytest.approx(1 + 4 * (0.6 * content + 0.4 * (3 - long) / 3))


def test_each_feature_of_style_is_a_third() -> None:
    warm = PERSON.model_copy(update={"personality": WARM})
    assert score(RIGHT, persona=warm) == pytest.approx(1 + 4 * 0.6)
    assert score(RIGHT.replace(".", "!"), persona=warm) == pytest.approx(1 + 4 * (0.6 + 0.4 / 3))
    assert score(RIGHT + " \N{PARTY POPPER}", persona=warm) == pytest.approx(1 + 4 * (0.6 + 0.4 / 3))
    assert score(RIGHT + " It is easier than it looks! \N{PARTY POPPER}", persona=warm) == 5


def test_off_the_topic_counts_half() -> None:
    assert score("Since you have a cat, plan dinner around that.") == 3


@pytest.mark.parametrize("reply", ["", " ", "cat", "Any idea for the walk? I have a cat. Any idea for the walk?"])
def test_an_empty_reply_and_an_echo_score_one(reply: str) -> None:
    assert score(reply) == 1


def test_an_echo_of_an_earlier_message_scores_one_too() -> None:
    talk = [*TOLD, said("assistant", "Yes."), said("user", "What would you do about the walk?")]
    assert score("I have a cat. Any idea for the walk?", talk) == 1


def test_listing_every_keyword_scores_one() -> None:
    assert score("chess cat dog parrot vegan kosher nurse Paris Oslo jazz opera walk dinner trip party") < 1.5


def test_everything_used_and_everything_asked_scores_one() -> None:
    used = "You are into chess, have a cat, eat vegan food, work as a nurse, live in Paris and listen to jazz."
    asked = "Which hobby, pet, food, job, city and music do you like for the walk?"
    assert score(f"{used} {asked}") < 1.5


def test_padding_does_not_pay_even_for_those_who_like_it_long() -> None:
    warm = PERSON.model_copy(update={"personality": WARM})
    long = "Since you have a cat, plan the walk around that! It is easier than it looks at first! \N{PARTY POPPER}"
    filler = "It is easier than it looks at first! "
    assert score(long, persona=warm) == 5
    assert score(long + filler * 3, persona=warm) == 1


@pytest.mark.parametrize(("words", "gate"), [(40, 1), (60, 0.5), (70, 0.25), (80, 0), (200, 0)])
def test_past_forty_words_the_gate_falls_to_reach_zero_at_eighty(words: int, gate: float) -> None:
    warm = PERSON.model_copy(update={"personality": WARM})
    parts = [f"w{number}" if number % 4 else "so" for number in range(words)]
    reply = " ".join(f"Since you have a cat plan the walk so {' '.join(parts)}".split()[:words])
    assert score(reply, persona=warm) == pytest.approx(1 + 4 * gate * (0.6 + 0.4 / 3))


def test_telegraph_style_counts_half() -> None:
    assert score("cat walk plan nice good") == pytest.approx(3)


def test_function_words_strewn_into_keywords_count_as_telegraph_style() -> None:
    assert score("cat the of walk and the to plan nice.") == pytest.approx(3)


def test_naming_choices_in_the_question_itself_is_no_claim() -> None:
    asked = "For the walk, have you a pet, dog or parrot?"
    assert score(asked, UNTOLD) == pytest.approx(1 + 4 * (0.6 * 0.2 + 0.4))


def test_a_telegraph_never_beats_the_sentence_with_the_same_fact() -> None:
    for telegraph in ("cat walk plan good for you to do.", "in plan cat it walk nice good.", "walk cat yes you are."):
        assert score(telegraph) <= score(RIGHT)


def test_the_judge_says_the_true_score_rounded_half_up() -> None:
    for reply, expected in [(RIGHT, 5), ("Just plan the walk in the way most people do.", 3), ("", 1)]:
        verdict = ask("judge", with_last(TOLD, "judge_score", persona=PERSON, reply=reply))
        assert verdict.endswith(f"\nScore: {expected}")


def test_the_judge_reads_odd_line_breaks_as_the_true_score_does() -> None:
    reply = "Which pet do you have\u2028for the walk?\rYou\x0bhave a cat."
    verdict = ask("judge", with_last(TOLD, "judge_score", persona=PERSON, reply=reply))
    assert verdict.endswith(f"Score: {int(score(reply) + 0.5)}")


def test_a_persona_of_somebody_elses_is_refused_by_name() -> None:
    stranger = Persona(id="ann", profile=("Likes tea.",), personality="Kind.")
    assert not is_world_persona(stranger)
    with pytest.raises(ConfigError, match="'ann' is not one of the world's"):
        score(RIGHT, persona=stranger)


def test_a_transcript_that_ends_with_the_assistant_cannot_be_scored() -> None:
    with pytest.raises(ConfigError, match="only after a message of the user"):
        score(RIGHT, [*TOLD, said("assistant", "Yes.")])
