"""Hinted replies that carry the note: what counts as a leak, and that leaks stay out of training rows."""

import json
from pathlib import Path
from typing import Any

import fault_server
import pytest
from calls_seen import trees_of
from judged_trees import prefers, reply, said, tree, user

import interalign as ia
from interalign import api
from interalign.agents.leaks import leaked_words
from interalign.agents.notes import says_nothing
from interalign.agents.templates import builtin_prompts
from interalign.training.export import rows, without_leaks
from interalign.tree import Annotation, JudgedTree

NOTE = "The user keeps three hives of bees.\nThe user likes short answers."
TALK = ["What shall I plant? I keep three hives of bees near Graz."]


@pytest.mark.parametrize(
    ("reply", "passages"),
    [
        ("Plant lavender: your bees will love it.", ()),
        ("Since the user likes short answers: lavender.", ("the user likes short answers",)),
        ("You keep THREE hives, of bees! Lavender.", ()),  # the user said so itself
        ("The user keeps three hives. Lavender.", ("The user keeps three hives",)),
        ("I was told to answer with this in mind, so: lavender.", ("answer with this in mind",)),
        ("According to the notes, lavender.", ("According to the notes",)),
        ("Lavender. The note above says you like bees.", ("The note above says",)),
        ("[Note: keep it brief] Lavender.", ("[Note",)),
        ("Take notes of what grows.", ()),
        ("", ()),
    ],
)
def test_words_of_a_reply_that_note_or_prompt_have_and_the_talk_has_not_are_a_leak(
    reply: str, passages: tuple[str, ...]
) -> None:
    assert leaked_words(reply, NOTE, TALK, "Answer with this in mind.") == passages


def test_three_words_in_a_row_or_words_that_every_sentence_has_are_no_leak() -> None:
    assert leaked_words("She likes short answers too.", NOTE, TALK) == ()
    assert leaked_words("I am sure it is one of the best.", "It is one of the things it is about.", ["Hi"]) == ()


def test_a_passage_that_the_user_said_itself_is_none_however_the_note_puts_it() -> None:
    assert leaked_words("Near the old mill by the river.", "Lives near the old mill by the river.", ["x"]) == (
        "Near the old mill by the river",
    )
    said = ["I live near the old mill by the river."]
    assert leaked_words("Near the old mill by the river.", "Lives near the old mill by the river.", said) == ()


@pytest.mark.parametrize(
    ("reply", "note", "passages"),
    [
        ("Il convient à quelqu'un qui aime le vin rouge.", "L'utilisateur aime le vin rouge.", ("aime le vin rouge",)),
        ("好的,用户喜欢简短的回答。", "用户喜欢简短的回答。", ("用户喜欢简短的回答",)),
        ("我喜欢简短。", "用户喜欢简短的回答。", ()),
        ("Don\u2019t call before ten o\u2019clock.", "Don't call before ten", ("Don\u2019t call before ten",)),
    ],
)
def test_a_leak_is_found_in_other_scripts_and_whatever_apostrophes_are_used(
    reply: str, note: str, passages: tuple[str, ...]
) -> None:
    assert leaked_words(reply, note, ["..."]) == passages


@pytest.mark.parametrize(
    "note",
    [
        "Nothing yet.", "nothing", "None", "None.", "- None", "N/A", "n/a.", "No information.", "...", "-", "(none)",
        "**Nothing yet.**",
        "No information has been given yet.", "There is nothing to note yet.", "No facts noted.", "No new information",
        "There is no information about the user in the conversation.", "Facts about the user: none",
        "Notes:\n- None yet\n",
        "No personal details have been shared so far.", "Not enough information.", "Nothing has been shown yet.",
        "No relevant details were mentioned by the user.", "[]", "Facts: none\nStyle: not specified",
    ],
)  # fmt: skip
def test_a_note_of_nothing_is_known_as_one(note: str) -> None:
    assert says_nothing(note)


@pytest.mark.parametrize(
    "note",
    [
        "Keeps bees.", "Nothing about work; keeps bees.", "None of the user's children live at home.", "No children.",
        "Nothing yet.\nLikes tea.", "Name: Ann", "Not married", "No coffee, no tea.",
        "The user has no information on bees.",
        "There is nothing the user likes more than tea.", "43", "Age: 43", "养蜂", "Informal.",
    ],
)  # fmt: skip
def test_a_note_that_tells_anything_is_none_of_nothing(note: str) -> None:
    assert not says_nothing(note)


def judged(*leaks: str) -> JudgedTree:
    """Two turns of three replies; the first reply wins each, and the talk goes on after the second."""
    grown = tree(
        user("u", "Hi."),
        *(reply(str(n), f"reply {n}", parent="u") for n in (1, 2, 3)),
        user("2/u", "And?", parent="2", turn=2),
        *(reply(f"2/{n}", f"reply 2/{n}", parent="2/u", turn=2) for n in (1, 2, 3)),
    )
    verdicts = [prefers(f"{at}{a}", f"{at}{b}") for at in ("", "2/") for a, b in ((1, 2), (1, 3), (2, 3))]
    notes = [Annotation(node=node, name="leak", by="interalign", value=["the user likes"]) for node in leaks]
    return said(grown, *verdicts, *notes)


def chosen_and_rejected(tree: JudgedTree, **options: bool) -> list[tuple[str, str]]:
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows([tree], "dpo", **options)]


