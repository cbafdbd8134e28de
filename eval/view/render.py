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
def script() -> str:
    """The one script, put into every page that is served: keys, copying, the picture's place. Pages work without it."""
    return _environment().get_template("keys.js.jinja").render()


@cache
def policy() -> str:
    """Content security policy of every page that is served: this style sheet, this script, pictures, our forms."""
    return f"{_allowed(style())}; script-src {_digest(script())}; form-action 'self'"


def _allowed(sheet: str) -> str:
    return f"default-src 'none'; style-src {_digest(sheet)}; img-src data:; base-uri 'none'"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def pieces(template: str, **values: object) -> Iterator[str]:
    """A page that is a file of its own, piece by piece.

    Its views are asked for when their turn comes: a file of many trees fits in memory.
    """
    found = _environment().get_template(f"{template}.html.jinja")
    alone = f"{_allowed(style())}; form-action 'none'"
    return found.generate(**_NO_SERVER | {"style": Markup(style()), "policy": alone} | values)


_NO_SERVER = {"script": None, "menu": (), "files": (), "home": "/", "refresh": None}
"""What only a page that is served has."""


def page(template: str, **values: object) -> str:
    """The whole page, as it is served."""
    return "".join(pieces(template, script=Markup(script()), **{"policy": policy()} | values))
