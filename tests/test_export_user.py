"""`export --format user`: every user message once, after exactly what the user's seat was sent before it."""

import json
from pathlib import Path
from typing import Any

import loopback
import pytest
from calls_seen import calls_of, trees_of
from conftest import Ended
from judged_trees import P0, reply, said, seats, tree, two_judged_turns, user

import interalign as ia
from interalign import api
from interalign.errors import DataError
from interalign.records import RunRecord
from interalign.training.data import read_rows
from interalign.training.export import rows
from interalign.training.row_choice import at_most, refuse_held_out
from interalign.training.row_filters import RowFilters
from interalign.tree import Annotation, JudgedTree

BEGIN = {"role": "user", "content": "(The chat begins. Write your first message.)"}
PERSONA = {"id": "ann", "profile": ["I keep bees."], "personality": "Dry."}


async def candidate(ask: ia.CandidateAsk) -> ia.Said:
    """Says something else for each sibling."""
    return ia.Said(text=f"Reply {ask.at.node}.")


class Judge:
    """Prefers the reply shown first."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        """The one that is A."""
        return ia.ChoiceOpinion(value="A", replies=("x",))


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def exported(run: Path | str, **options: Any) -> list[dict[str, Any]]:
    ia.export(run, "rows.jsonl", format="user", **options)
    return [json.loads(line) for line in Path("rows.jsonl").read_bytes().splitlines()]


def card() -> dict[str, Any]:
    return json.loads(Path("rows.jsonl.card.json").read_text())


def talk(row: dict[str, Any]) -> list[tuple[str, str]]:
    """The row's messages after the persona's prompt."""
    return [(message["role"], message["content"]) for message in row["messages"][1:]]


def targets(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Node and text of what each row teaches."""
    return [(row["node"], row["messages"][-1]["content"]) for row in found]


def of_tree(judged: JudgedTree, *, run: RunRecord | None = None, **options: Any) -> list[dict[str, Any]]:
    return list(rows([judged], "user", seats=seats(run), **options))


# The rows of a tree


def test_a_row_is_the_personas_prompt_the_opening_and_the_talk_with_the_roles_exchanged() -> None:
    first, second = of_tree(two_judged_turns())
    assert first["messages"][0]["role"] == "system"
    assert "\n| I keep bees.\n" in first["messages"][0]["content"]
    assert first["messages"][0]["content"].endswith("\n| Dry and short.")
    assert first["messages"][1:] == [BEGIN, {"role": "assistant", "content": "Hi."}]
    assert second["messages"] == [
        *first["messages"],
        {"role": "user", "content": "Yes?"},
        {"role": "assistant", "content": "I like tea."},
    ]
    assert list(second) == ["messages", "tree", "node", "turn", "persona"]
    assert [second[name] for name in ("tree", "node", "turn", "persona")] == ["t0", "2u", 2, "p0"]


def test_every_user_message_of_a_branching_tree_is_the_end_of_one_row() -> None:
    grown = tree(
        user("u", "Hi."),
        reply("1", "One.", parent="u"),
        reply("2", "Two.", parent="u"),
        user("1/u", "To one.", parent="1", turn=2),
        reply("1/1", "More.", parent="1/u", turn=2),
        user("2/u", "To two.", parent="2", turn=2),
        reply("2/1", "More yet.", parent="2/u", turn=2),
    )
    found = of_tree(said(grown))
    assert targets(found) == [("u", "Hi."), ("1/u", "To one."), ("2/u", "To two.")]
    assert [talk(row)[2:-1] for row in found] == [[], [("user", "One.")], [("user", "Two.")]]


def test_a_cut_user_message_is_learnt_only_if_asked_for_and_stays_in_the_talk() -> None:
    judged = two_judged_turns().model_copy(update={"cut": frozenset({"u", "1"})})
    assert targets(of_tree(judged)) == [("2u", "I like tea.")]
    assert ("assistant", "Hi.") in talk(of_tree(judged)[0])
    assert targets(of_tree(judged, keep_cut=True)) == [("u", "Hi."), ("2u", "I like tea.")]


