"""A reward model: one number for a whole conversation, learnt from pairs of replies, with TRL's RewardTrainer."""

from collections.abc import Sequence, Set
from itertools import takewhile
from typing import Any, Final

from interalign.models.local.chat_template import ChatTemplate
from interalign.training.completions import whole_conversation
from interalign.training.dpo import PairLine
from interalign.training.method import Prepared, Recipe, TrainingMethod
from interalign.training.model_kinds import REWARD_MODEL
from interalign.training.row_formats import as_rm
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings


def read_pair(chat: ChatTemplate, row: TrainingRow, stops: Set[int]) -> TokenRow:
    """Both conversations as the template writes them, without a generation prompt: what is to be scored in use.

    What they have in common is the row's prompt, each rest one of its replies.
    """
    both = [whole_conversation(chat, row.prompt, reply) for reply in row.completions]
    shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(*both, strict=False))]
    return TokenRow(shared, tuple(ids[len(shared) :] for ids in both))


def rm_columns(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings
) -> list[dict[str, Any]]:
    """Token ids of both conversations, as TRL's collator takes them."""
    return [
        {
            "chosen_ids": row.prompt + row.replies[0],
            "rejected_ids": row.prompt + row.replies[1],
            "length": row.length,
        }
        for row in tokens
    ]


def reward_trainer(prepared: Prepared) -> Any:
    """TRL's RewardTrainer over pairs of token ids, which it takes as they are."""
    from trl import RewardTrainer

    return RewardTrainer(**prepared.for_trainer)


def _config() -> Any:
    from trl import RewardConfig

    return RewardConfig


METHOD: Final = TrainingMethod(
    name="rm",
    title="reward model",
    line=PairLine,
    recipe=Recipe(_config, rm_columns, reward_trainer),
    defaults={"learning_rate": 1e-5, "num_train_epochs": 1.0},
    as_exported=as_rm,
    kind=REWARD_MODEL,
    read=read_pair,
)
