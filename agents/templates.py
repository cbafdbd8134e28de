"""Prompts are files, filled once: persona and reply text are values, never part of a template.

The built-in prompts are versioned: `prompts/v1/` is complete, a later `vN/` holds the files that differ from the
version before. A file of a released version is never edited, so that runs begun with it can go on.
A judge's prompt may use `rubric` (None where the user gave none); where it does not, `vN/rubric/` has a twin that does.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from functools import cache, cached_property
from importlib.resources import files
from typing import cast

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from jinja2.meta import find_undeclared_variables
from pydantic import JsonValue

_NO_CONVERSATION = ("persona_", "audit_")
"""How the names of the prompts begin that ask for personas or look at a finished talk: no conversation sees them."""
IF_ASKED_FOR = ("judge_aspects", "again_aspects", "judge_list", "again_list")
"""Prompts that only a run uses whose settings ask for them: only its identity has their hashes."""


def quoted(value: str | Iterable[str]) -> str:
    """The text with `| ` before every line, so that no text can forge a line of the prompt around it."""
    text = value if isinstance(value, str) else "\n".join(value)
    return "\n".join(f"| {line}" for line in text.splitlines() or [""])


class PromptSet:
    """The prompts of one run, by name, and what else its user said about the wording."""

    def __init__(
        self,
        sources: Mapping[str, str],
        *,
        own: Mapping[str, str] | None = None,
        rubric: str | None = None,
        system: str | None = None,
        asked_for: Collection[str] = (),
    ) -> None:
        """`own` prompts take the place of those in `sources` that have their names; `asked_for`: of IF_ASKED_FOR."""
        self.own = dict(sorted((own or {}).items()))
        """The user's own prompts, by name."""
        self.sources = dict(sorted({**sources, **self.own}.items()))
        """Prompt name (its file's, without `.jinja`) -> the text of the template."""
        self.rubric = rubric
        """The user's criteria, in the judge's prompts; None: the built-in ones."""
        self.system = system
        """The system message of the candidate's requests; None: they have none."""
        self._unused = frozenset(IF_ASKED_FOR) - set(asked_for)
        self._environment = environment()
        self._environment.loader = DictLoader({f"{name}.jinja": text for name, text in self.sources.items()})
        self._environment.globals["rubric"] = rubric
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
        return {name: content_hash(source) for name, source in self.sources.items()}

    @property
    def identity(self) -> dict[str, JsonValue]:
        """What a run of conversations records of its wording. The user's own texts stand there whole, for judging."""
        said: dict[str, JsonValue] = {"own_prompts": dict(self.own), "rubric": self.rubric, "system": self.system}
        used = [name for name in self.hashes if not name.startswith(_NO_CONVERSATION) and name not in self._unused]
        hashes = {name: self.hashes[name] for name in used}
        return {"prompts": cast(JsonValue, hashes), **{name: text for name, text in said.items() if text}}


def environment() -> Environment:
    """How every template is read: a variable that is not given is an error, and nothing is escaped."""
    made = Environment(undefined=StrictUndefined, autoescape=False)
    made.filters["quoted"] = quoted
    return made


def content_hash(text: str) -> str:
    """First 12 hex digits of the SHA-256 of a text. A lone half of a surrogate pair counts as it came."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@cache
def prompt_versions() -> tuple[str, ...]:
    """The versions of the built-in prompts, oldest first."""
    folders = [each.name for each in files("interalign.agents").joinpath("prompts").iterdir() if each.is_dir()]
    return tuple(sorted((name for name in folders if name[1:].isdecimal()), key=lambda name: int(name[1:])))


@cache
def builtin_prompts(version: str | None = None) -> PromptSet:
    """The built-in prompts of this version, `v1` say; None: the newest."""
    return PromptSet(_sources(version or prompt_versions()[-1], with_rubric=False))


def prompts_of(
    recorded: Mapping[str, str] | None,
    *,
    own: Mapping[str, str] | None = None,
    rubric: str | None = None,
    system: str | None = None,
    asked_for: Collection[str] = (),
) -> PromptSet:
    """The prompts of a run that recorded these hashes, of the newest version for a new run (None).

    Where no version has all of them it is the one with most, so that what is said to have changed did.
    """
    sources = (_sources(version, with_rubric=rubric is not None) for version in reversed(prompt_versions()))
    made = [PromptSet(each, own=own, rubric=rubric, system=system, asked_for=asked_for) for each in sources]
    return closest(made, recorded or {})


def closest(versions: Sequence[PromptSet], recorded: Mapping[str, str]) -> PromptSet:
    """The set that has most of these hashes, the first of those that have as many."""
    return max(versions, key=lambda prompts: len(prompts.hashes.items() & recorded.items()))


def _sources(version: str, *, with_rubric: bool) -> dict[str, str]:
    """The templates of a version. Where a judge's prompt has no place for a rubric, its twin in `rubric/` has one."""
    upto = prompt_versions()[: prompt_versions().index(version) + 1]
    sources = {name: text for each in upto for name, text in _folder(each).items()}
    if with_rubric:
        twins = {name: text for each in upto for name, text in _folder(each, "rubric").items()}
        sources |= {name: text for name, text in twins.items() if "rubric" not in variables_of(sources[name])}
    return sources


def variables_of(source: str) -> set[str]:
    """The variables that a template uses; jinja2's TemplateSyntaxError if it is none."""
    return find_undeclared_variables(environment().parse(source))


def _folder(*path: str) -> dict[str, str]:
    folder = files("interalign.agents").joinpath("prompts", *path)
    found = [file for file in folder.iterdir() if file.name.endswith(".jinja")] if folder.is_dir() else []
    return {file.name.removesuffix(".jinja"): file.read_text(encoding="utf-8") for file in found}
