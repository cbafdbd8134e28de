"""Contrast of the viewer's colours in both themes, from the style sheet's own variables (WCAG 2.2, level AA)."""

import re
from itertools import product

import pytest

from interalign.eval.view.render import style

TEXT, SHAPE = 4.5, 3.0
"""Least contrast of text, and of marks and what shows where the focus is."""
GROUNDS = ("paper", "card", "band", "user-card")
"""What text stands on."""
WORDS = ("ink", "soft", "chosen", "rejected", "hint", "user", "link")
"""Colours that text has."""


def themes() -> dict[str, dict[str, str]]:
    """Theme -> variable -> `#rrggbb`; what the dark theme leaves alone is as in the light one."""
    light, dark = re.findall(r":root \{(.*?)\}", style(), re.DOTALL)
    found = {
        name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text))
        for name, text in (("light", light), ("dark", dark))
    }
    return {"light": found["light"], "dark": found["light"] | found["dark"]}


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_is_21_to_1_and_grey_on_white_as_the_standard_has_it() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("word", "ground"), product(WORDS, GROUNDS))
def test_every_colour_of_text_can_be_read_on_everything_it_stands_on(theme: str, word: str, ground: str) -> None:
    colours = themes()[theme]
    assert contrast(colours[word], colours[ground]) >= TEXT


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_written_in_a_filled_mark_or_switch_can_be_read(theme: str) -> None:
    colours = themes()[theme]
    assert contrast(colours["paper"], colours["chosen"]) >= TEXT
    assert contrast(colours["paper"], colours["ink"]) >= TEXT


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_colours_of_curves_can_be_told_from_the_page(theme: str) -> None:
    series = re.findall(r"--series: light-dark\((#\w+), (#\w+)\)", style())
    assert len(series) == 3
    own = [pair[theme == "dark"] for pair in series]
    assert [colour for colour in own if contrast(colour, themes()[theme]["paper"]) < TEXT] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_edge_of_a_field_can_be_seen(theme: str) -> None:
    colours = themes()[theme]
    assert min(contrast(colours["field"], colours[ground]) for ground in ("paper", "card")) >= SHAPE
