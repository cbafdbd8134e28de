"""The model card: what a trained folder was made from, in words."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from interalign.training.method import method_called

WORLD_NOTE = (
    "If the rows come from interalign's embedded world (`world:` models), every figure of this model validates the "
    "pipeline only and says nothing about how good a language model is."
)
LOSS_NOTE = (
    "Training loss and TRL's own accuracies do not show whether the model suits its users better: measure that with "
    "`interalign evaluate`."
)
_PLAYS = (
    "- Plays the user: rows of `--format user`, with the persona in the prompt. For `simulate --user hf:FOLDER`; no "
    "assistant"
)
_PACKAGES = ("interalign", "trl", "transformers", "peft", "torch", "datasets", "accelerate")


class CardFacts(NamedTuple):
    """What a model card states."""

    method: str
    base_model: str
    data_name: str
    data_sha256: str
    rows: int
    left_out: int
    """Rows of the data that were too long to train on."""
    over_limit: int
    """Rows of the data of which there were enough of one persona."""
    steps: int
    losses: tuple[float | None, float | None]
    """First and last logged training loss."""
    rewards: tuple[float | None, float | None]
    """First and last logged mean reward, where replies were sampled and scored."""
    judges: tuple[str, ...]
    """Who scored them."""
    hyperparameters: Mapping[str, str]
    lora: Mapping[str, Any] | None
    dtype: str
    """Type of the saved weights, as torch names it: `float32`."""
    adapter: bool
    """Whether the adapter of a LoRA run is there by itself too."""
    picture: str | None
    """The file beside the card that shows what was logged, if there is one."""
    run_name: str | None
    for_user: bool = False
    """Whether the rows show a persona and teach to play it."""


def model_card(facts: CardFacts) -> str:
    """The card as Markdown, with the header that model hubs read."""
    title = ["# A model trained with interalign", ""]
    use = ["## How to load it", "", method_called(facts.method).kind.loading]
    head = [*_header(facts, "transformers"), "", *title, *_origin(facts), "", *use, ""]
    picture = [f"![Loss and other figures by step]({facts.picture})", ""] if facts.picture else []
    return "\n".join([*head, *picture, *_settings(facts), "", *_limits(), ""])


def adapter_card(facts: CardFacts) -> str:
    """The card of the adapter alone."""
    use = (
        f"PEFT puts it on its base model: `PeftModel.from_pretrained(model, FOLDER)`, where `model` is "
        f"`{facts.base_model}`. The folder above has the two merged."
    )
    title = ["# A LoRA adapter trained with interalign", ""]
    base = json.dumps(facts.base_model)
    head = [*_header(facts, "peft", f"base_model: {base}"), "", *title, *_origin(facts), "", "## How to load it", ""]
    return "\n".join([*head, use, "", *_settings(facts), "", *_limits(), ""])


def _header(facts: CardFacts, library: str, *more: str) -> list[str]:
    tags = ["- interalign", "- trl", f"- {facts.method}"]
    pipeline = method_called(facts.method).kind.pipeline
    return ["---", f"library_name: {library}", *more, f"pipeline_tag: {pipeline}", "tags:", *tags, "---"]


def _origin(facts: CardFacts) -> list[str]:
    alone = "the adapter alone is in `adapter/`" if facts.adapter else "it began from an adapter: merged weights only"
    kind = f"LoRA, merged into the weights; {alone}" if facts.lora else "all weights"
    first, last = (_number(loss) for loss in facts.losses)
    return [
        f"- Method: {method_called(facts.method).title}, {kind}",
        f"- Base model: `{facts.base_model}`",
        f"- Weights: {facts.dtype}",
        f"- Run: {f'`{facts.run_name}`' if facts.run_name else 'not stated'}",
        f"- Data: `{facts.data_name}`, {facts.rows} rows, sha256 `{facts.data_sha256}`{_left_out(facts)}",
        *([_PLAYS] if facts.for_user else []),
        f"- Steps: {facts.steps}; training loss {first} (first) to {last} (last)",
        *_rewards(facts),
        f"- Versions: {', '.join(_versions())}",
    ]


def _rewards(facts: CardFacts) -> list[str]:
    if not facts.judges:
        return []
    first, last = (_number(reward) for reward in facts.rewards)
    judges = " and ".join(f"`{judge}`" for judge in facts.judges)
    return [f"- Reward: mean score by {judges}, {first} (first) to {last} (last); what it liked is what was learnt"]


def _left_out(facts: CardFacts) -> str:
    reasons = {"longer than `max_length`": facts.left_out, "beyond `max_per_persona`": facts.over_limit}
    return "".join(f"; {count} rows more, {reason}, were left out" for reason, count in reasons.items() if count)


def _number(loss: float | None) -> str:
    return "not logged" if loss is None else f"{loss:.4f}"


def _versions() -> list[str]:
    return [f"{package} {version(package)}" for package in _PACKAGES]


def _settings(facts: CardFacts) -> list[str]:
    rows = {**facts.hyperparameters, **{f"lora {key}": str(value) for key, value in (facts.lora or {}).items()}}
    return ["## Hyperparameters", "", "| setting | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]


def _limits() -> list[str]:
    return ["## Limits", "", WORLD_NOTE, "", LOSS_NOTE]
