"""Prompts are files, filled once: persona and reply text are values, never part of a template.

The built-in prompts are versioned: `prompts/v1/` is complete, a later `vN/` holds the files that differ from the
version before. A file of a released version is never edited, so that runs begun with it can go on.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cache, cached_property
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from jinja2.meta import find_undeclared_variables


def quoted(value: str | Iterable[str]) -> str:
    """The text with `| ` before every line, so that no text can forge a line of the prompt around it."""
    text = value if isinstance(value, str) else "\n".join(value)
    return "\n".join(f"| {line}" for line in text.splitlines() or [""])


class PromptSet:
    """The prompts of one run, by name."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = dict(sorted(sources.items()))
        """Prompt name (its file's, without `.jinja`) -> the text of the template."""
        self._environment = Environment(
            loader=DictLoader({f"{name}.jinja": source for name, source in self.sources.items()}),
            undefined=StrictUndefined,
            autoescape=False,
        )
        self._environment.filters["quoted"] = quoted
        self._templates: dict[str, Template] = {}

    def render(self, name: str, **values: object) -> str:
        """The prompt `name` with these values; a variable the template needs and did not get is an error."""
        template = self._templates.get(name)
        if template is None:
            template = self._templates[name] = self._environment.get_template(f"{name}.jinja")
        return template.render(values)

    def takes(self, name: str, variable: str) -> bool:
        """Whether there is a prompt `name` that shows this variable: what a prompt shows says how it is sent."""
        return variable in self._variables.get(name, ())

    @cached_property
    def _variables(self) -> Mapping[str, Set[str]]:
        parse = self._environment.parse
        return {name: find_undeclared_variables(parse(source)) for name, source in self.sources.items()}

    @property
    def checks_notes(self) -> bool:
        """Whether a note of nothing is no hint and hinted replies are checked: all but version 1, which had neither."""
        return self.takes("inducer", "conversation")

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Prompt name -> first 12 hex digits of its content hash: part of a run's identity."""
        return {name: hashlib.sha256(source.encode()).hexdigest()[:12] for name, source in self.sources.items()}


@cache
def prompt_versions() -> tuple[str, ...]:
    """The versions of the built-in prompts, oldest first."""
    folders = [each.name for each in files("interalign.agents").joinpath("prompts").iterdir() if each.is_dir()]
    return tuple(sorted((name for name in folders if name[1:].isdecimal()), key=lambda name: int(name[1:])))


@cache
def builtin_prompts(version: str | None = None) -> PromptSet:
    """The built-in prompts of this version, `v1` say; None: the newest."""
    versions = prompt_versions()
    upto = versions.index(version) if version else len(versions) - 1
    return PromptSet({name: text for each in versions[: upto + 1] for name, text in _folder(each).items()})


def prompts_of(recorded: Mapping[str, str] | None) -> PromptSet:
    """The built-in prompts of a run that recorded these hashes, the newest for a new run (None).

    Where no version has all of them it is the one with most, so that what is said to have changed did.
    """
    return closest([builtin_prompts(version) for version in reversed(prompt_versions())], recorded or {})


def closest(versions: Sequence[PromptSet], recorded: Mapping[str, str]) -> PromptSet:
    """The set that has most of these hashes, the first of those that have as many."""
    return max(versions, key=lambda prompts: len(prompts.hashes.items() & recorded.items()))


def _folder(version: str) -> dict[str, str]:
    found = files("interalign.agents").joinpath("prompts", version).iterdir()
    return {
        file.name.removesuffix(".jinja"): file.read_text(encoding="utf-8")
        for file in found
        if file.name.endswith(".jinja")
    }
