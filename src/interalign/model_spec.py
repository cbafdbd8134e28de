"""The name of a model, `SCHEME:NAME`, read in one place: no other module takes such a name apart."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self
from urllib.parse import parse_qsl

ENGINE_OPTIONS = ("max_batch", "cache_mb", "workers")
"""Options of `hf:` models that change no reply: the model is known without them."""
_ADDRESS = re.compile(r"(openai:.+?)@(https?://.*)", re.DOTALL)
_WITH_QUERY = ("hf", "world")


@dataclass(frozen=True)
class ModelSpec:
    """A model's name and what it says. Whoever names a model also may name a plug-in, whose parts mean other things."""

    known_as: str
    """The name in a run's identity, on record and in reports: without address and options that change no reply."""
    scheme: str
    """Before the first colon: `openai`, `hf`, `world`, or a provider of LangChain. Empty for a name without a colon."""
    name: str
    """Behind the colon; of `hf:` and `world:` models up to the `?`."""
    query: str = ""
    """Of `hf:` and `world:` models what follows the `?` in `known_as`."""
    address: str | None = None
    """Where this `openai:` model is served; None if the name does not say."""
    engine: str = ""
    """How this `hf:` model is run: ENGINE_OPTIONS as `max_batch=8&workers=2`, sorted."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a name apart: `openai:NAME@http://...`, `hf:PATH?history=1&workers=2`, `world:judge?noise=0.2`."""
        return cls(*_parts(text))

    @property
    def is_world(self) -> bool:
        """Whether it is a role of the embedded world."""
        return self.scheme == "world"

    @property
    def is_complete(self) -> bool:
        """Whether there is something on both sides of a colon."""
        return bool(self.scheme and self.name)

    def options(self) -> dict[str, str]:
        """All options behind the `?`, by name."""
        return dict(parse_qsl("&".join(filter(None, (self.query, self.engine))), keep_blank_values=True))

    def run_with(self, engine: str) -> Self:
        """The same model with these ENGINE_OPTIONS."""
        return replace(self, engine=engine)

    def __str__(self) -> str:
        """The whole name, as it was given but for the order of its options."""
        if self.engine:
            return f"{self.known_as}{'&' if '?' in self.known_as else '?'}{self.engine}"
        return f"{self.known_as}@{self.address}" if self.address else self.known_as


# A name is looked at with every call that is priced.
@lru_cache(maxsize=1024)
def _parts(text: str) -> tuple[str, str, str, str, str | None, str]:
    served = _ADDRESS.fullmatch(text)
    known_as, address = (served[1], served[2]) if served else (text, None)
    scheme, colon, _ = known_as.partition(":")
    if not colon:
        return known_as, "", known_as, "", None, ""
    known_as, engine = _without_engine(known_as) if scheme == "hf" else (known_as, "")
    name = known_as.partition(":")[2]
    query = ""
    if scheme in _WITH_QUERY:
        name, _, query = name.partition("?")
    return known_as, scheme, name, query, address, engine


def _without_engine(text: str) -> tuple[str, str]:
    path, mark, query = text.partition("?")
    if not mark:
        return text, ""
    options = query.split("&")
    engine = [option for option in options if option.partition("=")[0] in ENGINE_OPTIONS]
    rest = [option for option in options if option not in engine]
    return f"{path}?{'&'.join(rest)}" if rest else path, "&".join(sorted(engine))
