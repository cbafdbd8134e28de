"""GRPO on stored states: replies sampled to one conversation are scored and compared, with TRL's GRPOTrainer.

Myopic: a reply is scored by itself, whatever it does to the turns after it.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel, Field

from interalign.agents.reply_text import clean_reply
from interalign.errors import BadContentError, ConfigError, DataError
from interalign.models.local.chat_template import ChatTemplate, chat_template_of
from interalign.models.local.control_tokens import ConversationRefusedError
from interalign.training.completions import prompt_of
from interalign.training.method import Prepared, Recipe, TrainingMethod
from interalign.training.reward import Sampled, ScoreReplies
from interalign.training.rows import TokenRow, TrainingRow
from interalign.training.settings import TrainSettings
from interalign.tree import Message

_LONGEST: Final = 512
"""TRL's own default of `max_completion_length`."""


class _StateLine(BaseModel):
    prompt: tuple[Message, ...] = Field(min_length=1)
    persona: str
    tree: str | int | None = None

    def row(self, number: int) -> TrainingRow:
        talk = [message.role for message in self.prompt[self.prompt[0].role == "system" :]]
        if not talk or talk[-1] != "user":
            raise DataError("prompt does not end with a user's message, so there is nothing to reply to")
        if talk[0] != "user" or any(one == other for one, other in pairwise(talk)) or "system" in talk:
            raise DataError("user and assistant do not take turns in prompt; a state is a conversation from its start")
        tree = None if self.tree is None else str(self.tree)
        return TrainingRow(number, self.prompt, (), tree, persona=self.persona)


def read_state(chat: ChatTemplate, row: TrainingRow, stops: Set[int]) -> TokenRow:
    """The prompt that serving writes; ConversationRefusedError where TRL would read another one."""
    prompt = prompt_of(chat, row.prompt)
    messages = [message.model_dump() for message in row.prompt]
    if _as_trl_reads(chat, messages) != prompt.ids:
        raise ConversationRefusedError(
            "TRL would not read this prompt as it is served: a message spells a control token out, or the template "
            "takes no system message; leave the row out"
        )
    return TokenRow(prompt.ids, ())


def _as_trl_reads(chat: ChatTemplate, messages: Sequence[Mapping[str, str]]) -> list[int] | None:
    try:
        read = chat.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, **chat.kwargs)
    except Exception:  # noqa: BLE001 - a template is a program of somebody else's
        return None
    return list(read["input_ids"])


def grpo_columns(
    rows: Sequence[TrainingRow], tokens: Sequence[TokenRow], settings: TrainSettings
) -> list[dict[str, Any]]:
    """The prompt as messages, which TRL tokenises as `read_state` has checked, and the persona's id."""
    return [
        {"prompt": [message.model_dump() for message in row.prompt], "persona": row.persona, "length": each.length}
        for row, each in zip(rows, tokens, strict=True)
    ]


def grpo_trainer(prepared: Prepared) -> Any:
    """TRL's GRPOTrainer, whose one reward function is the score that was handed in."""
    from trl import GRPOTrainer

    args = prepared.args
    assert prepared.score is not None, "a method that is scored gets no trainer without a score"
    if args.beta and prepared.peft_config is None and prepared.from_adapter:
        raise ConfigError(
            "beta: TRL takes the reference from the adapter's base model; name the folder of merged weights"
        )
    args.chat_template_kwargs = dict(chat_template_of(prepared.tokenizer).kwargs)
    if prepared.score.lookahead and args.use_vllm:
        raise ConfigError("--lookahead samples with the model in training; leave use_vllm out")
    policy = TrainedPolicy(prepared.tokenizer)
    policy.trainer = GRPOTrainer(
        model=prepared.model,
        reward_funcs=reward_function(prepared.score, args.num_generations, policy),
        args=args,
        train_dataset=prepared.dataset,
        processing_class=prepared.tokenizer,
        peft_config=prepared.peft_config,
    )
    return policy.trainer


