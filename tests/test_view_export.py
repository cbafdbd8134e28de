"""The viewer as one file."""

import re
from pathlib import Path

import pytest
from view_pages import Element, Run, card, listed, parsed, reply, turn, user

from interalign.errors import ConfigError
from interalign.eval.view import export_html
from interalign.tree import Message

pytest_plugins = ["view_fixtures"]


def test_the_exported_file_holds_the_list_and_every_turn_of_every_tree_and_nothing_from_elsewhere(
    night: Run, tmp_path: Path
) -> None:
    night.say("t2", [*turn(None), *turn("1"), *turn("2")])
    assert export_html(night.path, tmp_path / "run.html") == 2
    html = (tmp_path / "run.html").read_text(encoding="utf-8")
    page = parsed(html)
    assert not re.search(r"https?://|//\w", html)
    assert [line.one("th").text for line in listed(page)] == [
        "t0", "t1", "t2",
    ]  # fmt: skip
    ids = [element.attributes["id"] for element in page.every() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = {element.attributes["href"] for element in page.every() if "href" in element.attributes} - {"data:,"}
    assert targets <= {f"#{element_id}" for element_id in ids}
    first, second = page.every("section", class_="whole")
    assert card(first, "Green or black?").one("span", class_="badge").text == "chosen"
    assert [found.one("h3").words for found in second.every("section", class_="turn")] == [
        "Turn 1", "Turn 2", "Turn 2 after reply 2",
    ]  # fmt: skip
    assert "Content-Security-Policy" in html


def test_an_export_that_cannot_be_written_leaves_things_as_they_were(night: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its folder must exist"):
        export_html(night.path, tmp_path / "no" / "run.html")
    with pytest.raises(ConfigError, match="is read by this command and would be overwritten"):
        export_html(night.path, night.path)
    with pytest.raises(ConfigError, match="does not exist"):
        export_html(tmp_path / "no.db", tmp_path / "run.html")
    assert sorted(path.name for path in tmp_path.iterdir() if "run.db" not in path.name) == []


def test_a_file_of_many_trees_leaves_out_the_prompts_and_says_so(run: Run, tmp_path: Path) -> None:
    def export(trees: int) -> Element:
        run.plan(*(f"t{number}" for number in range(len(run.store.trees()), trees)))
        assert export_html(run.path, tmp_path / "run.html") == 1
        return parsed((tmp_path / "run.html").read_text(encoding="utf-8"))

    run.begin()
    run.plan("t0")
    call = run.call("t0", "1", "candidate", [Message(role="system", content="Be kind.")], "Green.")
    asked = user(None, "Which tea?")
    run.say("t0", [asked, reply(asked, 1, "Green.", call=call)])
    run.end("t0")
    few, many = export(30), export(31)
    said = "Prompts are left out of a file of more than 30 trees: interalign view shows them."
    assert [("Be kind." in page.text, said in page.words) for page in (few, many)] == [(True, False), (False, True)]
    assert "Which tea?" in many.text
