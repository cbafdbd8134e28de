"""The world's English: a closed vocabulary, talks for pre-training, personas."""

import asyncio
from pathlib import Path
from random import Random

import pytest
from world_talk import play

from interalign.errors import ConfigError
from interalign.models.world import (
    WorldPersonas,
    deciding_exercise,
    is_world_persona,
    long_talk,
    reading_exercise,
    short_talk,
    tokenize,
    vocabulary,
    world_model,
    world_personas,
)
from interalign.models.world.candidate import POLICIES
from interalign.models.world.people import person_of
from interalign.models.world.reading import read_reply, read_talk, read_user
from interalign.models.world.sentences import ASKS, PLAINS, USES, all_facts, candidate_sentences, user_sentences
from interalign.models.world.values import SLOTS, TOPICS, split_of, values_of
from interalign.tree import Message


def talks() -> list[tuple[Message, ...]]:
    rng = Random(0)
    scripted = [make(rng) for make in (reading_exercise, deciding_exercise, short_talk, long_talk) for _ in range(300)]
    played = [
        asyncio.run(play(persona, world_model(candidate), hints=hints))[0]
        for persona in world_personas("train", 10, 0)
        for candidate in ("blind", "average", "attentive", "oracle")
        for hints in (False, True)
    ]
    return [*scripted, *(tuple(talk) for talk in played)]


def test_every_talk_is_made_of_the_vocabulary_and_joins_back_exactly() -> None:
    known = set(vocabulary())
    for talk in talks():
        for message in talk:
            tokens = tokenize(message.content)
            assert "".join(tokens) == message.content
            assert known.issuperset(tokens)


def test_the_vocabulary_is_small_and_without_repeats() -> None:
    assert len(vocabulary()) == len(set(vocabulary())) < 320


@pytest.mark.parametrize("text", ["", " ", "a  b", "x\n\ny .", "caf\u00e9?! \N{PARTY POPPER}", "\ttab", "a ,b"])
def test_any_text_joins_back_exactly(text: str) -> None:
    assert "".join(tokenize(text)) == text


def test_no_value_word_occurs_in_a_template_or_in_two_values() -> None:
    values = [fact.value for fact in all_facts()]
    assert len(set(values)) == 72
    for sentence in (*user_sentences(), *candidate_sentences()):
        assert sum(token.strip() in values for token in tokenize(sentence)) <= 1


def test_no_sentence_of_a_candidate_is_broken_english_or_over_long() -> None:
    from interalign.models.world.english import is_english

    for sentence in candidate_sentences():
        assert is_english(sentence)
        assert len(read_reply(sentence).words) <= 13


def test_a_reading_exercise_tells_facts_and_the_reply_uses_each_of_them_once() -> None:
    for seed in range(100):
        message, reply = reading_exercise(Random(seed))
        told = read_talk([message.content])
        assert 2 <= len(told.told) <= 5
        assert sorted(read_reply(reply.content).claims) == sorted(told.told.values())
        assert read_reply(reply.content).claims[0].slot == TOPICS[told.topic or 0].slot


def test_a_deciding_exercise_uses_the_fact_that_matters_if_told_and_else_asks_for_it() -> None:
    used = 0
    for seed in range(300):
        message, reply = deciding_exercise(Random(seed))
        told, said = read_talk([message.content]), read_reply(reply.content)
        assert told.topic is not None
        slot = TOPICS[told.topic].slot
        assert (said.claims, said.asks) == (((told.told[slot],), ()) if slot in told.told else ((), (slot,)))
        used += slot in told.told
    assert 0.4 < used / 300 < 0.6


def test_a_use_and_a_question_are_the_same_words_up_to_where_the_value_would_stand() -> None:
    for slot in SLOTS:
        assert slot.question.startswith(f"{slot.own.removesuffix(' a')} w")  # which, what
    assert [use.split("{fact}")[0] for use in USES] == [ask.split("{question}")[0] for ask in ASKS]
    assert not {text.split()[0] for text in PLAINS} & {text.split()[0] for text in USES}


