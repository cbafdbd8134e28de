"""Training on exported data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from interalign.api.resolve import runtime_of
from interalign.config import (
    RewardSettings,
    Runtime,
    RuntimeKeywords,
    build,
)
from interalign.errors import ConfigError
from interalign.files import refuse_folder, refuse_shared
from interalign.models.names import importable

if TYPE_CHECKING:
    from interalign.run.rewards import JudgedReward
    from interalign.training.result import TrainResult


def train(
    stage: str,
    *,
    model: str,
    data: Path | str,
    out: Path | str,
    config: "Path | Mapping[str, Any] | None" = None,
    method: Literal["pairs", "tree"] | None = None,
    lora: bool = False,
    drop_too_long: bool = False,
    max_per_persona: int | None = None,
    report_to: Sequence[str] = (),
    judge: str | Sequence[str] = (),
    personas: Path | str | None = None,
    lookahead: int = 0,
    user: str | None = None,
    prompts: Path | str | None = None,
    rubric: Path | str | None = None,
    seed: int | None = None,
    runtime: Runtime | None = None,
    progress: Callable[[int, int, float | None], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
    **settings: Unpack[RuntimeKeywords],
) -> "TrainResult":
    """Fine-tune `model` on exported rows with TRL and save it in the folder `out`; resumes from its checkpoints.

    `stage` is a training method: sft, dpo, kto, rm, grpo, or a plug-in's (`interalign.registries.METHODS`).
    `config` is a YAML file of TRL's own settings, or a mapping of them; `progress` is told after every step: steps
    done, steps in all, the last loss; `tell` gets a line to show before the training begins. `method` says whether the
    pairs of a tree are read together (docs/data-format.md); None: where model and settings allow it. Rows longer than
    the setting `max_length` are refused, or with `drop_too_long` left out and counted. `max_per_persona` trains on
    at most so many rows of one persona. `report_to` (`tensorboard`, `wandb`, ...) is transformers' own: nothing is
    reported anywhere without it.

    grpo samples replies to the states of its rows, and `judge` (several: a panel) scores them; `personas` is the run
    file of the rows, or a file of its personas (default: the run file that the data card names, beside the rows).
    With `lookahead`, so many further turns count for a reply, in which `user` plays the persona. `prompts`, `rubric`,
    `seed` and `settings`, the fields of Runtime, are the judge's and the user's. Their calls are kept in OUT.db.

    Raises ConfigError for settings that cannot work, or if the saved model does not answer as the trained one did, and
    DataError, naming the rows, for data that would be dropped or mislearnt; StopError if the judge stopped.
    """
    file = config if isinstance(config, Path) else None
    refuse_folder(out, inputs=[data, model.removeprefix("hf:"), file])
    _need_training_extra()
    from interalign.training.train import train as train_by

    asked: dict[str, Any] = {
        "judge": (judge,) if isinstance(judge, str) else tuple(judge),
        "personas": personas and str(personas),
        "lookahead": lookahead or None,
        "user": user,
        "prompts": prompts and str(prompts),
        "rubric": rubric and str(rubric),
        "seed": seed,
    }
    given = {name: value for name, value in asked.items() if value not in (None, ())}
    reward = _reward(stage, given, model, Path(data), Path(out), file, settings, runtime)
    return train_by(
        stage, model, Path(data), Path(out),
        packing=method, config=config, lora=lora, drop_too_long=drop_too_long, progress=progress, tell=tell,
        max_per_persona=max_per_persona, report_to=report_to, reward=reward,
    )  # fmt: skip


def _reward(
    stage: str,
    given: Mapping[str, Any],
    model: str,
    data: Path,
    out: Path,
    config: Path | None,
    settings: Mapping[str, Any],
    runtime: Runtime | None,
) -> "JudgedReward | None":
    """The judge of a training that samples replies; ConfigError if it has none, or needs none."""
    from interalign.run.reward_settings import reward_of
    from interalign.store.lease_file import refuse_no_lease_file
    from interalign.training.method import method_called

    if unknown := sorted(settings.keys() - Runtime.model_fields.keys()):
        raise TypeError(f"train() got an unexpected keyword argument {unknown[0]!r}")
    if not method_called(stage).scored:
        if unused := next(iter((*given, *settings)), None):
            option = f"--{unused.replace('_', '-')}"
            raise ConfigError(f"{option}: train {stage} learns from the rows alone and asks no judge; leave it out")
        return None
    if "judge" not in given:
        return None  # which the training refuses
    calls = out.with_name(f"{out.name}.db")
    carried = runtime_of(settings, {}, None, runtime)
    budget = [] if carried.budget is None else [Path(carried.budget)]
    for file in budget:
        refuse_no_lease_file(file)
    read = (data, config, *(given.get(name) for name in ("personas", "prompts", "rubric")))
    refuse_shared([calls, out, *budget], inputs=read)
    return reward_of(build(RewardSettings, given), model, data, calls, carried)


def _need_training_extra() -> None:
    missing = [name for name in ("torch", "transformers", "trl", "peft", "datasets") if not importable(name)]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}; pip install 'interalign[train]'")
