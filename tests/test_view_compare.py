"""One case side by side, and the figures with the conversations behind them."""

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient
from view_pages import ADA, BOB, Element, Run, compared, fetched, parsed, score, served, turn

from interalign.eval.run_report import run_report
from interalign.eval.view import create_app
from interalign.ledger.budget import Prices
from interalign.store import Store

pytest_plugins = ["view_fixtures"]


def talk(run: Run, tree: str, values: tuple[int | None, ...], judge: str = "judge") -> None:
    """A conversation with these scores, turn by turn."""
    at = None
    for value in values:
        nodes = turn(at, 1)
        run.say(tree, nodes, scores=[score(nodes[1].id, value, judge)])
        at = nodes[1].id
    run.end(tree)


SCORES = {
    "a": {"old": (3, 3), "new": (3, 4)},
    "b": {"old": (1, 1), "new": (5, 5)},
    "c": {"old": (2, None), "new": (3, 4)},
    "d": {"old": (4, 4)},
}


@pytest.fixture
def scored(run: Run) -> Run:
    """Four cases, the last with one candidate only."""
    run.begin("evaluation", [ADA, BOB], turns=2, judge="judge")
    for case, by_name in SCORES.items():
        for name, values in by_name.items():
            run.plan(f"{name}/{case}", persona="ada" if case in "ab" else "bob", candidate=name, case=case)
            talk(run, f"{name}/{case}", values)
    return run


def columns(page: Element) -> list[str]:
    return [cell.words for cell in page.one("table", class_="beside").one("thead").every("th")[1:]]


def test_the_case_with_the_largest_gap_is_shown_first_and_links_lead_down_the_gaps(
    scored: Run, browse: Callable[..., Element]
) -> None:
    page, seen = browse("/compare"), list[str]()
    while (following := page.every("a", data_key="j")) and len(seen) < 9:
        seen.append(page.one("h1").text)
        page = browse(following[0].attributes["href"])
    assert [*seen, page.one("h1").text] == ["b", "c", "a"]
    assert page.one("a", data_key="k").attributes["href"] == "/compare?case=c"
    assert columns(browse("/compare?case=b")) == ["old mean 1.00", "new mean 5.00"]


def test_the_conversations_of_a_case_stand_turn_by_turn_with_scores_and_the_judges_words(
    scored: Run, browse: Callable[..., Element]
) -> None:
    page = browse("/compare?case=c")
    lines = page.one("table", class_="beside").one("tbody").every("tr")
    assert [line.one("th").text for line in lines] == ["1", "2"]
    first, second = (cell.words for cell in lines[1].every("td"))
    assert first == "And now? Reply 1 after 1/u. Judge\u2019s words Hmm."
    assert second == "And now? score 4 Reply 1 after 1/u. Judge\u2019s words It fits. Score: 4"
    assert [link.attributes["href"] for link in page.one("thead").every("a")] == ["/tree/old%2Fc", "/tree/new%2Fc"]


def test_turns_whose_scores_lie_two_or_more_apart_are_marked(scored: Run, browse: Callable[..., Element]) -> None:
    lines = {case: browse(f"/compare?case={case}").one("tbody").every("tr") for case in "ab"}
    assert [["apart" in line.attributes.get("class", "") for line in lines[case]] for case in "ab"] == [
        [False, False], [True, True],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/compare?case=nowhere", "There is no case 'nowhere' in this run."),
        ("/compare?judge=nobody", "No judge 'nobody' was asked in this run."),
    ],
)
def test_a_case_or_judge_that_is_not_there_is_said_in_one_line(
    scored: Run, browse: Callable[..., Element], url: str, said: str
) -> None:
    assert browse(url, 404).one("p", class_="sorry").text == said


def test_a_run_with_nothing_to_compare_says_what_would_be(night: Run, browse: Callable[..., Element]) -> None:
    assert browse("/compare", 404).one("p", class_="sorry").text == (
        "There is nothing to compare: no case of this run has the scores of two candidates. "
        "`interalign view A.db B.db` compares runs of the same cases."
    )


@pytest.fixture
def other(scored: Run) -> Iterator[Run]:
    """A second run file of case d, and of one that the first has not."""
    made = Run(scored.path.with_name("other.db"))
    made.begin("evaluation", [BOB], turns=2, judge="judge")
    for case, values in {"d": (1, 2), "e": (5, 5)}.items():
        made.plan(f"tuned/{case}", persona="bob", candidate="tuned", case=case)
        talk(made, f"tuned/{case}", values)
    yield made
    made.store.close()


def test_runs_are_compared_by_case_and_each_has_its_own_pages(scored: Run, other: Run) -> None:
    client = TestClient(create_app(scored.path, others=[other.path]))

    def get(url: str) -> Element:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text[:300]
        return parsed(answer.text)

    page = get("/compare?case=d")
    assert columns(page) == ["old in run.db mean 4.00", "tuned in other.db mean 1.50"]
    links = [link.attributes["href"] for link in page.one("thead").every("a")]
    assert links == ["/tree/old%2Fd", "/run/2/tree/tuned%2Fd"]
    assert [get(link).one("h1").text for link in links] == ["old/d", "tuned/d"]
    assert get("/run/2/").one("p", class_="eyebrow").words == "interalign evaluation · other.db"
    menu = get("/run/2/trees").one("nav", aria_label="Menu").every("a")
    assert [link.attributes["href"] for link in menu[1:]] == [
        "/run/2/", "/run/2/trees", "/run/2/compare", "/run/2/eval", "/run/2/judge", "/run/2/label", "/run/2/simulator",
        "/run/2/graph",
    ]  # fmt: skip
    listed = get("/run/2/trees").one("table", class_="list").one("tbody").every("a")
    assert [link.attributes["href"] for link in listed] == ["/run/2/tree/tuned%2Fd", "/run/2/tree/tuned%2Fe"]
    files = get("/").one("nav", aria_label="files").every("a")
    assert [(link.text, link.attributes["href"]) for link in files] == [("run.db", "/"), ("other.db", "/run/2/")]