def test_a_cut_reply_takes_no_user_message_away() -> None:
    judged = two_judged_turns().model_copy(update={"cut": frozenset({"1", "2", "2/1", "2/2"})})
    assert targets(of_tree(judged)) == [("u", "Hi."), ("2u", "I like tea.")]


def test_what_follows_a_leaking_reply_is_left_out_and_the_message_it_answers_is_not() -> None:
    leaks = tuple(Annotation(node=node, name="leak", by="interalign", value=["x"]) for node in ("1", "2"))
    judged = two_judged_turns().model_copy(update={"annotations": leaks})
    assert targets(of_tree(judged)) == [("u", "Hi.")]
    assert targets(of_tree(judged, keep_leaks=True)) == [("u", "Hi."), ("2u", "I like tea.")]


def test_a_message_with_a_finding_and_what_follows_is_left_out_if_asked_for() -> None:
    grown = tree(
        user("u", "Hi."),
        reply("1", "Hello!", parent="u"),
        user("1/u", "As an AI language model, I am happy to assist you today!", parent="1", turn=2),
        reply("1/1", "Thanks.", parent="1/u", turn=2),
        user("1/1/u", "What now?", parent="1/1", turn=3),
    )
    filters = RowFilters(drop_audited=True, persona_of=lambda _: P0)
    assert targets(of_tree(said(grown), filters=filters)) == [("u", "Hi.")]
    assert filters.left_out["messages"] == 1
    assert len(of_tree(said(grown))) == 3


def test_a_blank_message_is_not_learnt_and_one_without_a_reply_is() -> None:
    grown = tree(user("u", " \n"), reply("1", "Hello?", parent="u"), user("1/u", "Sorry.", parent="1", turn=2))
    assert targets(of_tree(said(grown))) == [("1/u", "Sorry.")]


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    grown = tree(user("u", "half \ud83d"), reply("1", "Hm.", parent="u"))
    assert targets(of_tree(said(grown))) == [("u", "half \ufffd")]


def test_a_tree_whose_persona_is_not_known_gives_no_row_and_is_counted() -> None:
    known = seats()
    strangers = [said(tree(user("u", "Hi."), persona=name)) for name in ("p0", "", "p9")]
    assert [row["persona"] for row in rows(strangers, "user", seats=known)] == ["p0"]
    assert known.unknown == 2
    assert list(rows(strangers, "user")) == []


# What the seat was sent


def test_a_row_is_byte_for_byte_what_the_server_was_sent_and_what_it_said_turn_by_turn() -> None:
    Path("own").mkdir()
    Path("own/user.jinja").write_text("Be {{ persona.personality }}\n{{ persona.profile | quoted }}\nÄ 😀")

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        turn = sum(message["role"] == "assistant" for message in body["messages"]) + 1
        return loopback.completion(f"  <think>Hm.</think>Turn {turn}:\n\n é \u2028 {body['messages'][-1]['content']}\n")

    people("ann")
    with loopback.serving(answer) as server:
        ia.simulate(
            "run.db", trees=1, turns=3, branch=2, policy="full", personas="people.jsonl", user="openai:u",
            prompts="own", system="Be kind.", candidate="test_export_user:candidate", inducer="none",
            judge="test_export_user:Judge", runtime=ia.Runtime(base_url=server.url),
        )  # fmt: skip
    found, calls = exported("run.db"), calls_of("run.db", "user")
    assert len(found) == len(server.asked) == 1 + 2 + 4
    by_node = {call.node: call for call in calls}
    sent = [body["messages"] for body in server.asked]
    for row in found:
        asked = by_node[row["node"]].messages
        assert row["messages"][:-1] == [message.model_dump() for message in asked]
        assert row["messages"][:-1] in sent
        assert row["messages"][-1]["content"] == by_node[row["node"]].reply.partition("</think>")[2].strip()
    assert found[0]["messages"][0]["content"] == "Be Dry.\n| I keep bees.\nÄ 😀"
    assert "Be kind." not in json.dumps(found)


