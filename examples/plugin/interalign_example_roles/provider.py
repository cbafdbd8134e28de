"""A model provider: `chain:ORDER` is a Markov chain of words, trained anew on each conversation."""

import random
from collections import defaultdict
from collections.abc import Sequence

from interalign import Message, Parameters, Runtime
from interalign.errors import ConfigError
from interalign.model_spec import ModelSpec
from interalign.models.base import Reply

_LONGEST = 40
"""Words of a reply at most."""


class Chain:
    """A chat model that goes on as the talk so far might: after `order` words comes one that has come there."""

    def __init__(self, name: str, order: int) -> None:
        self.name = name
        self._order = order

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """Words drawn from `seed`: the same call gives the same reply."""
        words = " ".join(message.content for message in messages).split()
        following = defaultdict(list)
        for at in range(len(words) - self._order):
            following[tuple(words[at : at + self._order])].append(words[at + self._order])
        draw = random.Random(seed)
        said = list(draw.choice(sorted(following))) if following else ["Well."]
        while len(said) < _LONGEST and (next_words := following.get(tuple(said[-self._order :]))):
            said.append(draw.choice(next_words))
        return Reply(text=" ".join(said), model=self.name, completion_tokens=len(said), prompt_tokens=len(words))


def provider(spec: ModelSpec, runtime: Runtime) -> Chain:
    """The model behind `chain:ORDER`; ConfigError for an order that is no number from 1."""
    if not spec.name.isdecimal() or int(spec.name) < 1:
        raise ConfigError(f"{spec}: expected the order of the chain, such as chain:2")
    return Chain(spec.known_as, int(spec.name))
