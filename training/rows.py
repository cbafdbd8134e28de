"""One row of a training file, as text and as tokens."""

from typing import NamedTuple

from interalign.tree import Message


class TrainingRow(NamedTuple):
    """One row of a training file: a conversation and the replies to learn from."""

    number: int
    """Its place in the file, from 1."""
    prompt: tuple[Message, ...]
    completions: tuple[Message, ...]
    """The reply to learn or to judge, or the chosen and the rejected one (dpo); none where they are sampled (grpo)."""
    tree: str | None = None
    """The conversation tree that a pair comes from, if the row says so."""
    label: bool | None = None
    """Whether the reply is a good one, where the row says so (kto)."""
    persona: str | None = None
    """Id of the persona of the conversation, if the row says so."""
    unit: str = "line"
    """What `number` counts: `line`, or `row` in a Parquet file or a JSON array."""


class TokenRow(NamedTuple):
    """A row as token ids, by the tokenizer's chat template."""

    prompt: list[int]
    """The conversation up to where the assistant begins to speak."""
    replies: tuple[list[int], ...]
    """What the assistant says, with its end of turn: one reply for each completion of the row."""

    @property
    def length(self) -> int:
        """Tokens of the longest sequence in the row."""
        return len(self.prompt) + max(map(len, self.replies), default=0)
