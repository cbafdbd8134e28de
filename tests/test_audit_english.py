"""How much the audit's rules find in English that is not the world's, and in what a small model says as a user.

`data/english_talks.jsonl`: whoever wrote and labelled them did not see the rules. While the rules were written, part a
was looked at and part b was not, so that the figures of part b are the ones to go by. Rules on words
see no contradiction and hardly any change of style; what they say of them is stated, not hidden.

`data/small_model_talks.jsonl`: messages of an instruct model of 0.5 B parameters as the user, labelled by hand, of
personas that ship. Such a model plays nobody, whatever it is told: most messages are faults, many are nonsense.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from interalign.agents.audit_rules import audit_tree
from interalign.agents.findings import CONTRADICTS, DRIFTS, KINDS
from interalign.personas import Persona
from interalign.tree import Node, Tree

DATA = Path(__file__).parent / "data"
TALKS = DATA / "english_talks.jsonl"
OF_A_MODEL = DATA / "small_model_talks.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "report.md"
ANY = "any of these"


def as_tree(talk: dict[str, object], messages: list[dict[str, str]]) -> Tree:
    """One path of these messages, whose nodes are called by their places."""
    nodes = tuple(
        Node(
            id=f"{place}",
            parent=f"{place - 1}" if place else None,
            turn=place // 2 + 1,
            role="user" if place % 2 == 0 else "assistant",
            text=message["content"],
            by="someone",
        )
        for place, message in enumerate(messages)
    )
    return Tree(id=str(talk["id"]), run="english", persona=str(talk["id"]), seed=0, nodes=nodes)


@pytest.fixture(scope="module")
def counts() -> dict[str, Counter[tuple[str, str]]]:
    """Part -> kind and outcome (`right`, `wrong`, `missed`, `clean`) -> messages."""
    return counted(TALKS)


def counted(file: Path) -> dict[str, Counter[tuple[str, str]]]:
    found: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for line in file.read_text().splitlines():
        talk = json.loads(line)
        persona = Persona(id=talk["id"], profile=tuple(talk["profile"]), personality=talk["personality"])
        audited: dict[int, set[str]] = {}
        for each in audit_tree(as_tree(talk, talk["messages"]), persona):
            audited.setdefault(int(each.node) // 2, set()).add(each.kind)
        for place, labels in enumerate(talk["labels"]):
            kinds, said = set(labels), audited.get(place, set())
            for kind in KINDS:
                found[talk["part"]][kind, outcome(kind in kinds, kind in said)] += 1
            found[talk["part"]][ANY, outcome(bool(kinds), bool(said))] += 1
    return found


def outcome(is_so: bool, is_found: bool) -> str:
    return {(True, True): "right", (False, True): "wrong", (True, False): "missed", (False, False): "clean"}[
        is_so, is_found
    ]


def share(right: int, of: int) -> str:
    return f"{right / of:.2f}" if of else "-"


def row(kind: str, counts: dict[str, Counter[tuple[str, str]]], parts: Sequence[str] = ("b", "a")) -> str:
    """The line of docs/report.md: labelled, recall and precision of part b, then of part a."""
    cells = []
    for part in parts:
        right, wrong, missed = (counts[part][kind, name] for name in ("right", "wrong", "missed"))
        cells += [f"{right + missed}", share(right, right + missed), share(right, right + wrong)]
    return f"| {kind} | {' | '.join(cells)} |"


@pytest.mark.parametrize("kind", [*KINDS, ANY])
def test_the_page_states_what_the_rules_find(kind: str, counts: dict[str, Counter[tuple[str, str]]]) -> None:
    assert row(kind, counts) in PAGE.read_text().splitlines()


def test_the_talks_are_what_the_page_says(counts: dict[str, Counter[tuple[str, str]]]) -> None:
    talks = [json.loads(line) for line in TALKS.read_text().splitlines()]
    messages = {part: sum(counts[part][ANY, each] for each in ("right", "wrong", "missed", "clean")) for part in counts}
    stated = re.search(r"([\d,]+) talks, ([\d,]+) user messages of part b and ([\d,]+) of part a", PAGE.read_text())
    assert stated is not None
    assert [len(talks), messages["b"], messages["a"]] == [int(each) for each in stated.groups()]
    assert min(messages.values()) >= 200
    assert all({label for labels in talk["labels"] for label in labels} <= set(KINDS) for talk in talks)


def test_what_the_rules_find_is_mostly_so(counts: dict[str, Counter[tuple[str, str]]]) -> None:
    for part, count in counts.items():
        right, wrong, missed = (count[ANY, name] for name in ("right", "wrong", "missed"))
        assert right / (right + wrong) >= 0.8, part
        assert right / (right + missed) >= 0.5, part
        for kind in set(KINDS) - {CONTRADICTS, DRIFTS}:
            assert count[kind, "right"] > 0.2 * (count[kind, "right"] + count[kind, "missed"]), (part, kind)


def test_the_page_states_what_the_rules_find_in_a_small_model_s_messages() -> None:
    counts, said = counted(OF_A_MODEL), PAGE.read_text()
    [part] = counts
    count = counts[part]
    right, wrong, missed, clean = (count[ANY, name] for name in ("right", "wrong", "missed", "clean"))
    recall, precision = share(right, right + missed), share(right, right + wrong)
    messages = right + wrong + missed + clean
    stated = f"Of {messages} messages, {right + missed} of them faulty: recall {recall}, precision {precision}."
    assert stated in " ".join(said.split())
    assert right / (right + wrong) >= 0.9
