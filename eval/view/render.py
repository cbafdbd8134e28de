"""From views to HTML. Whatever a text holds, it comes out as text."""

import base64
import hashlib
from collections.abc import Iterator
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from interalign.eval.safe_text import visible
from interalign.eval.view.marks import signed


def _sparkline(by_turn: tuple[float | None, ...]) -> str:
    """SVG path of scores 1 to 5 over the turns, 8 by 5 pixels a step; a missing one leaves a gap."""
    steps: list[str] = []
    pen_down = False
    for turn, score in enumerate(by_turn):
        if score is not None:
            steps.append(f"{'L' if pen_down else 'M'}{3 + 8 * turn} {23 - 5 * (score - 1):g}")
            steps += [] if pen_down else ["h.01"]  # a lone score must leave a node
        pen_down = score is not None
    return "".join(steps)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("interalign.eval.view", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sparkline"] = _sparkline
    environment.filters["signed"] = signed
    return environment


@cache
def style() -> str:
    """The one style sheet, put into every page."""
    return _environment().get_template("style.css.jinja").render()


@cache
def policy() -> str:
    """Content security policy of every page: this style sheet, drawn pictures, nothing else, no script ever."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def pieces(template: str, **values: object) -> Iterator[str]:
    """The page piece by piece, its views asked for when their turn comes: a file of many trees fits in memory."""
    found = _environment().get_template(f"{template}.html.jinja")
    return found.generate(style=Markup(style()), policy=policy(), **values)


def page(template: str, **values: object) -> str:
    """The whole page."""
    return "".join(pieces(template, **values))
