"""A pool without near-repeats, and a diversity figure that says what it depends on."""

import json
from pathlib import Path

import numpy as np
import pytest

from interalign.diversity import diverse
from interalign.errors import ConfigError
from interalign.personas import Persona
from interalign.similarity import Embedded, greedily_kept


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


def test_added_to_a_pool_only_the_new_profiles_are_compared() -> None:
    alike = [POOL[0], POOL[1], POOL[3]]  # as they are, though the second nearly repeats the first
    new = [
        persona("bees-new", "Keeps bees.", "Lives in Oslo!"),
        POOL[2],
        persona("jazz-new", "Plays jazz.", "A parrot."),
    ]
    found = diverse(new, 0.6, pool=alike)
    assert [one.id for one in found.kept] == ["bees", "bees-again", "bees-too", "jazz"]
    assert (found.held_profiles, found.profiles, found.kept_profiles) == (2, 3, 1)
    assert str(found).startswith("1 of 3 profiles kept and added to 2: cosine at most 0.6 to each one kept before")


def test_a_persona_of_the_pool_stays_one_and_a_profile_of_it_takes_other_personalities() -> None:
    shy = persona("shy", "Plays jazz.", "Has a parrot.", personality="Shy.")
    found = diverse([POOL[0], shy], 0.6, pool=POOL)
    assert [one.id for one in found.kept] == ["bees", "bees-again", "jazz", "bees-too", "shy"]
    assert (found.profiles, found.kept_profiles) == (0, 0)
    with pytest.raises(ConfigError, match="the id 'jazz' is another persona in the pool that is added to; rename"):
        diverse([persona("jazz", "Plays chess.")], 0.6, pool=POOL)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 4096, 4097, 5000])
def test_a_pool_filtered_in_two_steps_is_the_pool_filtered_at_once(size: int) -> None:
    rows = np.random.default_rng(size).normal(size=(size + 40, 6))
    vectors = Embedded("given", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    first = greedily_kept(Embedded("given", vectors.rows[:size]), 0.9)
    order = [*first, *range(size, size + 40)]
    both = greedily_kept(Embedded("given", vectors.rows[order]), 0.9, held=len(first))
    assert [order[row] for row in both] == greedily_kept(vectors, 0.9)


def test_the_command_adds_to_a_pool(cli, tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in POOL[:1]))
    (tmp_path / "new.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in POOL[1:3]))
    ended = cli("personas", "filter", tmp_path / "new.jsonl", "--add-to", tmp_path / "pool.jsonl", "--out", "all.jsonl")
    assert ended.code == 0
    assert "1 of 2 profiles kept and added to 1: " in ended.err
    assert [json.loads(line)["id"] for line in Path("all.jsonl").read_text().splitlines()] == ["bees", "jazz"]
