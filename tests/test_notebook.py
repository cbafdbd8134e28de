"""What a notebook shows of a tree and of a report: self-contained, escaped, and small whatever is in it."""

import re
import subprocess
import sys

import pytest
from view_pages import ATTACK, TURN_1, TURN_2, TURN_3, VERDICTS, parsed, reply, score, tree_of, turn, user

from interalign import api
from interalign.eval.notebook import NotebookReport
from interalign.tree import JudgedTree, Node, Tree
from interalign.tree_html import MOST_CHARACTERS, MOST_MESSAGES
from interalign.visible_text import shown


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> NotebookReport:
    run = tmp_path_factory.mktemp("notebook") / "eval.db"
    api.evaluate(run, limit=2, turns=2, candidate=["world:blind", "world:oracle"])
    return api.report(run)


def test_a_tree_is_its_longest_conversation_with_siblings_folded() -> None:
    html = tree_of(*TURN_1, *TURN_2, *TURN_3)._repr_html_()
    page = parsed(html)
    assert re.findall(r"isolate\">([^<]*)<", html) == [
        "I like tea. Which one?", "Any will do.", "Green or black?", "And now?", "Tie, first.", "Tie, second.",
        "And now?", "Missing, first.", "Missing, second.",
    ]  # fmt: skip
    folded = page.every("details")
    assert [each.one("summary").text for each in folded] == [
        "reply 1, 1 message", "reply 2/2, 1 message", "reply 2/1/2, 1 message",
    ]  # fmt: skip
    assert folded[0].one("div", dir="auto").text == "Green or black?"
    assert "tree t of r, persona ada, 9 messages, 3 turns" in page.words


def test_a_judged_tree_says_scores_and_preferred_replies() -> None:
    judged = JudgedTree(tree=tree_of(*TURN_1), verdicts=VERDICTS[:1], scores=(score("2", 4), score("1", None)))
    names = re.findall("<small>(.*?)</small>", judged._repr_html_())
    assert sorted(names, reverse=True) == ["user", "average, score 4 by judge", "average+hint, preferred by judge"]


def test_hostile_text_comes_out_as_text_in_a_notebook(report: NotebookReport) -> None:
    asked = user(None, ATTACK)
    tree = Tree(id=ATTACK, run=ATTACK, persona=ATTACK, seed=0, nodes=(asked, reply(asked, 1, ATTACK, by=ATTACK)))
    judged = JudgedTree(tree=tree, scores=(score("1", 3, judge=ATTACK),))
    candidate = report.candidates[0].model_copy(update={"name": ATTACK})
    of_report = report.model_copy(update={"candidates": (candidate,), "notes": (ATTACK,)})
    for made in (tree, judged, of_report):
        text = made._repr_html_()
        page = parsed(text)
        tags = {each.tag for each in page.every()}
        assert tags <= {*"div p b small code details summary i h4 ul li table thead tbody tr th td".split()}  # noqa: SIM905
        assert shown(ATTACK) in page.text
        assert not re.search(
            r"\son\w+=|<script|<style|<svg|<img|href|src=|\u202e|\x1b", re.sub(r"&\w+;.*?(?=<)", "", text)
        )


def test_what_is_left_out_of_a_long_tree_is_counted() -> None:
    nodes: list[Node] = []
    parent = None
    for _ in range(400):
        nodes += turn(parent)
        parent = nodes[-1].id
    nodes[0] = nodes[0].model_copy(update={"text": "w" * 1_000_000})
    html = tree_of(*nodes)._repr_html_()
    assert len(html) < 200_000
    assert f"and {1_000_000 - MOST_CHARACTERS:,} more characters" in html
    assert f"and {1200 - MOST_MESSAGES:,} more messages" in html
    assert html.count("<small>") == MOST_MESSAGES


def test_a_report_shows_candidates_differences_and_notes(report: NotebookReport) -> None:
    page = parsed(report._repr_html_())
    levels, differences = page.every("table")
    assert [row.every("td")[0].text for row in levels.one("tbody").every("tr")] == ["blind", "oracle"]
    first = report.candidates[0]
    assert f"{first.al_mean:.2f}" in levels.one("tbody").every("tr")[0].text
    assert differences.one("tbody").every("td")[0].text == "blind - oracle"
    assert [note.text for note in page.every("li")] == list(report.notes)


def test_neither_loads_a_heavy_library() -> None:
    code = """
import sys, interalign as ia
node = ia.Node(id="u", parent=None, turn=1, role="user", text="Hi", by="user")
before = set(sys.modules)
assert "Hi" in ia.Tree(id="t", run="r", persona="p", seed=0, nodes=(node,))._repr_html_()
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
