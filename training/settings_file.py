"""Training settings: YAML whose keys are TRL's own, and the few that are ours."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from interalign.errors import ConfigError
from interalign.invalid import first_wrong
from interalign.models.local.chat_template import check_kwargs
from interalign.models.local.options import template_text
from interalign.training.method import Recipe, method_called
from interalign.training.settings import Packing, TrainSettings
from interalign.yaml_file import read_yaml

# What suits a run of any length: some fifty log lines, and one checkpoint kept to go on from.
_RUNNING: Mapping[str, Any] = {
    "logging_steps": 0.02,
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": 1,
}

# Keys of TRL's that would break what interalign promises, and the promise.
_FIXED: Mapping[str, str] = {
    "output_dir": "the folder is given with --out",
    "resume_from_checkpoint": "run the same command again to go on from the last checkpoint",
    "push_to_hub": "interalign uploads nothing",
    "trust_remote_code": "interalign runs no code from a model's folder",
    "disable_tqdm": "interalign shows its own progress",
    "remove_unused_columns": "interalign chooses the columns",
    "length_column_name": "interalign chooses the columns",
    "completion_only_loss": "the loss always falls on the last reply only",
    "assistant_only_loss": "the loss always falls on the last reply only",
    "packing": "every row is trained on its own",
    "padding_free": "every row is trained on its own",
    "truncation_mode": "rows that are too long are refused, never cut",
    "dataset_kwargs": "interalign prepares the data",
    "dataset_text_field": "interalign prepares the data",
    "chat_template_path": "name a file with chat_template instead",
    "eos_token": "the end-of-turn token is the one in the model's folder",
    "eval_strategy": "there is no second data file to evaluate on; use `interalign evaluate`",
    "load_best_model_at_end": "there is no second data file to evaluate on; use `interalign evaluate`",
}


_OURS: Sequence[str] = (
    "freeze_embeddings",
    "chat_template",
    "chat_template_kwargs",
    "drop_too_long",
    "max_per_persona",
)
"""Keys of ours that every method takes, besides `lora`."""


def read_settings(
    method: str,
    config: Path | Mapping[str, Any] | None = None,
    *,
    lora: bool = False,
    drop_too_long: bool = False,
    max_per_persona: int | None = None,
    report_to: Sequence[str] = (),
    packing: Packing = "pairs",
) -> TrainSettings:
    """Settings from a YAML file or a mapping, over the paper's defaults.

    `lora` and `drop_too_long` turn that on if the file does not; `max_per_persona` and `report_to` win over the file's.
    With `packing` "tree" a batch is one tree unless the file says another number.

    Raises ConfigError naming the key: an unknown one (with the nearest known), a value of the wrong kind, or one that
    interalign does not let go of.
    """
    where = str(config) if isinstance(config, Path) else "the training settings"
    given = dict(read_yaml(config) if isinstance(config, Path) else config or {})
    known = method_called(method)
    ours = {key: given.pop(key) for key in (*_OURS, *known.keys) if key in given}
    ours |= _chat_template(ours, where)
    if lora or "lora" in given:
        ours["lora"] = given.pop("lora", None) or {}
    if drop_too_long:
        ours["drop_too_long"] = True
    if max_per_persona is not None:
        ours["max_per_persona"] = max_per_persona
    if report_to:
        given["report_to"] = list(report_to)
    by_packing = {"per_device_train_batch_size": 1} if packing == "tree" else {}
    trl = {**_RUNNING, **known.defaults, **by_packing, **_checked(given, method, packing, where)}
    try:
        return TrainSettings(method=method, packing=packing, trl=trl, **ours)
    except ValidationError as error:
        wrong = first_wrong(error, TrainSettings, ours)
        raise ConfigError(f"{where}: {'.'.join(wrong.where)}: {wrong.reason}") from None


def _chat_template(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The text of a chat template's file, and the template's arguments; None and nothing where they are not given."""
    file, kwargs = given.get("chat_template"), given.get("chat_template_kwargs")
    return {
        "chat_template": None if file is None else template_text(str(file)),
        "chat_template_kwargs": {} if kwargs is None else check_kwargs(kwargs, where),
    }


def recipe_of(method: str, packing: Packing = "pairs") -> Recipe:
    """How this method trains; ConfigError if it cannot read trees whole and is to."""
    found = method_called(method)
    if packing == "pairs":
        return found.recipe
    if found.trees is None:
        raise ConfigError(f"--method tree: {method} has no trainer that reads trees whole; leave it out")
    return found.trees


def config_class(method: str, packing: Packing = "pairs") -> Any:
    """TRL's configuration class of a method, or ours over it."""
    return recipe_of(method, packing).config()


def _checked(given: Mapping[str, Any], method: str, packing: Packing, where: str) -> dict[str, Any]:
    """The same keys with values of the kinds TRL's dataclass declares."""
    if not given:
        return {}
    kinds = typing.get_type_hints(config_class(method, packing))
    known = {field.name for field in dataclasses.fields(config_class(method, packing)) if field.init}
    for key in given:
        if key in _FIXED or str(key).startswith("hub_"):
            raise ConfigError(f"{where}: {key} cannot be set: {_FIXED.get(key, _FIXED['push_to_hub'])}")
        if key not in known:
            ours = (*_OURS, *method_called(method).keys, "lora")
            raise ConfigError(f"{where}: unknown key {key!r}{_nearest(str(key), [*known, *ours])}")
    return {key: _as_kind(value, kinds[key], f"{where}: {key}") for key, value in given.items()}


def _nearest(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "; see docs/data-format.md for the keys"


def _as_kind(value: Any, kind: Any, where: str) -> Any:
    # YAML 1.1 reads `1e-5` as text; pydantic turns it into the number that was meant, as TRL's own parser does.
    if typing.get_origin(kind) is list and isinstance(value, str):
        value = [value]
    try:
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{where}: {error.errors()[0]['msg']}, got {value!r}") from None
