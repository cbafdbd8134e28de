"""The world's writer of personas: puts the lines of the examples together anew, with planted repeats and broken items.

It proves the graph that grows a pool; the lives it writes contradict themselves, and no other role understands them.
"""

import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from interalign.errors import ConfigError

BROKEN, DUPLICATES = 0.15, 0.3
"""Probability that an item is not in the form asked for, and that it repeats an example."""
_COUNT: Final = re.compile(r"Invent (\d+) ")
_HEADING: Final = re.compile(r"Person \d+")
_BROKEN: Final = (
    "Person {number}\nNobody comes to mind.",
    "Person {number}\n- Is somebody.",
    "Person {number}\n- ...\n- ...",
)


def write_people(prompt: str, rng: Random, *, broken: float = BROKEN, duplicates: float = DUPLICATES) -> str:
    """As many people as the prompt asks for; ConfigError if it is not one of the packaged prompts."""
    count, examples = _COUNT.search(prompt), list(_examples(prompt))
    if count is None or not examples:
        raise ConfigError(
            "world:personas answers only the prompts persona_profiles.jinja and persona_personalities.jinja"
        )
    return "\n".join(_person(number, examples, rng, broken, duplicates) for number in range(1, int(count[1]) + 1))


def _person(number: int, examples: Sequence[Sequence[str]], rng: Random, broken: float, duplicates: float) -> str:
    coin = rng.random()
    if coin < broken:
        return rng.choice(_BROKEN).format(number=number)
    if coin < broken + duplicates:
        example = rng.choice(examples)
        lines = rng.sample(example, len(example))
    else:
        known = [line for example in examples for line in example]
        lines = rng.sample(known, len(rng.choice(examples)))
    return "\n".join([f"Person {number}", *(f"- {line}" for line in lines)])


def _examples(prompt: str) -> Iterator[list[str]]:
    """The lines of each example, without the dash."""
    lines: list[str] = []
    for line in [*prompt.splitlines(), "Person 0"]:
        if _HEADING.fullmatch(line):
            if lines:
                yield lines
            lines = []
        elif line.startswith("- "):
            lines.append(line[2:])