class TrainedPolicy:
    """The model in training, which also replies in the turns that rewards look ahead."""

    trainer: Any
    """TRL's GRPOTrainer, once it is built."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, talks: Sequence[Sequence[Message]]) -> list[str]:
        """A reply to each conversation, sampled as TRL samples; empty where there is no room for one."""
        from trl.models import unwrap_model_for_generation

        trainer = self.trainer
        prompts = [self._prompt(talk, trainer.model.config) for talk in talks]
        asked = [place for place, ids in enumerate(prompts) if ids]
        said = [""] * len(talks)
        if not asked:
            return said
        inputs = self._tokenizer.pad(
            {"input_ids": [prompts[place] for place in asked]}, padding_side="left", return_tensors="pt"
        )
        inputs = inputs.to(trainer.accelerator.device)
        import torch

        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model, torch.no_grad():
            found = model.generate(**inputs, generation_config=trainer.generation_config)
        texts = self._tokenizer.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for place, text in zip(asked, texts, strict=True):
            said[place] = text
        return said

    def _prompt(self, talk: Sequence[Message], config: Any) -> list[int]:
        """Token ids; none for a conversation that the template refuses, or that is too long for a reply."""
        try:
            ids = prompt_of(chat_template_of(self._tokenizer), talk).ids
        except ConversationRefusedError:
            return []
        positions = getattr(config.get_text_config(), "max_position_embeddings", None)
        longest = self.trainer.args.max_completion_length or 0
        return [] if positions is not None and len(ids) + longest > positions else ids


def reward_function(
    score: ScoreReplies, group: int, policy: Callable[[Sequence[Sequence[Message]]], list[str]]
) -> Callable[..., list[float | None]]:
    """A reward function of TRL's; every `group` completions in a row are replies to one state.

    `policy` replies in the turns that `score` looks ahead.
    """
    last, number = -1, 0

    def judge(  # its name is that of the figures TRL logs: rewards/judge/mean
        prompts: Sequence[Any], completions: Sequence[Any], persona: Sequence[str], trainer_state: Any, **_: Any
    ) -> list[float | None]:
        nonlocal last, number
        if trainer_state.global_step != last:
            last, number = trainer_state.global_step, 0
        sampled = []
        for start in range(0, len(prompts), group):
            messages = tuple(Message.model_validate(message) for message in prompts[start])
            said = tuple(_text(completion) for completion in completions[start : start + group])
            sampled.append(Sampled(last, number, persona[start], messages, said))
            number += 1
        for _turn in range(score.lookahead):
            sampled = _one_turn_on(sampled, score, policy)
        return [value for values in score(sampled) for value in values]

    return judge


def _one_turn_on(
    sampled: Sequence[Sampled], score: ScoreReplies, policy: Callable[[Sequence[Sequence[Message]]], list[str]]
) -> list[Sampled]:
    """The user answers every reply, and the policy the user. A conversation in which either says nothing stays."""
    asked = score.user_turns(sampled)
    going = [(one, place) for one, said in enumerate(asked) for place, text in enumerate(said) if text]
    talks = [_talk(sampled[one], place, str(asked[one][place])) for one, place in going]
    replies = dict(zip(going, map(_readable, policy(talks)), strict=True))

    def path(one: int, place: int) -> tuple[str, ...]:
        reply = replies.get((one, place), "")
        more = (str(asked[one][place]), reply) if reply else ()
        return (*sampled[one].after(place), *more)

    return [
        each._replace(ahead=tuple(path(one, place) for place in range(len(each.replies))))
        for one, each in enumerate(sampled)
    ]


def _readable(reply: str) -> str:
    """The reply as the user reads it; empty if it says nothing."""
    try:
        return clean_reply(reply) if reply.strip() else ""
    except BadContentError:
        return ""


def _talk(sampled: Sampled, place: int, user: str) -> list[Message]:
    said = (clean_reply(sampled.replies[place]), *sampled.after(place), user)
    roles = ("assistant", "user")
    return [*sampled.prompt, *(Message(role=roles[k % 2], content=text) for k, text in enumerate(said))]


def _text(completion: Sequence[Mapping[str, Any]]) -> str:
    """What the reply says; reasoning that TRL has parsed out of it stands elsewhere."""
    return str(completion[0].get("content") or "")


def sampling_line(trainer: Any) -> str:
    """What is about to be sampled and scored."""
    args = trainer.args
    replies = args.generation_batch_size // (args.steps_per_generation // args.gradient_accumulation_steps or 1)
    return (
        f"{len(trainer.train_dataset):,} states, {args.num_generations} replies to each at a time, {replies} new "
        "replies a step; every one of them is scored by each judge"
    )


def _config() -> Any:
    from trl import GRPOConfig

    return GRPOConfig


METHOD: Final = TrainingMethod(
    name="grpo",
    title="group-relative policy optimisation (GRPO) on stored states",
    line=_StateLine,
    recipe=Recipe(_config, grpo_columns, grpo_trainer, sampling_line),
    # A reply that was cut at its length limit is learnt nowhere else either. A step is slow: checkpoints come sooner.
    defaults={"num_train_epochs": 1.0, "mask_truncated_completions": True, "save_steps": 20},
    read=read_state,
    samples=lambda trl: trl.get("max_completion_length", _LONGEST) or 0,
    has_reference=lambda trl: bool(trl.get("beta")),
    scored=True,
)
