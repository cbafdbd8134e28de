"""The list of trees: search, filters, order, pages."""

from collections.abc import Callable

from view_pages import Element, Run, listed

pytest_plugins = ["view_fixtures"]


def test_the_list_has_a_line_for_every_tree_and_links_those_with_something_to_see(
    night: Run, browse: Callable[..., Element]
) -> None:
    lines = listed(browse("/trees"))
    assert [line.one("th").text for line in lines] == ["t0", "t1", "t2"]
    assert [len(line.every("a")) for line in lines] == [0, 1, 0]
    assert "the user said nothing usable in turn 1" in lines[0].words
    assert "I drink tea. I keep bees." in lines[1].words
    assert lines[1].every("td")[-1].words == "1 preferred, 1 tie, 1 missing"


def test_a_long_list_comes_in_pages_of_a_hundred(run: Run, browse: Callable[..., Element]) -> None:
    run.begin()
    run.plan(*(f"t{number}" for number in range(201)))
    run.end("t7", failed="no")
    assert len(browse("/trees").every("tr")) == 101
    assert browse("/trees?page=2").one("nav", class_="pages").words == "← before 101 to 200 of 201 next →"
    assert [line.one("th").text for line in listed(browse("/trees?page=3"))] == ["t200"]
    assert [line.one("th").text for line in listed(browse("/trees?status=failed"))] == ["t7"]