def test_the_command_shows_several_run_files(scored: Run, other: Run) -> None:
    with served(scored.path, str(other.path), "--port", "0") as (address, _):
        assert len(columns(fetched(f"{address}compare?case=d"))) == 2


# Figures -------------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_report(scored: Run, browse: Callable[..., Element]) -> None:
    with Store.open(scored.path) as store:
        report = run_report(store, Prices(()))
    page = browse("/eval")
    rows = [line.words for line in page.every("table", class_="numbers")[0].one("tbody").every("tr")]
    assert rows[0].startswith(f"old 4 {report.candidates[0].missing} {report.candidates[0].al_mean:.2f}")
    low, high = report.candidates[0].al_ci or (0, 0)
    assert f"[{low:.2f}, {high:.2f}]" in rows[0]
    each = [cell.words for cell in page.every("table", class_="numbers")[1].one("tbody").every("tr")[0].every("td")]
    assert each == ["2.50 n 4", "2.67 n 3"]
    (pair,) = report.comparisons
    line = page.every("table", class_="numbers")[2].one("tbody").one("tr").words
    assert line.startswith(f"old minus new {pair.delta_al:.2f}")
    assert line.endswith(f"{pair.p_holm:.3g} {pair.n}")


def test_a_point_of_a_curve_leads_to_just_the_conversations_behind_it(
    scored: Run, browse: Callable[..., Element]
) -> None:
    points = browse("/eval").one("figure", class_="chart").every("a")
    titles = [point.one("title").text for point in points]
    assert [title.split(",")[0] for title in titles] == ["old", "old", "new", "new"]
    assert titles[1].startswith("old, turn 2: 2.67")
    assert titles[1].endswith("n 3")
    found = browse(points[1].attributes["href"]).one("table", class_="list").one("tbody").every("th")
    assert [cell.text for cell in found] == ["old/b", "old/a", "old/d"]


def test_a_simulation_with_scores_has_a_curve_for_each_speaker_and_one_without_says_where_figures_are(
    run: Run, browse: Callable[..., Element]
) -> None:
    run.begin(turns=1, judge="judge")
    run.plan("t1")
    assert "interalign report" in browse("/eval").one("main").one("p", class_="soft").text
    asked, first, second = turn(None)
    hinted = second.model_copy(update={"hinted": True})
    run.say("t1", [asked, first, hinted], scores=[score("1", 2), score("2", 5)])
    run.end("t1")
    names = [
        line.one("th").text for line in browse("/eval").every("table", class_="numbers")[0].one("tbody").every("tr")
    ]
    assert names == ["average", "average+hint"]


def test_the_front_page_has_the_curve_and_says_what_fell_short(scored: Run, browse: Callable[..., Element]) -> None:
    front = browse("/")
    assert len(front.one("figure", class_="chart").every("g")) == 2
    assert front.one("p", class_="sorry").text == "Fell short: 1 of 14 answers of judge judge are missing"


def test_verdicts_on_replies_that_all_saw_the_same_have_no_curve(run: Run, browse: Callable[..., Element]) -> None:
    run.begin(turns=1)
    run.plan("t1")
    run.say("t1", turn(None), [compared("1", "2", "A", "B")])
    run.end("t1")
    assert browse("/").every("figure", class_="chart") == []
    assert "interalign report" in browse("/eval").one("main").one("p", class_="soft").text


def test_figures_of_the_world_say_so_on_their_page(run: Run, browse: Callable[..., Element]) -> None:
    run.begin("evaluation", turns=1, user="world:user", judge="world:judge")
    run.plan("a/x", candidate="a", case="x")
    talk(run, "a/x", (3,), "world:judge")
    assert "nothing about how good a language model is" in browse("/eval").one("p", class_="caution").text


def test_the_win_rate_of_the_inducers_notes_is_that_of_the_report(run: Run, browse: Callable[..., Element]) -> None:
    run.begin(personas=[ADA, BOB], turns=2, judge="judge")
    verdicts = {"t1": ("A", "B"), "t2": ("A", "A"), "t3": ("B", "A"), "t4": ("A", None)}
    for tree, (first, second) in verdicts.items():
        run.plan(tree, persona="ada" if tree < "t3" else "bob")
        asked, one, two = turn(None)
        hinted = one.model_copy(update={"hinted": True})
        run.say(tree, [asked, hinted, two], [compared("1", "2", first, second)])
        run.end(tree)
    with Store.open(run.path) as store:
        hint = run_report(store, Prices(())).judge.hint
    assert hint is not None
    assert (hint.wins, hint.ties, hint.losses) == (1, 1, 1)
    for url in ("/", "/eval"):
        page = browse(url)
        said = page.one("p", class_="wins").words
        low, high = hint.ci or (0, 0)
        assert f"won 0.50 [{low:.2f}, {high:.2f}] of its comparisons" in said
        assert said.endswith("1 won, 1 tied, 1 lost (n 3), by judge")
        (point,) = page.one("figure", class_="chart").every("a")
        assert point.attributes["href"] == "/trees?judge=judge&turn=1"