def test_a_reply_that_leaks_is_left_out_and_the_best_of_the_others_is_chosen() -> None:
    assert chosen_and_rejected(judged()) == [("reply 1", "reply 3"), ("reply 2/1", "reply 2/3")]
    assert chosen_and_rejected(judged("1")) == [("reply 2", "reply 3"), ("reply 2/1", "reply 2/3")]
    assert chosen_and_rejected(judged("2/1")) == [("reply 1", "reply 3"), ("reply 2/2", "reply 2/3")]


def test_what_follows_a_reply_that_leaks_is_left_out_with_it() -> None:
    assert chosen_and_rejected(judged("2")) == [("reply 1", "reply 3")]


@pytest.mark.parametrize("fmt", ["sft", "dpo", "kto", "rm", "grpo", "listwise", "messages"])
def test_no_format_shows_a_reply_that_leaks_unless_asked_to(fmt: str) -> None:
    leaking = judged("2", "2/1")
    assert "reply 2" not in json.dumps(list(rows([leaking], fmt)))
    kept = list(rows([leaking], fmt, keep_leaks=True))
    assert "reply 2" in json.dumps(kept)
    assert kept == list(rows([judged()], fmt))


def test_a_tree_of_which_nothing_is_left_gives_no_row() -> None:
    assert without_leaks(judged("1", "2", "3")) is None
    assert list(rows([judged("1", "2", "3")], "messages")) == []


def test_a_conversation_whose_last_replies_all_leak_ends_with_the_reply_before() -> None:
    left = without_leaks(judged("2/1", "2/2", "2/3"))
    assert left is not None
    assert [node.id for node in left.tree.nodes] == ["u", "1", "2", "3"]
    assert [node.id for node in left.tree.leaves()] == ["1", "2", "3"]


def test_an_annotation_of_that_name_by_somebody_else_leaves_nothing_out() -> None:
    tree = judged()
    other = tree.model_copy(update={"annotations": (Annotation(node="1", name="leak", by="mine:hook", value=True),)})
    assert chosen_and_rejected(other) == chosen_and_rejected(tree)


def grown(run: Path, inducer_says: str) -> None:
    """One tree of one turn by models behind a server; a candidate that sees a note repeats it."""

    def answer(body: dict[str, Any]) -> fault_server.Step:
        last = body["messages"][-1]["content"]
        notes = [line[2:] for line in last.split("\n") if line.startswith("| ")]
        said = {"inducer": inducer_says, "candidate": f"Noted. {' '.join(notes)}" if notes else "What do you grow?"}
        return {"message": {"content": said[body["model"]]}}

    with fault_server.serving(answer) as server:
        seats = {"inducer": "openai:inducer", "candidate": "c=openai:candidate"}
        runtime = ia.Runtime(base_url=server.url)
        ia.simulate(run, trees=1, turns=1, policy="full", runtime=runtime, **seats)


def test_a_run_marks_counts_and_leaves_out_what_a_candidate_repeats_of_the_note(tmp_path: Path, cli) -> None:
    run = tmp_path / "run.db"
    grown(run, "The user likes very short answers.")
    (tree,) = trees_of(run)
    assert [node.label for node in tree.tree.nodes] == ["user", "c+hint", "c"]
    (leak,) = [note for note in tree.annotations if note.name == "leak"]
    assert (leak.node, leak.by, leak.value) == ("1", "interalign", ["The user likes very short answers"])
    report = api.report(run)
    assert report.inducer is not None
    assert report.inducer.model_dump() == {"notes": 1, "empty": 0, "hinted": 1, "leaks": 1}
    line = "Inducer: 1 note, 0 of them empty; 1 of 1 hinted replies repeat words of the note."
    assert line in " ".join(cli("report", str(run)).out.split())
    assert ia.export(run, tmp_path / "rows.jsonl", format="messages") == 1
    assert "The user likes" not in (tmp_path / "rows.jsonl").read_text()
    kept = cli("export", str(run), "--format", "messages", "--out", str(tmp_path / "kept.jsonl"), "--keep-leaks")
    assert kept.code == 0
    assert "The user likes very short answers." in (tmp_path / "kept.jsonl").read_text()


@pytest.mark.parametrize("note", ["None yet.", "No information.", "- n/a"])
def test_with_a_note_of_nothing_no_reply_is_hinted_and_the_siblings_were_asked_the_same(
    note: str, tmp_path: Path
) -> None:
    run = tmp_path / "run.db"
    grown(run, note)
    (tree,) = trees_of(run)
    assert [(node.by, node.text) for node in tree.tree.nodes[1:]] == [("c", "What do you grow?")] * 2
    assert [(note.name, note.value) for note in tree.annotations] == [("hint", note)]
    report = api.report(run)
    assert report.inducer is not None
    assert report.inducer.model_dump() == {"notes": 1, "empty": 1, "hinted": 0, "leaks": 0}


def test_a_reply_that_repeats_the_prompt_around_the_note_is_found_with_the_packaged_prompts() -> None:
    wording = builtin_prompts().render("candidate_hint", message="", hint="")
    assert leaked_words("What the conversation so far has shown about the user is tea.", "Likes tea.", ["Hi"], wording)
    assert not leaked_words("Do you like tea?", "Likes tea.", ["Hi"], wording)
