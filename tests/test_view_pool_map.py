"""The map on the page of a generated persona pool."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from view_pages import ATTACK, Element, Run, assert_inert, parsed, reply, user

from interalign.eval.view import create_app
from interalign.eval.view.pool_map import HEIGHT, MARGIN, WIDTH, MapItem, draw_maps, positions
from interalign.nearest_text import cosines_by_words
from interalign.similarity import embedded
from interalign.tree import Annotation

pytest_plugins = ["view_fixtures"]

BEES = ("I keep bees and sell honey", "I keep bees and eat honey", "my bees make honey")
TRAMS = ("he drives a tram in Porto", "she drives a tram in Lisbon", "a tram driver from Porto")
ALIKE = "is too much like another one"


def item(text: str, kind: str = "profile", kept: bool = True, nearest: str = "") -> MapItem:
    return MapItem(text, kind, kept, nearest, f"/personas#{text}")


def pool_of(run: Run, texts: Sequence[str], kind: str = "profile", **told: object) -> None:
    """A pool whose one call wrote these; `told` is what the filter said of each of them."""
    run.begin("personas")
    run.plan(f"{kind}-00000")
    asked = user(None, "Write profiles.")
    said = [{"text": text, "kept": True, **told} for text in texts]
    note = Annotation(node="1", name="items", by="filter", value=said)  # type: ignore[arg-type]
    run.say(f"{kind}-00000", [asked, reply(asked, 1)], notes=[note])


def page_of(run: Run, url: str = "/personas") -> Element:
    answer = TestClient(create_app(run.path)).get(url)
    assert answer.status_code == 200, answer.text[:300]
    return parsed(answer.text)


def test_the_vectors_are_those_that_the_filter_compares() -> None:
    texts = [*BEES, *TRAMS, "Ärger, twice twice!", "a"]
    rows = embedded(texts).rows
    assert np.allclose(cosines_by_words(texts), (rows @ rows.T).toarray(), atol=1e-6)


def test_what_shares_words_lies_together() -> None:
    placed = positions((*BEES, *TRAMS))
    assert placed is not None
    x = [each for each, _ in placed.at]
    assert max(x[:3]) < min(x[3:]) or max(x[3:]) < min(x[:3])
    assert 0 < placed.share <= 1


def test_the_same_items_lie_at_the_same_places_within_the_picture() -> None:
    texts = (*BEES, *TRAMS)
    first = positions(texts)
    positions.cache_clear()
    assert positions(texts) == first
    assert first is not None
    assert {(min(axis), max(axis)) for axis in zip(*first.at, strict=True)} == {
        (MARGIN, WIDTH - MARGIN), (MARGIN, HEIGHT - MARGIN)
    }  # fmt: skip


def test_items_unlike_all_others_do_not_squeeze_the_rest_into_a_strip() -> None:
    alike = [f"I keep bees {number} and sell honey {number % 5}" for number in range(40)]
    placed = positions((*alike, *["zebra"] * 3))
    assert placed is not None
    x = [each for each, _ in placed.at]
    assert len(set(x[-3:]) & {MARGIN, WIDTH - MARGIN}) == 1  # those lie at an edge
    assert max(x[:-3]) - min(x[:-3]) > (WIDTH - 2 * MARGIN) / 5


@pytest.mark.parametrize("texts", [(), ("a",), ("a", "b"), ("the same",) * 4, ("!", "?", "..."), ("", "", "")])
def test_too_few_items_and_those_without_a_difference_make_no_map(texts: tuple[str, ...]) -> None:
    assert draw_maps([item(text) for text in texts]) == ()


def test_each_kind_has_a_map_of_its_own() -> None:
    maps = draw_maps([*map(item, BEES), *(item(text, "personality") for text in TRAMS)])
    assert [(one.kind, len(one.points), one.total) for one in maps] == [("profile", 3, 3), ("personality", 3, 3)]


def test_a_near_duplicate_is_linked_to_the_item_that_it_is_too_much_like() -> None:
    twin = item("I keep bees and sell honey too", kept=False, nearest=BEES[0])
    lone = item("I keep wasps", kept=False, nearest="what the seeds say, which is not drawn")
    (drawn,) = draw_maps([*map(item, BEES), twin, lone])
    at = drawn.points
    assert drawn.lines == ((at[3].x, at[3].y, at[0].x, at[0].y),)
    assert [point.kept for point in at] == [True, True, True, False, False]


@pytest.mark.parametrize(("items", "drawn"), [(500, 500), (501, 251), (1001, 334)])
def test_of_a_large_pool_500_items_at_most_are_drawn_evenly_apart(items: int, drawn: int) -> None:
    (found,) = draw_maps([item(f"number {number}") for number in range(items)])
    assert (len(found.points), found.total) == (drawn, items)
    assert found.points[1].title == f"kept: number {-(-items // 500)}"


def test_the_page_says_how_many_of_a_large_pool_are_drawn(run: Run) -> None:
    pool_of(run, [f"number {number}" for number in range(501)])
    assert "251 of 501 drawn, evenly apart." in page_of(run).one("figcaption").words


def test_a_point_leads_to_its_item_on_its_page_of_the_list(run: Run) -> None:
    pool_of(run, [f"number {number}" for number in range(45)])
    points = page_of(run).one("figure").one("svg", role="group").every("a")
    assert len(points) == 45
    for number in (0, 39, 40, 44):
        address, _, anchor = points[number].attributes["href"].partition("#")
        assert points[number].one("title").text == f"kept: number {number}"
        assert page_of(run, address).one("article", id=anchor).one("div", class_="text").text == f"number {number}"


def test_kept_and_dropped_are_told_apart_by_shape(run: Run) -> None:
    pool_of(run, [*BEES, "other"], kept=False, reason=ALIKE, nearest=BEES[0])
    figure = page_of(run).one("figure")
    assert len(figure.one("svg", role="group").every("circle")) == 0
    assert len(figure.one("svg", role="group").every("path", class_="dropped-mark")) == 4
    assert "A line leads from a near-duplicate to the one it is too much like; seeds are not drawn." in figure.words


def test_a_list_of_one_verdict_has_no_map(run: Run) -> None:
    pool_of(run, BEES)
    assert page_of(run, "/personas?why=kept").every("figure") == []


def test_hostile_items_are_text_on_the_map_too(run: Run) -> None:
    pool_of(run, [ATTACK, f"{ATTACK} bees", "honey"], kept=False, reason=ALIKE, nearest=ATTACK)
    page = page_of(run)
    assert_inert(page)
    assert len(page.one("svg", role="group").every("a")) == 3


def test_a_pool_of_which_nothing_was_compared_is_shown_as_before(run: Run, tmp_path: Path) -> None:
    pool_of(run, ["one"])
    page = page_of(run)
    assert page.every("figure") == []
    assert len(page.every("article", class_="item")) == 1
