"""The list of trees: search, filters, order, pages."""

from collections.abc import Callable

import pytest
from view_pages import ADA, BOB, TURN_1, Element, Run, compared, listed, reply, score, turn, user

from interalign.tree import Annotation, Message

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


def test_a_long_list_comes_in_pages_of_thirty(run: Run, browse: Callable[..., Element]) -> None:
    run.begin()
    run.plan(*(f"t{number}" for number in range(61)))
    run.end("t7", failed="no")
    assert len(browse("/trees").every("tr")) == 31
    assert browse("/trees?page=2").one("nav", class_="pages").words == "← before 31 to 60 of 61 next →"
    assert [line.one("th").text for line in listed(browse("/trees?page=3"))] == ["t60"]
    assert [line.one("th").text for line in listed(browse("/trees?status=failed"))] == ["t7"]


# Search, filters, order ----------------------------------------------------------------------------------------------


def ids(page: Element) -> list[str]:
    tables = page.every("table", class_="list")
    return [line.one("th").text for line in tables[0].one("tbody").every("tr")] if tables else []


@pytest.fixture
def measured(run: Run) -> Run:
    """Two candidates on two cases, three turns each, scored by two judges; a fifth tree failed, a sixth is waiting."""
    run.begin("evaluation", [ADA, BOB])
    for case, persona in (("c1", "ada"), ("c2", "bob")):
        for name in ("old", "new"):
            run.plan(f"{name}/{case}", persona=persona, candidate=name, case=case)
    run.plan("old/c3", candidate="old", case="c3")
    run.plan("new/c3", candidate="new", case="c3")
    given = {"old/c1": (5, 3, 1), "new/c1": (4, 4, 5), "old/c2": (2, 2, 2), "new/c2": (3, 3, None)}
    for tree, values in given.items():
        at = None
        for number, value in enumerate(values, start=1):
            nodes = turn(at, 1)
            texts = [f"Tea at turn {number}?", f"{tree} drinks {'CHAI' if number == 2 else 'tea'} 100% of_the time."]
            said = [node.model_copy(update={"text": text}) for node, text in zip(nodes, texts, strict=True)]
            other = 1 if (tree, number) == ("old/c2", 3) else value
            run.say(tree, said, scores=[score(nodes[1].id, other, "strict"), score(nodes[1].id, value)])
            at = nodes[1].id
        run.end(tree)
    run.say("old/c1", [], notes=[Annotation(node="1", name="leak", by="interalign", value=["bees"])])
    run.end("old/c3", failed="the server said 500")
    return run


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["old/c1", "new/c1", "old/c2", "new/c2", "old/c3", "new/c3"]),
        ("words=chai", ["old/c1", "new/c1", "old/c2", "new/c2"]),
        ("words=NEW/c1+drinks", ["new/c1"]),
        ("words=100%25+of_the", ["old/c1", "new/c1", "old/c2", "new/c2"]),
        ("words=100%25+of-the", []),
        ("words=1%25+of", []),
        ("words=chai&turn=2&candidate=old", ["old/c1", "old/c2"]),
        ("words=chai&turn=1", []),
        ("persona=bob", ["old/c2", "new/c2"]),
        ("persona=bees", ["old/c1", "new/c1", "old/c3", "new/c3"]),
        ("candidate=new", ["new/c1", "new/c2", "new/c3"]),
        ("candidate=ne", []),
        ("turn=3", ["old/c1", "new/c1", "old/c2", "new/c2"]),
        ("turn=4", []),
        ("low=5", ["old/c1", "new/c1"]),
        ("high=1", ["old/c1"]),
        ("high=1&judge=strict", ["old/c1", "old/c2"]),
        ("low=5&turn=3", ["new/c1"]),
        ("judges=1", ["old/c2"]),
        ("note=leak", ["old/c1"]),
        ("note=audit", []),
        ("reason=the+server+said+500", ["old/c3"]),
        ("reason=the+server", []),
        ("status=failed", ["old/c3"]),
        ("status=planned&candidate=new", ["new/c3"]),
        ("sort=worst", ["old/c2", "old/c1", "new/c2", "new/c1", "old/c3", "new/c3"]),
        ("sort=best", ["new/c1", "old/c1", "new/c2", "old/c2", "old/c3", "new/c3"]),
        ("sort=falling", ["old/c1", "old/c2", "new/c2", "new/c1", "old/c3", "new/c3"]),
        ("sort=gap", ["old/c1", "new/c1", "old/c2", "new/c2", "old/c3", "new/c3"]),
        ("sort=worst&candidate=old&words=tea", ["old/c2", "old/c1"]),
        ("words=&persona=&low=&turn=&sort=planned", ["old/c1", "new/c1", "old/c2", "new/c2", "old/c3", "new/c3"]),
    ],
)
def test_the_list_holds_just_the_trees_that_were_asked_for_in_the_order_that_was(
    measured: Run, browse: Callable[..., Element], query: str, found: list[str]
) -> None:
    assert ids(browse(f"/trees?{query}")) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [("orders=1", ["t1"]), ("note=length", ["t1"]), ("words=GREEN", ["t1"]), ("candidate=average", ["t1"])],
)
def test_a_simulation_is_searched_too(night: Run, browse: Callable[..., Element], query: str, found: list[str]) -> None:
    night.say("t2", [*turn(None), *turn("1")], [compared("1", "2", "A", "B")])
    if query == "candidate=average":
        found = ["t1", "t2"]
    assert ids(browse(f"/trees?{query}")) == found


