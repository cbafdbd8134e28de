"""`personas split` and `personas stats`: by profile, stable when others join, with the similarity across."""

import json
from pathlib import Path

import numpy as np
import pytest

from interalign.diversity import nearest_across, nearest_within, too_close
from interalign.errors import ConfigError
from interalign.people import people
from interalign.people.split import is_held_out, split_pool
from interalign.personas import Persona, dump_personas
from interalign.similarity import embedded, greedily_kept, nearest


def pool(*profiles: str) -> list[Persona]:
    return [Persona(id=f"p{number}", profile=(each,), personality="Dry.") for number, each in enumerate(profiles)]


MANY = people(0)[:702]


def test_all_personas_of_a_profile_are_on_one_side() -> None:
    found = split_pool(MANY, 0.2, 0, None, "tfidf")
    assert {one.profile for one in found.train} & {one.profile for one in found.heldout} == set()
    assert len(found.train) + len(found.heldout) == 702
    assert 100 < len(found.heldout) < 180


def test_a_profile_stays_on_its_side_when_others_are_added() -> None:
    small, large = split_pool(MANY[:50], 0.3, 0, None, "tfidf"), split_pool(MANY, 0.3, 0, None, "tfidf")
    assert set(small.train) <= set(large.train)
    assert set(small.heldout) <= set(large.heldout)


def test_a_larger_share_holds_the_same_profiles_out_and_more() -> None:
    some, more = ({one.id for one in MANY if is_held_out(one, share, 0)} for share in (0.1, 0.3))
    assert some < more


def test_another_seed_holds_others_out() -> None:
    assert split_pool(MANY, 0.2, 0, None, "tfidf").heldout != split_pool(MANY, 0.2, 1, None, "tfidf").heldout


@pytest.mark.parametrize(("share", "held_out"), [(0.0, 0), (1.0, 702)])
def test_a_share_of_none_and_of_all(share: float, held_out: int) -> None:
    found = split_pool(MANY, share, 0, None, "tfidf")
    assert (len(found.heldout), found.near) == (held_out, None)


def test_training_profiles_closer_than_the_bound_are_left_out_and_counted(cli, tmp_path: Path) -> None:
    profiles = [
        f"Keeps {animal} in {town}." for animal in ("bees", "goats", "cats") for town in ("Oslo", "Rome", "Bern")
    ]
    (tmp_path / "p.jsonl").write_text("".join(dump_personas(pool(*profiles))))
    words = ("personas", "split", "p.jsonl", "--train", "t", "--heldout", "h", "--share", "0.3", "--seed", "2")
    free, bound = cli(*words), None
    held_out = (tmp_path / "h").read_text()
    train = (tmp_path / "t").read_text().splitlines()
    bound = cli(*words, "--max-similarity", "0.3")
    kept = (tmp_path / "t").read_text().splitlines()
    assert (free.code, bound.code) == (0, 0)
    assert (tmp_path / "h").read_text() == held_out
    assert set(kept) < set(train)
    assert f"; {len(train) - len(kept)} left out, closer than 0.3" in bound.err


def test_what_is_too_close_is_found_by_its_cosine() -> None:
    train, heldout = pool("Keeps bees in Oslo.", "Plays jazz."), pool("Keeps goats in Oslo.")
    assert too_close(train, heldout, 0.1, "tfidf") == {"p0"}
    assert too_close(train, heldout, 0.99, "tfidf") == set()


def test_the_nearest_profile_is_another_one_and_the_closest_pair_is_shown() -> None:
    near = nearest_within(pool("Keeps bees in Oslo.", "Plays jazz.", "Keeps goats in Oslo."))
    assert near is not None
    assert (near.measured, near.of) == (3, 3)
    assert near.closest[0][1:] == ("p0", "p2")
    assert near.quantiles[0] == 0
    assert near.quantiles[-1] == near.closest[0][0]


@pytest.mark.parametrize("personas", [[], pool("Sings."), pool("Sings.", "Sings.")])
def test_a_single_profile_has_no_nearest_one(personas: list[Persona]) -> None:
    assert nearest_within(personas) is None
    assert nearest_across(personas, []) is None


def test_stats_say_what_a_figure_depends_on(cli, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        "".join(dump_personas(pool("Keeps bees in Oslo.", "Plays jazz.", "Keeps goats.")))
    )
    ended = cli("personas", "stats", "p.jsonl", "--threshold", "0.2", "--json")
    found = json.loads(ended.out)
    assert (found["personas"], found["profiles"], found["personalities"], found["threshold"]) == (3, 3, 1, 0.2)
    assert found["embedding"].startswith("TF-IDF of words (scikit-learn")
    assert found["closest pairs"][0][1:] == ["p0", "p2"]
    assert len(found["nearest profile: min, quartiles, max"]) == 5
    assert "closest pairs\t" in cli("personas", "stats", "p.jsonl").out


def test_stats_of_the_shipped_pool_have_the_similarity_of_the_cases(cli) -> None:
    found = json.loads(cli("personas", "stats", "people", "--json").out)
    assert (found["personas"], found["profiles"], found["profiles kept at the threshold"]) == (3510, 351, 351)
    mean, most = found["held-out cases to the nearest training profile: mean, max"]
    assert 0 < mean < most < 0.3
    assert json.loads(cli("personas", "stats", "aloe", "--json").out)["personas"] == 100


TEXTS = [" ".join(persona.profile[start : start + 4]) for persona in MANY[:351] for start in (0, 1, 2)]


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("is_dense", [False, True])
def test_what_is_kept_in_blocks_is_what_all_pairs_say(threshold: float, is_dense: bool) -> None:
    vectors = embedded(TEXTS)
    cosines = (vectors.rows @ vectors.rows.T).toarray()
    kept: list[int] = []
    for row in range(len(TEXTS)):
        if (cosines[row, kept] <= threshold + 1e-6).all():
            kept.append(row)
    given = vectors._replace(rows=vectors.rows.toarray()) if is_dense else vectors
    assert greedily_kept(given, threshold) == kept


@pytest.mark.parametrize("is_dense", [False, True])
def test_the_nearest_in_blocks_is_what_all_pairs_say(is_dense: bool) -> None:
    vectors = embedded(TEXTS[:600])
    cosines = (vectors.rows @ vectors.rows.T).toarray()
    np.fill_diagonal(cosines, -1)
    given = vectors._replace(rows=vectors.rows.toarray()) if is_dense else vectors
    highest, which = nearest(given, range(600), range(600))
    assert highest == pytest.approx(cosines.max(axis=1), abs=1e-5)
    assert cosines[range(600), which] == pytest.approx(highest, abs=1e-5)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ("minilm", "--embedding minilm: expected `tfidf` or `st:NAME_OR_FOLDER`"),
        ("st:", "--embedding st:: expected `tfidf`"),
        ("st:absent", r"sentence-transformers|cannot be loaded"),
    ],
)
def test_an_embedding_that_there_is_not_is_refused(embedding: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        embedded(["Sings.", "Knits."], embedding)


def test_profiles_without_words_cannot_be_compared_by_words() -> None:
    with pytest.raises(ConfigError, match="hold no words"):
        embedded(["!!!", "..."])