def people(*ids: str) -> None:
    Path("people.jsonl").write_text("".join(json.dumps({**PERSONA, "id": each}) + "\n" for each in ids))


@pytest.mark.parametrize(
    ("speaker", "last"),
    [
        ("leaves_in_turn_3", ("1/1/u", 3, "[END]")),
        ("thanks_in_turn_2", ("1/u", 2, "Thanks, that is all I wanted. [END]")),
    ],
)
def test_a_user_that_ends_the_talk_is_taught_its_mark(speaker: str, last: tuple[str, int, str]) -> None:
    marked = {"end_mark": "[END]", "inducer": "none", "branch": 1, "judge": "world:judge"}
    ia.simulate("run.db", trees=1, turns=5, user=f"ending_users:{speaker}", **marked)
    found, calls = exported("run.db"), calls_of("run.db", "user")
    assert (found[-1]["node"], found[-1]["turn"], found[-1]["messages"][-1]["content"]) == last
    assert [row["messages"][:-1] for row in found] == [[m.model_dump() for m in call.messages] for call in calls]
    assert [row["messages"][-1]["content"] for row in found] == [call.reply for call in calls]


def test_a_run_without_a_mark_says_nothing_of_one() -> None:
    ia.simulate("run.db", trees=1, turns=2, user="ending_users:leaves_in_turn_3", inducer="none")
    assert [text for _, text in targets(exported("run.db"))] == ["Hello.", "And then?"]
    assert not any("[END]" in row["messages"][0]["content"] for row in exported("run.db"))


def test_the_messages_that_a_branch_copied_are_learnt_where_they_were_said() -> None:
    ia.simulate("run.db", trees=1, turns=3)
    ia.simulate("run.db", trees=2, turns=3, from_="t00000:2")
    ia.simulate("run.db", trees=1, turns=3, from_="t00000:1/2/u")
    found = exported("run.db")
    learnt = [(row["tree"], row["node"]) for row in found]
    assert len(learnt) == len(set(learnt))
    first = {judged.tree.id: [n.id for n in judged.tree.nodes if n.role == "user"] for judged in trees_of("run.db")}
    for name, nodes in first.items():
        copied = {"t00000": 0, "t00000:1/2/u@00000": 3}.get(name, 1)
        assert [node for tree, node in learnt if tree == name] == nodes[copied:]
    branch = next(row for row in found if row["tree"] == "t00000:2@00000")
    before = next(row for row in found if row["tree"] == "t00000")["messages"]
    assert branch["messages"][: len(before)] == before


# From a file to a file


def test_an_imported_talk_is_learnt_with_its_persona_and_one_without_is_left_out_by_number(cli) -> None:
    hi, hello = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}
    more = [hi, hello, {"role": "user", "content": "Bees?"}, {"role": "assistant", "content": "Yes."}]
    whole = {"messages": [{"role": "system", "content": "Be kind."}, *more], "conversation_id": "c2"}
    lines = [
        {"messages": [hi, hello], "conversation_id": "c1"},
        {**whole, "persona": PERSONA},
        {"messages": [hi, hello], "conversation_id": "c3", "persona": "bo"},
    ]
    Path("logs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert cli("import", "logs.jsonl", "logs.db").code == 0
    done: Ended = cli("export", "logs.db", "--format", "user", "--out", "rows.jsonl")
    assert done.code == 0
    assert done.err.splitlines() == [
        "2 user rows written to rows.jsonl",
        "2 of 3 conversations have no persona in the run file and give no row: c1, c3; import them with their personas "
        "(a column `persona`, or --personas FILE)",
    ]
    found = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [talk(row) for row in found] == [
        [("user", BEGIN["content"]), ("assistant", "Hi.")],
        [("user", BEGIN["content"]), ("assistant", "Hi."), ("user", "Hello."), ("assistant", "Bees?")],
    ]
    assert {(row["tree"], row["persona"]) for row in found} == {("c2", "ann")}
    assert (card()["unknown_personas"], card()["rows"]) == (2, 2)


def test_where_nobody_is_known_the_file_is_empty_and_one_line_says_why(cli) -> None:
    Path("logs.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Hi."}, REPLY]}) + "\n")
    assert cli("import", "logs.jsonl", "logs.db").code == 0
    done: Ended = cli("export", "logs.db", "--format", "user", "--out", "rows.jsonl")
    assert (done.code, Path("rows.jsonl").read_text()) == (0, "")
    why = "rows.jsonl is empty: no conversation of the run has a known persona, which a user agent plays"
    assert done.err.splitlines()[0] == why


