"""Prompts are files, filled once: persona and reply text are values, never part of a template."""

import hashlib
from collections.abc import Iterable
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def quoted(value: str | Iterable[str]) -> str:
    """The text with `| ` before every line, so that no text can forge a line of the prompt around it."""
    text = value if isinstance(value, str) else "\n".join(value)
    return "\n".join(f"| {line}" for line in text.splitlines() or [""])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("interalign.agents", "prompts"), undefined=StrictUndefined, autoescape=False
    )
    environment.filters["quoted"] = quoted
    return environment


@cache
def _template(name: str) -> Template:
    return _environment().get_template(f"{name}.jinja")


def render(name: str, **values: object) -> str:
    """The prompt `name` with these values; a variable the template needs and did not get is an error."""
    return _template(name).render(values)


@cache
def prompt_versions() -> dict[str, str]:
    """Prompt name -> first 12 hex digits of its content hash: part of a run's identity."""
    environment = _environment()
    assert environment.loader is not None
    names = environment.list_templates(extensions=["jinja"])
    sources = {name: environment.loader.get_source(environment, name)[0] for name in names}
    return {
        name.removesuffix(".jinja"): hashlib.sha256(source.encode()).hexdigest()[:12]
        for name, source in sorted(sources.items())
    }
