"""Every key of the viewer, pressed in a real browser; and the same ways by links, without any script."""

from collections.abc import Callable
from pathlib import Path

from browser import Browser, browsing
from view_pages import Element, Run, card, listening, score, turn, with_a_browser

pytest_plugins = ["view_fixtures"]


@with_a_browser
def test_every_key_leads_where_its_link_does(night: Run, tmp_path: Path) -> None:
    night.plan("t3")
    night.say("t3", turn(None))

    with listening(night.path) as address:

        async def work(browser: Browser) -> None:
            async def after(key: str, expression: str) -> None:
                await browser.press(key)
                await browser.until(f"({expression}) && document.readyState === 'complete'")

            await browser.open(f"{address}/tree/t1")
            await after("]", "location.search === '?node=2%2F1'")
            await after("]", "location.search === '?node=2%2F1%2F1'")
            await after("[", "location.search === '?node=2%2F1'")
            await after("n", "location.search === '?node=2%2F2'")
            await after("p", "location.search === '?node=2%2F1'")
            await after("d", "location.search.includes('show=difference') && document.querySelector('ins')")
            await after("d", "location.search === '?node=2%2F1'")
            await after("t", "location.search.includes('show=talk') && document.querySelector('.only-talk')")
            await after("/", "location.pathname === '/trees'")
            await after("/", "document.activeElement.name === 'words'")
            await after("?", "document.activeElement.value === '?'")
            await browser.open(f"{address}/tree/t1")
            await after("?", "document.querySelector('footer details').open")
            await after("?", "!document.querySelector('footer details').open")

        browsing(tmp_path / "browser", work)


@with_a_browser
def test_j_and_k_go_through_trees_and_cases_and_c_copies_the_conversation(run: Run, tmp_path: Path) -> None:
    run.begin("evaluation")
    for case, (old, new) in {"near": (3, 4), "far": (1, 5)}.items():
        for name, value in (("old", old), ("new", new)):
            run.plan(f"{name}/{case}", candidate=name, case=case)
            run.say(f"{name}/{case}", turn(None, 1), scores=[score("1", value)])
    with listening(run.path) as address:

        async def work(browser: Browser) -> None:
            await browser.open(f"{address}/tree/old%2Fnear")
            await browser.press("j")
            await browser.until("location.pathname === '/tree/new%2Fnear'")
            await browser.until("document.readyState === 'complete'")
            await browser.press("k")
            await browser.until("location.pathname === '/tree/old%2Fnear'")
            await browser.open(f"{address}/compare")
            assert await browser.read("document.querySelector('h1').textContent") == "far"
            await browser.press("j")
            await browser.until("location.search === '?case=near' && document.readyState === 'complete'")
            await browser.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
            await browser.open(f"{address}/tree/old%2Fnear?show=talk")
            await browser.press("c")
            await browser.until("document.querySelector('button').textContent === 'copied'")
            copied = await browser.read("navigator.clipboard.readText()")
            assert [line.strip() for line in copied.splitlines() if line.strip()] == [
                "user", "And now?", "assistant", "Reply 1 after u.",
            ]  # fmt: skip

        browsing(tmp_path / "browser", work)


@with_a_browser
def test_with_scripts_switched_off_the_same_links_are_there_and_no_button_that_would_do_nothing(
    night: Run, tmp_path: Path
) -> None:
    with listening(night.path) as address:

        async def work(browser: Browser) -> None:
            await browser.ask("Emulation.setScriptExecutionDisabled", value=True)
            await browser.open(f"{address}/tree/t1?show=talk")
            visible = "[...document.querySelectorAll('button')].filter((b) => b.offsetParent).length"
            assert await browser.read(visible) == 0
            keys = "[...document.querySelectorAll('nav [data-key]')].map((a) => a.dataset.key).join('')"
            assert await browser.read(keys) == "/kjdt]p"

        browsing(tmp_path / "browser", work)


def test_the_word_difference_is_in_the_address_and_shows_what_only_one_reply_says(
    night: Run, browse: Callable[..., Element]
) -> None:
    assert browse("/tree/t1").every("div", class_="difference") == []
    page = browse("/tree/t1?show=difference")
    shown = page.one("div", class_="difference").one("div", class_="text")
    assert [(part.tag, part.text.strip()) for part in shown.every()] == [
        ("del", "Any will do."), ("ins", "Green or black?"),
    ]  # fmt: skip
    assert card(page, "Green or black?").one("a", class_="place").attributes["href"] == (
        "/tree/t1?node=1&show=difference#n1"
    )


def test_the_conversation_alone_is_the_path_through_the_selected_message(
    night: Run, browse: Callable[..., Element]
) -> None:
    said = [article.one("div").text for article in browse("/tree/t1?show=talk&node=1").every("article")]
    assert said == ["I like tea. Which one?", "Green or black?"]
    assert browse("/tree/t1?show=upside-down", 404).one("p", class_="sorry").text == (
        "A tree is not shown as 'upside-down'; there are difference and talk."
    )
