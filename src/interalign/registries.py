"""The open sets: what a user can add to. A member is built in, installed as an entry point, or `module:attribute`.

To add a built-in member is to add one file and one line to the table below. Nothing is imported until it is used.
"""

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from interalign.errors import ConfigError, did_you_mean


class Member(NamedTuple):
    """A member of an open set as it is listed: nothing of it is imported."""

    name: str
    target: str
    """`module:attribute`."""
    is_built_in: bool

    @property
    def shown(self) -> str:
        """Where it comes from, in words."""
        return "built in" if self.is_built_in else f"plug-in {self.target}"


@dataclass(frozen=True)
class Registry:
    """One open set, by name."""

    kind: str
    """What a member is, as messages say it: `branching policy`."""
    group: str
    """The entry-point group of plug-ins."""
    built_in: Mapping[str, str]
    """Name -> `module:attribute`. A name `NAME:K` takes a number from 1 as its argument."""

    def members(self) -> Iterator[Member]:
        """All members, the built-in ones first."""
        for name, target in self.built_in.items():
            yield Member(name, target, is_built_in=True)
        for name, entry in sorted(installed(self.group).items()):
            if name not in self.built_in:
                yield Member(name, entry.value, is_built_in=False)

    def names(self) -> tuple[str, ...]:
        """Names of all members, the built-in ones first."""
        return tuple(member.name for member in self.members())

    def target(self, spec: str) -> str:
        """The `module:attribute` behind a name, or the spec itself if it is one; nothing is imported.

        Raises ConfigError with the names there are.
        """
        name, _, argument = spec.partition(":")
        for known, target in self.built_in.items():
            head, _, placeholder = known.partition(":")
            if name == head and _fits(argument, placeholder):
                return target
        entry = installed(self.group).get(name)
        if entry is not None:
            return entry.value
        if argument and name not in self._heads() and all(part.isidentifier() for part in re.split("[.:]", spec)):
            return spec
        raise ConfigError(self._unknown(spec))

    def load(self, spec: str) -> tuple[Any, str]:
        """The member called `spec`, and what stands behind the colon of `NAME:ARGUMENT` (empty: nothing).

        Raises ConfigError if there is none or it cannot be imported.
        """
        target = self.target(spec)
        argument = "" if target == spec else spec.partition(":")[2]
        return load_object(target, f"{self.kind} {spec!r}"), argument

    def _heads(self) -> set[str]:
        return {name.partition(":")[0] for name in self.names()}

    def _unknown(self, spec: str) -> str:
        near = did_you_mean(spec, self.names())
        return f"{spec!r} is none of {', '.join(self.names())}, nor MODULE:ATTRIBUTE of a plug-in ({self.kind}){near}"


def _fits(argument: str, placeholder: str) -> bool:
    """Whether a name may be given with this argument: K is a number from 1, no placeholder no argument."""
    return bool(re.fullmatch(r"[1-9]\d*", argument)) if placeholder else not argument


def load_object(target: str, what: str) -> Any:
    """The object at `module:attribute`; ConfigError that names `what` if it cannot be imported."""
    module, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{what} cannot be loaded ({reason})") from error
    return found


def installed(group: str) -> Mapping[str, EntryPoint]:
    """Installed plug-ins of a group by name; none of them is imported."""
    return _installed(group, tuple(sys.path))


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Those on this import path. Looking through all that is installed takes milliseconds: it is done once."""
    return {entry.name: entry for entry in entry_points(group=group)}


POLICIES = Registry(
    kind="branching policy",
    group="interalign.policies",
    built_in={
        "caterpillar": "interalign.graphs.policy:CATERPILLAR",
        "full": "interalign.graphs.policy:FULL",
        "beam:K": "interalign.graphs.policy:BEAM",
        "best": "interalign.graphs.policy:BEST",
        "adaptive": "interalign.graphs.policy:ADAPTIVE",
        "adaptive:K": "interalign.graphs.policy:ADAPTIVE",
    },
)
FORMATS = Registry(
    kind="export format",
    group="interalign.formats",
    built_in={
        name: f"interalign.training.formats.{name}:FORMAT"
        for name in ("sft", "dpo", "kto", "rm", "grpo", "listwise", "messages", "user")
    },
)
LOG_FORMATS = Registry(
    kind="log format", group="interalign.log_formats", built_in={"inspect": "interalign.eval.inspect_log:LOG"}
)
METHODS = Registry(
    kind="training method",
    group="interalign.methods",
    built_in={name: f"interalign.training.{name}:METHOD" for name in ("sft", "dpo", "kto", "rm", "grpo")},
)
PERSONA_FORMATS = Registry(
    kind="persona format",
    group="interalign.persona_formats",
    # `auto` asks them in this order: what has more of its own comes first.
    built_in={
        name: f"interalign.people.formats.{name}:FORMAT"
        for name in (
            "ours", "nemotron", "personamem", "sotopia", "tau2", "personalens", "prefeval", "personachat", "aloe",
            "personahub",
        )
    },
)  # fmt: skip
CONVERSATION_FORMATS = Registry(
    kind="conversation format",
    group="interalign.conversation_formats",
    # `auto` asks them in this order: what has more of its own comes first.
    built_in={
        name: f"interalign.conversations.formats.{name}:FORMAT"
        for name in ("openai", "inspect", "langsmith", "langgraph", "pairs", "sharegpt", "listwise", "messages")
    },
)
PROVIDERS = Registry(
    kind="model provider",
    group="interalign.providers",
    # Each a function from a ModelSpec and a Runtime to a ChatModel. What is not here is a provider of LangChain.
    built_in={
        "world": "interalign.models.world:from_spec",
        "openai": "interalign.models.openai:from_spec",
        "hf": "interalign.models.local:from_spec",
    },
)
PAGES = Registry(
    kind="viewer page",
    group="interalign.pages",
    # In the order of the menu.
    built_in={
        name: f"interalign.eval.view.pages.{name}:PAGE"
        for name in (
            "run", "trees", "compare", "evaluation", "judge", "label", "simulator", "personas", "graph", "tree", "call",
        )
    },
)  # fmt: skip
ALL = (POLICIES, FORMATS, LOG_FORMATS, METHODS, PERSONA_FORMATS, CONVERSATION_FORMATS, PROVIDERS, PAGES)