REPLY = {"role": "assistant", "content": "Hello."}


def test_a_mark_of_later_branches_is_not_told_to_the_people_of_an_import() -> None:
    line = {"messages": [{"role": "user", "content": "Hi."}, REPLY], "conversation_id": "c1", "persona": PERSONA}
    Path("logs.jsonl").write_text(json.dumps(line) + "\n")
    api.import_conversations("logs.jsonl", "logs.db")
    ia.simulate(
        "logs.db", from_="c1:1", trees=1, turns=2, end_mark="[END]", user="ending_users:by_persona", inducer="none",
        judge="test_export_user:Judge",
    )  # fmt: skip
    recorded, grown = exported("logs.db")
    assert "[END]" not in recorded["messages"][0]["content"]
    assert grown["messages"][0]["content"].startswith(recorded["messages"][0]["content"] + "\n\n")
    assert "[END]" in grown["messages"][0]["content"]


def test_the_leak_proof_lets_the_persona_pass_and_the_card_says_so() -> None:
    ia.simulate("run.db", trees=1, turns=1)
    exported("run.db")
    assert (card()["shows_persona"], card()["leak_proof"], card()["format"]) == (True, None, "user")
    ia.export("run.db", "rows.jsonl", format="sft")
    assert "shows_persona" not in card()
    assert card()["leak_proof"]["words_in_a_row"] == 8


def test_the_trainer_reads_the_rows_counts_them_by_persona_and_refuses_held_out_ones() -> None:
    ia.simulate("run.db", trees=3, turns=4)
    exported("run.db")
    found = read_rows(Path("rows.jsonl"), "sft")
    assert len(found) == 12
    assert [row.persona for row in at_most(found, 2, Path("rows.jsonl"))] == [
        name for name in ("train-0000", "train-0001", "train-0002") for _ in range(2)
    ]
    held_out = found[0]._replace(persona="heldout-0001")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: persona 'heldout-0001' is held out"):
        refuse_held_out([held_out], Path("rows.jsonl"))


@pytest.mark.parametrize("persona", [None, ["I keep bees."], {"id": "ann"}, 7])
def test_a_row_of_others_may_have_anything_as_its_persona(persona: Any) -> None:
    row = {"messages": [{"role": "user", "content": "Hi."}, REPLY], "persona": persona}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    assert [each.persona for each in read_rows(Path("rows.jsonl"), "sft")] == [None]


def test_where_a_message_was_asked_for_again_the_row_has_the_first_request() -> None:
    marked = {"end_mark": "[END]", "inducer": "none", "branch": 1}
    ia.simulate("run.db", trees=1, turns=3, user="ending_users:begins_when_asked_again", **marked)
    first, again = calls_of("run.db", "user")
    assert "[asked again]" in again.last
    (row,) = exported("run.db")
    assert row["messages"] == [
        *(message.model_dump() for message in first.messages),
        {"role": "assistant", "content": "Hello. [END]"},
    ]


def test_such_rows_are_no_conversations_to_import(tmp_path: Path, cli) -> None:
    ia.simulate(tmp_path / "run.db", trees=1, turns=2)
    ia.export(tmp_path / "run.db", tmp_path / "rows.jsonl", format="user")
    ended = cli("import", tmp_path / "rows.jsonl", tmp_path / "again.db")
    assert ended.code == 2
    assert "(line 1, line 2: a row of --format user, in which user and assistant are exchanged" in ended.err
    assert not (tmp_path / "again.db").exists()