def test_short_talks_are_clean_and_half_of_their_turns_lack_the_fact() -> None:
    lacking = turns = 0
    for seed in range(300):
        talk = short_talk(Random(seed))
        assert 4 <= len(talk) / 2 <= 8
        for end in range(0, len(talk), 2):
            state = read_talk([message.content for message in talk[: end + 1 : 2]])
            reply, slot = read_reply(talk[end + 1].content), TOPICS[state.topic or 0].slot
            assert reply.claims == ((state.told[slot],) if slot in state.told else ())
            assert reply.asks == (() if slot in state.told else (slot,))
            lacking += slot not in state.told
            turns += 1
    assert 0.4 < lacking / turns < 0.6


def test_long_talks_hold_the_good_replies_as_the_share_asked_for() -> None:
    def share(good: float) -> float:
        uses = [0, 0]
        for seed in range(100):
            talk = long_talk(Random(seed), good=good)
            assert len(talk) == 20
            for end in range(0, 20, 2):
                state = read_talk([message.content for message in talk[: end + 1 : 2]])
                fact = state.told.get(TOPICS[state.topic or 0].slot)
                if fact is not None:
                    uses[fact in read_reply(talk[end + 1].content).claims] += 1
        return uses[1] / sum(uses)

    assert share(1.0) == 1.0
    assert share(0.4) == pytest.approx(0.4 + 0.6 * 0.1, abs=0.06)


def test_pretraining_talks_hold_values_of_both_splits() -> None:
    talk = [fact for seed in range(50) for fact in read_talk([reading_exercise(Random(seed))[0].content]).told.values()]
    assert {split_of(fact) for fact in talk} == {"train", "heldout"}


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_personas_and_everything_said_with_them_keep_to_their_split(split: str) -> None:
    for persona in world_personas(split, 12, 1):
        assert {split_of(fact) for fact in person_of(persona).facts} == {split}
        for candidate in ("average", "attentive"):
            talk, _ = asyncio.run(play(persona, world_model(candidate)))
            for index, message in enumerate(talk):
                named = read_reply(message.content).claims if index % 2 else ()
                heard = [m.fact for m in read_user(message.content).meanings if m.fact] if not index % 2 else []
                assert {split_of(fact) for fact in (*named, *heard)} <= {split}


def test_more_personas_start_with_the_same_ones() -> None:
    assert world_personas("train", 50, 7)[:20] == world_personas("train", 20, 7)
    assert world_personas("train", 20, 7) != world_personas("train", 20, 8)


def test_a_persona_is_the_same_whether_it_is_asked_for_alone_or_with_all_others() -> None:
    every, lazy = world_personas("heldout", 12, 3, per_profile=4), WorldPersonas("heldout", 12, 3, per_profile=4)
    assert [lazy[place] for place in (5, -1)] == [every[5], every[11]]
    assert lazy[2:9:3] == every[2:9:3]
    assert list(lazy) == list(every)
    with pytest.raises(IndexError):
        lazy[12]


def test_personas_are_readable_and_known_to_the_world() -> None:
    first = world_personas("heldout", 1, 0)[0]
    assert first.id == "heldout-0000"
    assert first.source == "world"
    assert len(first.profile) == len(SLOTS) == 6
    assert is_world_persona(first)
    assert is_world_persona(first.model_copy(update={"source": "file", "profile": first.profile[::-1]}))


def test_profiles_are_distinct_unless_personalities_share_them() -> None:
    assert len({persona.profile for persona in world_personas("heldout", 729, 0)}) == 729
    shared = world_personas("heldout", 40, 0, per_profile=4)
    assert len({persona.profile for persona in shared}) == 10
    assert len({(persona.profile, persona.personality) for persona in shared}) == 40


def test_more_personas_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="the world has 729 heldout profiles"):
        world_personas("heldout", 730, 0)
    with pytest.raises(ConfigError, match="per_profile is 9"):
        world_personas("heldout", 9, 0, per_profile=9)


def test_the_page_about_the_world_lists_its_values_and_policies() -> None:
    page = (Path(__file__).parents[1] / "docs" / "world.md").read_text(encoding="utf-8")
    for index in range(len(SLOTS)):
        train, heldout = (" ".join(values_of(index, split)) for split in ("train", "heldout"))
        topics = ", ".join(topic.phrase for topic in TOPICS if topic.slot == index)
        assert f"| {topics} | {train} | {heldout} |" in page
    for name, policy in POLICIES.items():
        assert f"| `world:{name}` | {' | '.join(f'{number:g}' for number in policy[:5])} |" in page
