"""Rewards: replies scored by a judge in a run file of their own, missing where there is no score."""

from pathlib import Path

import pytest
from calls_seen import calls_of, trees_of

import interalign as ia
from interalign import api
from interalign.config import RewardSettings
from interalign.errors import ConfigError, DataError, StopError
from interalign.people import load_personas
from interalign.run.reward_settings import reward_of
from interalign.training.grpo import reward_function
from interalign.training.reward import Sampled
from interalign.training.rows import TrainingRow
from interalign.tree import Message

ANN = ia.Persona(id="ann", profile=("Ann keeps bees.",), personality="Dry.")
BO = ia.Persona(id="bo", profile=("Bo teaches maths.",), personality="Loud.")
WORLD = load_personas("world", split="train", n=1, seed=0)[0]
HI, TALK = ("Hi.",), ("Hi.", "Yes?", "Tea.")


def messages(*texts: str, system: str | None = None) -> tuple[Message, ...]:
    talk = [Message(role=("user", "assistant")[place % 2], content=text) for place, text in enumerate(texts)]
    return (*([Message(role="system", content=system)] if system else []), *talk)


def row(*texts: str, persona: str | None = "ann", system: str | None = None, number: int = 1) -> TrainingRow:
    return TrainingRow(number, messages(*texts, system=system), (), persona=persona)


def sampled(*replies: str, prompt=HI, persona: str = "ann", step: int = 0, number: int = 0) -> Sampled:
    return Sampled(step, number, persona, messages(*prompt), replies)


@pytest.fixture
def judged(tmp_path: Path):
    """The reward of a judge, for rows about Ann and Bo."""
    (tmp_path / "people.jsonl").write_text("".join(f"{each.model_dump_json()}\n" for each in (ANN, BO, WORLD)))

    def by(*judges: str, lookahead: int = 0, **runtime):
        user = "reward_judges:Echo" if lookahead else None
        people = str(tmp_path / "people.jsonl")
        chosen = RewardSettings(judge=judges, personas=people, lookahead=lookahead, user=user)
        return reward_of(chosen, "base", tmp_path / "rows.jsonl", tmp_path / "out.db", ia.Runtime(**runtime))

    return by


ROWS = [row(*HI), row(*TALK, persona="bo", number=2)]


def test_every_reply_gets_its_score_and_one_that_says_nothing_or_has_none_is_missing(judged) -> None:
    with judged("reward_judges:Length").opened(ROWS) as score:
        found = score([sampled("a", "abc", "", "x", "abcdefg"), sampled("ab", "  ", prompt=TALK, persona="bo")])
    assert found == [[1, 3, None, None, 5], [2, None]]


def test_a_panel_gives_the_mean_of_the_judges_that_could_score(judged) -> None:
    with judged("reward_judges:Length", "reward_judges:Three").opened(ROWS) as score:
        assert score([sampled("a", "abcd", "x")]) == [[2, 3.5, 3]]


def test_a_group_that_the_judge_cannot_be_asked_about_is_missing_and_the_others_are_not(judged) -> None:
    with judged("reward_judges:Fails").opened(ROWS) as score:
        assert score([sampled("a", "z"), sampled("b", number=1)]) == [[None, None], [4]]


def test_the_judge_sees_the_persona_and_the_conversation_and_each_group_is_a_tree_of_a_run(judged, tmp_path) -> None:
    with judged("reward_judges:Three").opened(ROWS) as score:
        score([sampled("So!", "", "No.", prompt=TALK, persona="bo", step=7, number=2)])
    (tree,) = trees_of(tmp_path / "out.db")
    assert tree.tree.id.startswith("s000007-002-")
    assert tree.tree.persona == "bo"
    assert [(node.id, node.parent, node.text, node.by) for node in tree.tree.nodes] == [
        ("u", None, "Hi.", "user"),
        ("1", "u", "Yes?", "before"),
        ("1/u", "1", "Tea.", "user"),
        ("1/1", "1/u", "So!", "policy"),
        ("1/3", "1/u", "No.", "policy"),
    ]
    assert [score.replies for score in tree.scores] == [("bo: Tea.",)] * 2
    assert ia.export(tmp_path / "out.db", tmp_path / "rows", format="messages") == 2
    assert "policy" in api.report_json(api.report(tmp_path / "out.db"))