def test_replies_of_one_turn_whose_scores_lie_far_apart_are_found_and_come_first(
    run: Run, browse: Callable[..., Element]
) -> None:
    run.begin()
    run.plan("near", "far")
    run.say("near", turn(None), scores=[score("1", 3), score("2", 4)])
    run.say("far", turn(None), scores=[score("1", 1), score("2", 5)])
    assert ids(browse("/trees?margin=4")) == ["far"]
    assert ids(browse("/trees?margin=1")) == ["near", "far"]
    assert ids(browse("/trees?margin=4&turn=2")) == []
    assert ids(browse("/trees?sort=gap")) == ["far", "near"]


def test_a_long_message_that_is_stored_as_a_difference_is_searched_too(
    run: Run, browse: Callable[..., Element]
) -> None:
    """A user's message that only a candidate's prompt held before lies in the file as a difference to another."""
    run.begin()
    run.plan("t1")
    first, second = ("".join(f"{word} {n}. " for n in range(60)) for word in ("tea", "coffee"))
    run.call("t1", "1", "candidate", [Message(role="user", content=first)], "One.")
    run.call("t1", "1/1", "candidate", [Message(role="user", content=second)], "Two.")
    run.say("t1", [user(None, first), reply(user(None), 1), user("1", second), reply(user("1"), 1)])
    assert ids(browse("/trees?words=COFFEE+59")) == ["t1"]
    assert ids(browse("/trees?words=coffee+60")) == []


def test_the_form_shows_what_was_asked_for_and_every_link_keeps_it(
    measured: Run, browse: Callable[..., Element]
) -> None:
    page = browse("/trees?words=tea&candidate=old&sort=worst&judge=strict")
    form = page.one("form")
    assert form.one("input", name="words").attributes["value"] == "tea"
    chosen = [option.text for option in form.every("option") if "selected" in option.attributes]
    assert chosen == ["old", "lowest mean score first"]
    assert form.one("input", name="judge").attributes["value"] == "strict"
    statuses = page.one("nav", aria_label="Status").every("a")
    assert statuses[1].attributes["href"] == "/trees?judge=strict&words=tea&candidate=old&sort=worst&status=done"
    chips = page.one("nav", aria_label="first").every("a")
    assert [(chip.text, "aria-current" in chip.attributes) for chip in chips] == [
        ("worst", True), ("falling", False), ("largest gap", False), ("judges disagree", False),
    ]  # fmt: skip
    assert chips[0].attributes["href"] == "/trees?judge=strict&words=tea&candidate=old"
    assert chips[1].attributes["href"].endswith("sort=falling")


def test_an_address_of_the_list_from_before_it_had_a_page_of_its_own_still_shows_it(
    night: Run, browse: Callable[..., Element]
) -> None:
    assert ids(browse("/?status=failed")) == ["t0"]
    assert ids(browse("/?page=1")) == ["t0", "t1", "t2"]


def test_a_tree_that_grows_and_one_that_waits_are_called_so(night: Run, browse: Callable[..., Element]) -> None:
    night.plan("t3")
    night.say("t3", TURN_1)
    states = [line.one("span", class_="status").text for line in listed(browse("/trees"))]
    assert states == ["failed", "done", "waiting", "growing"]
