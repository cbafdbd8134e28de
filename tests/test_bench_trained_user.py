"""What `bench/trained_user.py` counts, on talks that are written by hand."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from interalign.models.world import world_personas
from interalign.models.world.people import Person, person_of
from interalign.models.world.sentences import tell


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parent.parent / "bench" / "trained_user.py"
    spec = importlib.util.spec_from_file_location("trained_user", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calm_short_person() -> Person:
    people = map(person_of, world_personas("train", 64, 0))
    return next(each for each in people if not any(each.style))


def test_what_a_user_tells_answers_and_repeats_is_counted(bench: ModuleType) -> None:
    person = calm_short_person()
    pet, job = (tell(person.facts[slot]) for slot in (1, 3))
    talk = [
        bench.Turn(f"{pet} Any idea for dinner?", "For dinner, you work in which job these days?"),
        bench.Turn(f"{job} Any idea for the trip?", "Take your time."),
        bench.Turn(f"{pet} Any idea for the trip?", "Hm."),
    ]
    found = bench.observed(person, talk)
    assert found["tells a wrong fact"] == (0, 3)
    assert found["tells a fact again"] == (1, 3)
    assert found["facts told by turn 3"] == (2, 1)
    assert found["answers what is asked"] == (1, 1)
    assert found["tells a fact unasked"] == (0, 1)
    assert found["asks about one new topic"] == (2, 3)
    assert found["emoji, if it uses none"] == (0, 3)
    assert "exclaims, if lively" not in found


def test_a_fact_of_somebody_else_and_a_wrong_style_are_counted(bench: ModuleType) -> None:
    person = calm_short_person()
    other = "cat" if "cat" not in person.facts[1].value else "dog"
    found = bench.observed(person, [bench.Turn(f"I have a {other}! Any idea for dinner? 😀", "Hm.")])
    assert found["tells a wrong fact"] == (1, 1)
    assert found["exclaims, if calm"] == (1, 1)
    assert found["emoji, if it uses none"] == (1, 1)
    assert found["words, short style"] == (8, 1)


def test_a_difference_is_one_of_means_over_places_and_its_interval_resamples_personas(bench: ModuleType) -> None:
    draws = bench.draws_of([2, 2], resamples=50)
    assert draws.shape == (50, 4)
    assert np.all(draws[:, :2] < 2)
    assert np.all(draws[:, 2:] >= 2)
    found = bench.figure([(1, 2), (1, 2), (1, 2), (1, 2)], [(3, 4), (0, 1), (3, 4), (0, 1)], draws)
    assert (found.scripted, found.other, found.n) == (0.5, 0.6, 10)
    assert found.low < 0.1 < found.high


def test_candidates_are_ranked_by_their_means(bench: ModuleType) -> None:
    levels = [{"blind": 2.0, "average": 3.0, "oracle": 1.0}, {"blind": 2.0, "average": 2.0, "oracle": 4.5}]
    people = {str(place): bench.Seen({}, each) for place, each in enumerate(levels)}
    assert bench.ranking(people) == ["blind", "average", "oracle"]