def test_the_same_replies_at_the_same_step_are_not_judged_again_and_others_are(judged, tmp_path) -> None:
    for replies, calls in ((("a", "b"), 2), (("a", "b"), 2), (("a", "c"), 4)):
        with judged("reward_judges:Length").opened(ROWS) as score:
            assert score([sampled(*replies)]) == [[1, 1]]
        assert len(calls_of(tmp_path / "out.db")) == calls


def test_a_system_message_is_part_of_the_run_and_not_of_what_the_judge_reads(judged, tmp_path) -> None:
    with judged("reward_judges:Three").opened([row(*HI, system="@Be warm.")]) as score:
        score([Sampled(0, 0, "ann", messages("Hi.", system="@Be warm."), ("So!",))])
    (tree,) = trees_of(tmp_path / "out.db")
    assert (tree.tree.system, tree.scores[0].replies) == ("@Be warm.", ("ann: Hi.",))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(*HI), row(*HI, persona="cy", number=2)], "rows.jsonl: 1 of 2"),
        ([row(*HI, persona="cy")], "persona 'cy' is not in "),
        ([row(*HI, persona=None)], "persona None is not in "),
        ([row(*HI), row(*HI, system="Be warm.", number=2)], "its system message is not the first row's"),
        ([row(*HI, system="Be."), row(*HI, number=2)], "its system message is not the first row's"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_and_leave_no_run_file(judged, tmp_path, rows, said: str) -> None:
    with pytest.raises(DataError) as error, judged("reward_judges:Three").opened(rows):
        pass
    assert said in str(error.value).replace(", line 2:", ": 1 of 2")
    assert not (tmp_path / "out.db").exists()


def test_a_judge_that_is_not_there_and_a_training_that_is_refused_leave_no_run_file(judged, tmp_path) -> None:
    with pytest.raises(ConfigError, match="reward_judges:Nobody"), judged("reward_judges:Nobody").opened(ROWS):
        pass
    with pytest.raises(ConfigError, match="no such row"), judged("reward_judges:Three").opened(ROWS):
        raise ConfigError("no such row")
    assert not (tmp_path / "out.db").exists()


def test_another_judge_for_the_same_run_file_is_refused(judged) -> None:
    with judged("reward_judges:Three").opened(ROWS) as score:
        score([sampled("a")])
    with pytest.raises(ConfigError, match="other settings"), judged("reward_judges:Length").opened(ROWS):
        pass


def test_a_budget_stops_the_scoring_and_a_larger_one_goes_on(judged, tmp_path) -> None:
    def score_twenty(score) -> None:
        for step in range(20):
            score([sampled("I see.", step=step, persona=WORLD.id)])

    rows = [row(*HI, persona=WORLD.id)]
    with pytest.raises(StopError), judged("world:judge", max_tokens=1500).opened(rows) as score:
        score_twenty(score)
    assert 0 < len(calls_of(tmp_path / "out.db")) < 20
    with judged("world:judge", max_tokens=100_000).opened(rows) as score:
        score_twenty(score)
    assert len(calls_of(tmp_path / "out.db")) == 20


def test_the_worlds_judge_is_refused_for_other_peoples_personas(judged, tmp_path) -> None:
    refused = pytest.raises(ConfigError, match="--judge world:judge understands only the embedded world's personas")
    with refused, judged("world:judge").opened(ROWS):
        pass


def test_trls_reward_function_hands_on_groups_numbered_within_a_step_and_what_is_missing() -> None:
    asked = []

    def score(groups):
        asked.extend(groups)
        return [[None if reply == "b" else 2.0 for reply in group.replies] for group in groups]

    class State:
        global_step = 3

    score.lookahead = 0
    function, prompts = reward_function(score, 2, lambda talks: []), [messages(*HI)] * 2 + [messages(*TALK)] * 2
    said = [[{"role": "assistant", "content": text}] for text in ("a", "b", "c", "d")]
    more = {"persona": ["ann", "ann", "bo", "bo"], "completion_ids": [], "trainer_state": State, "log_metric": None}
    prompts = [[message.model_dump() for message in prompt] for prompt in prompts]
    assert function(prompts=prompts, completions=said, **more) == [2.0, None, 2.0, 2.0]
    assert asked == [
        Sampled(3, 0, "ann", messages(*HI), ("a", "b")),
        Sampled(3, 1, "bo", messages(*TALK), ("c", "d")),
    ]
    function(prompts=prompts[:2], completions=said[:2], **more)
    State.global_step = 4
    function(prompts=prompts[:2], completions=said[:2], **more)
    assert [(group.step, group.number) for group in asked[2:]] == [(3, 2), (4, 0)]


# Looking ahead


def test_the_user_answers_every_reply_that_can_be_read_and_one_that_it_cannot_answer_has_no_further_turn(
    judged,
) -> None:
    with judged("reward_judges:Three", lookahead=1).opened(ROWS) as score:
        assert score.lookahead == 1
        asked = [sampled("So!", "", "x", prompt=TALK, persona="bo")]
        assert score.user_turns(asked) == [["bo, turn 3, 4 said: So!", None, None]]
        ahead = [asked[0]._replace(ahead=(("And?", "Well."), (), ()))]
        assert score.user_turns(ahead) == [["bo, turn 4, 6 said: Well.", None, None]]


def test_a_reply_is_worth_the_mean_of_its_score_and_those_after_it_that_there_are(judged, tmp_path) -> None:
    one = sampled("ab", "abc", "x", "abcd", prompt=TALK, persona="bo")
    ahead = (("And?", "abcd", "Hm?", "a"), ("And?", "x"), ("And?", "abcde"), ())
    with judged("reward_judges:Length", lookahead=2).opened(ROWS) as score:
        assert score([one._replace(ahead=ahead)]) == [[(2 + 4 + 1) / 3, 3, None, 4]]
    (tree,) = trees_of(tmp_path / "out.db")
    assert {(node.id, node.parent, node.turn, node.text) for node in tree.tree.nodes[-8:]} == {
        ("1/1/u", "1/1", 3, "And?"),
        ("1/1/1", "1/1/u", 3, "abcd"),
        ("1/1/1/u", "1/1/1", 4, "Hm?"),
        ("1/1/1/1", "1/1/1/u", 4, "a"),
        ("1/2/u", "1/2", 3, "And?"),
        ("1/2/1", "1/2/u", 3, "x"),
        ("1/3/u", "1/3", 3, "And?"),
        ("1/3/1", "1/3/u", 3, "abcde"),
    }


def test_the_policy_answers_the_user_in_the_turns_ahead() -> None:
    asked, talks = [], []

    class Score:
        lookahead = 2

        def __call__(self, groups):
            asked.extend(groups)
            return [[1.0] * len(group.replies) for group in groups]

        def user_turns(self, groups):
            return [[None if reply == "b" else f"{reply}?" for reply in group.replies] for group in groups]

    def policy(given):
        talks.append([[message.content for message in talk] for talk in given])
        return [f"<think>Hm.</think>{len(talks)}" if talk[1].content == "a" else " " for talk in given]

    said = [[{"role": "assistant", "content": text}] for text in ("a", "b", "c")]
    prompts = [[message.model_dump() for message in messages(*HI)]] * 3
    more = {"persona": ["ann"] * 3, "completion_ids": [], "trainer_state": type("State", (), {"global_step": 0})}
    assert reward_function(Score(), 3, policy)(prompts=prompts, completions=said, **more) == [1.0] * 3
    assert talks == [
        [["Hi.", "a", "a?"], ["Hi.", "c", "c?"]],
        [["Hi.", "a", "a?", "1", "a?"], ["Hi.", "c", "c?"]],
    ]
    assert [group.ahead for group in asked] == [(("a?", "1", "a?", "2"), (), ())]


@pytest.mark.parametrize(
    ("given", "said"), [({"lookahead": 1}, "name a model with --user"), ({"user": "world:user"}, "without --lookahead")]
)
def test_a_user_and_turns_ahead_go_together(given, said: str, tmp_path: Path) -> None:
    chosen = RewardSettings(judge=("world:judge",), **given)
    with pytest.raises(ConfigError, match=said):
        reward_of(chosen, "base", tmp_path / "rows.jsonl", tmp_path / "out.db", ia.Runtime())
