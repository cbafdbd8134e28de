"""What a training method is: one record in one file, named in `registries.METHODS`."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from interalign.errors import ConfigError
from interalign.models.local.chat_template import ChatTemplate
from interalign.registries import METHODS
from interalign.training.completions import prompt_and_replies
from interalign.training.model_kinds import LANGUAGE_MODEL, ModelKind
from interalign.training.reward import ScoreReplies
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings

RowReader = Callable[[ChatTemplate, TrainingRow, Set[int]], TokenRow]
"""From a row to token ids, by a chat template and the tokens the model stops at; ConversationRefusedError if not."""


class Prepared(NamedTuple):
    """Everything a trainer is built from."""

    model: Any
    tokenizer: Any
    dataset: Any
    """A `datasets.Dataset` of what the recipe's `columns` returned."""
    args: Any
    """TRL's configuration, of the recipe's `config`."""
    peft_config: Any
    """A `peft.LoraConfig`, or None to train all weights."""
    score: ScoreReplies | None = None
    """Scores replies that the trainer samples."""
    from_adapter: bool = False
    """Whether the model is a base model with an adapter merged in."""

    @property
    def for_trainer(self) -> dict[str, Any]:
        """The keyword arguments that every trainer of TRL takes."""
        return {
            "model": self.model,
            "args": self.args,
            "train_dataset": self.dataset,
            "processing_class": self.tokenizer,
            "peft_config": self.peft_config,
        }


class CannotPackError(ConfigError):
    """This model, or these settings, cannot be trained on packed trees."""


@dataclass(frozen=True)
class Recipe:
    """How tokens become a trainer."""

    config: Callable[[], Any]
    """TRL's configuration class, imported when it is asked for."""
    columns: Callable[[Sequence[TrainingRow], Sequence[TokenRow], TrainSettings], list[dict[str, Any]]]
    """Rows in the columns the trainer takes, and their `length` in tokens. None may be left out."""
    trainer: Callable[[Prepared], Any]
    """The TRL trainer."""
    about: Callable[[Any], str | None] = lambda trainer: None
    """One line on what this trainer is about to do, if there is something to say."""


@dataclass(frozen=True)
class TrainingMethod:
    """A member of the open set: `interalign train NAME`."""

    name: str
    """Also the export format whose rows it takes."""
    title: str
    """In words, for the model card."""
    line: Any
    """A pydantic model of one row of the file, with `row(number)`, which returns the TrainingRow."""
    recipe: Recipe
    defaults: Mapping[str, Any]
    """TRL's settings where ours differ from TRL's own."""
    keys: Sequence[str] = ()
    """Settings of ours that it takes, besides `lora`, `freeze_embeddings` and those of chat templates."""
    as_exported: Callable[[Any], Any] = field(default=lambda value: value)
    """From a row in a public format to one as exported; DataError for one that would have to be guessed."""
    trees: Recipe | None = None
    """The same over packed trees, if there is such a trainer."""
    kind: ModelKind = LANGUAGE_MODEL
    """What is trained."""
    read: RowReader = prompt_and_replies
    """How a row becomes tokens."""
    samples: Callable[[Mapping[str, Any]], int] = lambda trl: 0
    """How many tokens are sampled after a row, by TRL's settings."""
    has_reference: Callable[[Mapping[str, Any]], bool] = lambda trl: False
    """Whether it holds a copy of the model it began with, where no adapter is trained, by TRL's settings."""
    scored: bool = False
    """Whether it takes a judge that scores what it samples."""


@cache
def method_called(name: str) -> TrainingMethod:
    """The training method of this name; ConfigError if there is none."""
    found, _ = METHODS.load(name)
    if not isinstance(found, TrainingMethod):
        raise ConfigError(f"training method {name!r} is {type(found).__name__}, expected a TrainingMethod")
    return found
