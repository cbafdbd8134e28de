"""A pool without near-repeats, and a diversity figure that says what it depends on."""

from pathlib import Path

import pytest

from interalign.diversity import diverse
from interalign.personas import Persona


def persona(name: str, *profile: str, personality: str = "Dry.") -> Persona:
    return Persona(id=name, profile=profile, personality=personality)


POOL = [
    persona("bees", "Keeps bees.", "Lives in Oslo."),
    persona("bees-again", "Lives in Oslo.", "Keeps some bees."),
    persona("jazz", "Plays jazz.", "Has a parrot."),
    persona("bees-too", "Keeps bees.", "Lives in Oslo.", personality="Warm."),
]


def test_a_profile_too_close_to_one_kept_before_is_dropped_with_all_its_personas() -> None:
    found = diverse(POOL, 0.6)
    assert [one.id for one in found.kept] == ["bees", "jazz", "bees-too"]
    assert (found.profiles, found.kept_profiles) == (3, 2)


def test_with_a_threshold_of_one_every_profile_is_kept() -> None:
    assert diverse(POOL, 1.0).kept_profiles == 3


@pytest.mark.parametrize("threshold", [0.6, 0.25])
def test_trap_10_a_diversity_figure_names_its_embedding_and_its_threshold(threshold: float) -> None:
    text = str(diverse(POOL, threshold))
    assert "of 3 profiles kept" in text
    assert f"at most {threshold}" in text
    assert "TF-IDF of words (scikit-learn" in text


def test_the_command_says_the_same_and_writes_what_is_kept(cli, tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in POOL))
    ended = cli("personas", "filter", str(tmp_path / "pool.jsonl"), "--out", str(tmp_path / "kept.jsonl"))
    assert ended.code == 0
    assert str(diverse(POOL, 0.6)) in ended.err
    assert "3 personas written" in ended.err
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 3
