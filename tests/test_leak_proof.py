"""Every exported row is checked: what was hidden from the candidate stands in none of its words, in any format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import interalign as ia

Cli = Callable[..., Any]
FACT = "I keep twelve black bees in a green glass box on the roof."
MANNER = "Writes in one breath, never says please, and wants numbers before words in every answer."
RUBRIC = "A good answer names a number, a place and a time before anything else at all."
FORMATS = ("dpo", "sft", "kto", "rm", "listwise", "messages")
FACTS: dict[str, str] = {"says": ""}


async def user(ask: Any) -> ia.Said:
    """Tells nothing of itself, or what FACTS has for it."""
    return ia.Said(text=FACTS.get("user") or f"What now, in turn {ask.turn}?")


async def candidate(ask: Any) -> ia.Said:
    """Says what it cannot know, and something else for each sibling."""
    return ia.Said(text=f"As {FACTS['says']} you may rest, number {ask.at.node}.")


class Judge:
    """Prefers the earlier reply, in either order."""

    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        """The reply whose text sorts first."""
        return ia.ChoiceOpinion(value="A" if ask.first < ask.second else "B", replies=("x",))


def grown(folder: Path, says: str, *, said_by_user: str = "", rubric: bool = False) -> Path:
    """A run whose candidate says this."""
    people = folder / "people.jsonl"
    people.write_text(json.dumps({"id": "bees", "profile": [FACT], "personality": MANNER}) + "\n")
    (folder / "rubric.txt").write_text(RUBRIC)
    FACTS.update(says=says, user=said_by_user)
    ia.simulate(
        folder / "run.db", trees=1, turns=2, personas=str(people), user="test_leak_proof:user", inducer="none",
        candidate="test_leak_proof:candidate", judge="test_leak_proof:Judge",
        **({"rubric": str(folder / "rubric.txt")} if rubric else {}),
    )  # fmt: skip
    return folder / "run.db"


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(("canary", "of"), [(FACT, "the persona"), (MANNER, "the persona"), (RUBRIC, "the rubric")])
def test_a_canary_is_refused_in_every_format(tmp_path: Path, cli: Cli, fmt: str, canary: str, of: str) -> None:
    run = grown(tmp_path, canary, rubric=True)
    done = cli("export", run, "--format", fmt, "--out", tmp_path / "rows.jsonl")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"has words of {of} that its user never said: '" in done.err
    assert "(tree t00000, node " in done.err
    assert not (tmp_path / "rows.jsonl").exists()
    assert not (tmp_path / "rows.jsonl.card.json").exists()


def test_what_the_user_said_may_be_repeated(tmp_path: Path) -> None:
    run = grown(tmp_path, FACT, said_by_user=FACT)
    assert ia.export(run, tmp_path / "rows.jsonl", format="sft") == 2


def test_a_few_words_in_common_are_chance_and_the_card_says_what_was_checked(tmp_path: Path) -> None:
    run = grown(tmp_path, "black bees in a green glass", rubric=True)
    for fmt in FORMATS:
        written = ia.export(run, tmp_path / fmt, format=fmt)
        card = json.loads((tmp_path / f"{fmt}.card.json").read_text())
        assert card["leak_proof"] == {
            "rows": written, "words_in_a_row": 8, "against": ["persona", "notes", "rubric"], "found": 0,
        }  # fmt: skip


def test_notes_count_unless_replies_that_repeat_them_were_asked_for(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=2, turns=2)
    ia.export(tmp_path / "run.db", tmp_path / "rows", format="dpo", keep_leaks=True)
    assert json.loads((tmp_path / "rows.card.json").read_text())["leak_proof"]["against"] == ["persona"]
