"""One training run from a file of rows to a finished folder, the same way for every method.

The folder holds the model, `interalign_training.json` (what it is trained on, and whether it is finished),
`training_log.jsonl`, a model card, and `checkpoints/` while the run is under way.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from interalign.errors import ConfigError, DataError
from interalign.files import sha256, write_atomically
from interalign.training.card import CardFacts, adapter_card, model_card
from interalign.training.curves import write_picture
from interalign.training.data import Learnable, learnable_rows, read_rows, tokenize
from interalign.training.data_card import Origin, origin_of
from interalign.training.divided import is_divided, put_together, rounding_of
from interalign.training.export import write_jsonl
from interalign.training.library_output import quiet_libraries
from interalign.training.memory import counts, free_memory, longest_batch, memory, memory_line
from interalign.training.merging import refuse_shared_weights
from interalign.training.method import Prepared, Recipe, TrainingMethod, method_called
from interalign.training.precision import rounding_line
from interalign.training.processes import rank, size
from interalign.training.result import TrainResult
from interalign.training.reward import Reward, ScoreReplies
from interalign.training.row_choice import at_most, refuse_held_out
from interalign.training.rows import TrainingRow
from interalign.training.served import Answers, Rows, rows_to_compare
from interalign.training.settings import LoraSettings, TrainSettings
from interalign.training.settings_file import config_class
from interalign.training.weights import (
    RECORD,
    ModelFacts,
    check_served,
    is_adapter,
    load_model,
    load_tokenizer,
    model_facts,
    model_path,
    refuse_diverged,
    save_adapter,
    save_model,
)

_KEPT_TO_GO_ON = 1
"""With this `save_total_limit` (ours) checkpoints only serve to go on, and go when the run is finished."""
_SHOWN = (
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "optim", "weight_decay", "max_grad_norm", "max_length", "loss_type", "beta", "seed",
    "bf16", "fp16",
)  # fmt: skip
"""The hyperparameters a model card shows."""


PICTURE = "training.svg"
"""The curves of what was logged, beside the model."""


def print_nothing(line: str) -> None:
    """Tell nobody."""


Progress = Callable[[int, int, float | None], None]
"""Called after every optimisation step: steps done, steps in all, the last logged loss (None before the first)."""


class Job(NamedTuple):
    """What a training run was asked to do."""

    settings: TrainSettings
    model: str
    """Folder or hub id of the model to start from, as the user named it."""
    data: Path
    out: Path
    run_name: str | None = None
    """The run the rows come from, for the model card."""
    progress: Progress | None = None
    tell: Callable[[str], None] = print_nothing
    """Told in a line what is worth knowing before the training begins."""
    reward: Reward | None = None
    """Who scores the replies that are sampled, where the method samples any."""

    @property
    def method(self) -> TrainingMethod:
        """How it is trained."""
        return method_called(self.settings.method)


class Ready(NamedTuple):
    """A trainer that can start."""

    trainer: Any
    left_out: int
    """Rows that are too long and were to be left out."""
    compared: Rows
    """Rows on which the saved model has to answer as the trained one."""


def fit(job: Job, recipe: Recipe) -> TrainResult:
    """Train as asked, or go on from the last checkpoint, or do nothing if the folder is finished.

    Raises DataError for rows that cannot be learnt (named by line), ConfigError for settings or a folder that do not
    fit.
    """
    began, is_first = time.monotonic(), rank() == 0
    if not is_first:
        job = job._replace(progress=None, tell=print_nothing)
    if job.reward is not None and size() > 1:
        raise ConfigError(
            f"train {job.settings.method} runs in one process: the judge's run file has one writer; leave --nproc out"
        )
    with quiet_libraries():
        every = read_rows(job.data, job.settings.method)
        refuse_held_out(every, job.data)
        rows = every if (most := job.settings.max_per_persona) is None else at_most(every, most, job.data)
        tokenizer = load_tokenizer(model_path(job.model), job.settings)
        facts = model_facts(model_path(job.model), tokenizer)
        identity = _identity(job, facts.identity)
        finished = _finished(job.out, identity)
        if finished is not None:
            return TrainResult.model_validate({**finished, "out": job.out, "status": "finished before", "seconds": 0.0})
        with nullcontext() if job.reward is None else job.reward.opened(rows) as score:
            ready = make_trainer(job, recipe, rows, tokenizer, facts, score)
            resumed = _train(ready.trainer, job, identity)
        result = _result(job, ready, len(rows), resumed, time.monotonic() - began)
        result = result.model_copy(update={"over_limit": len(every) - len(rows)})
        if is_first or is_divided(ready.trainer):
            _save_checked(job, ready, tokenizer)
        if is_first:
            _finish(job, ready, identity, result)
        ready.trainer.accelerator.wait_for_everyone()
    return result


def make_trainer(
    job: Job,
    recipe: Recipe,
    rows: Sequence[TrainingRow],
    tokenizer: Any,
    facts: ModelFacts,
    score: ScoreReplies | None = None,
) -> Ready:
    """Check the rows, load the model, build the TRL trainer; DataError if rows cannot be learnt or TRL drops some."""
    from datasets import Dataset

    method, max_length = job.method, job.settings.trl.get("max_length", facts.positions)
    sampled = method.samples(job.settings.trl)
    learnable = learnable_rows(
        rows,
        str(job.data),
        lambda row: tokenize([row], str(job.data), tokenizer, facts.stops, max_length, method.read, sampled)[0],
        drop_too_long=job.settings.drop_too_long,
    )
    with _as_config_error("TRL refuses the settings"):
        args = config_class(job.settings.method, job.settings.packing)(**_arguments(job, max_length))
    dataset = Dataset.from_list(recipe.columns(learnable.rows, learnable.tokens, job.settings))
    if (line := _memory_line(job, facts, learnable, sampled, args)) is not None:
        job.tell(line)
    compared = rows_to_compare(learnable.tokens)
    model = load_model(model_path(job.model), job.settings, compared)
    with _as_config_error("TRL refuses the run"):
        from_adapter = is_adapter(model_path(job.model))
        trainer = recipe.trainer(
            Prepared(model, tokenizer, dataset, args, _lora_config(job.settings, method), score, from_adapter)
        )
    if job.settings.lora is not None:
        refuse_shared_weights(trainer.model)
    if (kept := _rows_in(trainer.train_dataset)) != len(dataset):
        raise DataError(f"{job.data}: TRL kept {kept} of {len(dataset)} rows; nothing was trained")
    lines = (
        rounding_line(model, args.learning_rate, lora=job.settings.lora is not None),
        recipe.about(trainer),
    )
    for line in filter(None, lines):
        job.tell(line)
    return Ready(trainer, len(rows) - len(learnable.rows), compared)


def _memory_line(job: Job, facts: ModelFacts, rows: Learnable, sampled: int, args: Any) -> str | None:
    """What it will take; None for a model whose parts cannot be counted without loading it."""
    both = (job.settings, job.settings.model_copy(update={"lora": LoraSettings()}))
    try:
        found = [counts(facts.config, job.method.kind, _lora_config(each, job.method)) for each in both]
    except (AttributeError, ValueError, TypeError, RuntimeError, KeyError, NotImplementedError):
        return None  # a model's own code may raise any of them; if it cannot be trained either, loading it says why
    tokens = longest_batch(rows.rows, rows.tokens, job.settings, sampled)
    reference, checkpointing = job.method.has_reference(job.settings.trl), _is_checkpointing(args)
    needed, with_lora = (
        memory(one, each, tokens, reference=reference, checkpointing=checkpointing)
        for one, each in zip(found, both, strict=True)
    )
    return memory_line(needed, None if job.settings.lora else with_lora, free_memory(cpu=args.use_cpu))


def _is_checkpointing(args: Any) -> bool:
    """By either name: transformers renames it."""
    return bool(getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False))


def _rows_in(dataset: Any) -> int:
    """How many of our rows a trainer's data set holds, whose items may be trees of them."""
    return sum(dataset["pairs"]) if "pairs" in dataset.column_names else len(dataset)


def _arguments(job: Job, max_length: int | None) -> dict[str, Any]:
    names = config_class(job.settings.method, job.settings.packing).__dataclass_fields__
    # The model is loaded here, so that it can be frozen, and compared with itself; TRL gets it ready made.
    chosen = {key: value for key, value in job.settings.trl.items() if key != "model_init_kwargs"}
    fixed = {
        "output_dir": str(job.out / "checkpoints"),
        **({"max_length": max_length} if "max_length" in names else {}),
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    # Rows of a tree differ in length as turn 1 from turn 10; shuffled, nearly half of a batch would be padding.
    by_length = {"train_sampling_strategy": "group_by_length", "group_by_length": True}
    offered = {"report_to": "none", **_first_of(by_length, names), **_device_defaults(job.settings, names)}
    return {**offered, **chosen, **fixed}


def _device_defaults(settings: TrainSettings, names: Collection[str]) -> dict[str, Any]:
    """TRL's defaults are made for a GPU: on a CPU, no mixed precision and no second forward pass to save memory."""
    import torch

    if torch.accelerator.is_available() and not settings.trl.get("use_cpu"):
        return {}
    checkpointing = _first_of({"activation_checkpointing": False, "gradient_checkpointing": False}, names)
    return {"use_cpu": True, "bf16": False, "dataloader_pin_memory": False, **checkpointing}


def _first_of(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The first of several names of one setting that this version of transformers knows."""
    return dict([next(item for item in settings.items() if item[0] in names)])


def _lora_config(settings: TrainSettings, method: TrainingMethod) -> Any:
    lora = settings.lora
    if lora is None:
        return None
    from peft import LoraConfig

    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules,
        task_type=method.kind.task_type,
    )


def _identity(job: Job, model: str) -> dict[str, JsonValue]:
    """What makes two runs the same run: where the model and the data lie does not matter, what is in them does."""
    return {
        "method": job.settings.method,
        "model": model,
        "data": sha256(job.data),
        "settings": json.loads(job.settings.model_dump_json()),
        **({} if job.reward is None else {"reward": dict(job.reward.identity)}),
    }


def _finished(out: Path, identity: Mapping[str, JsonValue]) -> Mapping[str, Any] | None:
    """The result in a folder that this very run has finished, None if there is work to do.

    Raises ConfigError for a folder that belongs to another run, or to nobody we know.
    """
    record = out / RECORD
    if not record.is_file():
        if out.exists() and not _unused(out):
            raise ConfigError(f"{out} holds something else; name a new folder to train into")
        return None
    known = json.loads(record.read_text(encoding="utf-8"))
    changed = [key for key, value in identity.items() if known["identity"].get(key) != value]
    if changed:
        raise ConfigError(
            f"{out} was begun with other {' and '.join(changed)}; use the same again to go on with it, "
            "or name a new folder"
        )
    return known["result"]  # type: ignore[no-any-return]


def _unused(out: Path) -> bool:
    """True for an empty folder, also where TRL made its own for checkpoints and then refused to start."""
    return out.is_dir() and all(entry.name == "checkpoints" and not any(entry.iterdir()) for entry in out.iterdir())


def _write_record(out: Path, identity: Mapping[str, JsonValue], result: Mapping[str, JsonValue] | None) -> None:
    record = {"schema": 1, "identity": identity, "result": result}
    write_atomically(out / RECORD, [json.dumps(record, indent=2), "\n"])


def _train(trainer: Any, job: Job, identity: Mapping[str, JsonValue]) -> bool:
    """Claim the folder and run the trainer to its end; True if it went on from a checkpoint."""
    from transformers import PrinterCallback

    if rank() == 0:
        job.out.mkdir(parents=True, exist_ok=True)
        _write_record(job.out, identity, None)
    trainer.remove_callback(PrinterCallback)
    if job.progress is not None:
        trainer.add_callback(_progress_callback(job.progress))
    checkpoint = _last_checkpoint(job.out / "checkpoints")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return checkpoint is not None


def _progress_callback(progress: Progress) -> Any:
    from transformers import TrainerCallback

    class Report(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # From the end: a long run must not read its whole log at every step.
            last = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
            progress(state.global_step, state.max_steps, None if last is None else float(last))

    return Report()


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is complete: its trainer_state.json is what transformers writes last."""
    complete = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _logged(log: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(entry[name]) for entry in log if entry.get(name) is not None]


def _result(job: Job, ready: Ready, rows: int, resumed: bool, seconds: float) -> TrainResult:
    log = ready.trainer.state.log_history
    losses, rewards = _logged(log, "loss"), [value for value in _logged(log, "reward") if math.isfinite(value)]
    return TrainResult(
        out=job.out,
        method=job.settings.method,
        status="resumed" if resumed else "trained",
        rows=rows - ready.left_out,
        left_out=ready.left_out,
        steps=ready.trainer.state.global_step,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        first_reward=rewards[0] if rewards else None,
        last_reward=rewards[-1] if rewards else None,
        seconds=seconds,
    )


def _finish(job: Job, ready: Ready, identity: Mapping[str, JsonValue], result: TrainResult) -> None:
    """Save all else, and last the record that says so: a run killed before that goes on from its checkpoint."""
    trainer = ready.trainer
    write_jsonl(trainer.state.log_history, job.out / "training_log.jsonl")
    facts = _card_facts(job, trainer, identity, result)
    facts = facts._replace(picture=PICTURE if write_picture(trainer.state.log_history, job.out / PICTURE) else None)
    write_atomically(job.out / "README.md", [model_card(facts)])
    if facts.adapter:
        write_atomically(job.out / "adapter" / "README.md", [adapter_card(facts)])  # in place of PEFT's empty form
    _write_record(job.out, identity, result.model_dump(mode="json", exclude={"out", "seconds", "status"}))
    if job.settings.trl["save_total_limit"] == _KEPT_TO_GO_ON:
        _remove_checkpoints(job.out)


def _remove_checkpoints(out: Path) -> None:
    """All but what TensorBoard wrote among them, which moves to `runs/`."""
    for written in (out / "checkpoints" / "runs").glob("*"):
        (out / "runs").mkdir(exist_ok=True)
        written.replace(out / "runs" / written.name)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _save_checked(job: Job, ready: Ready, tokenizer: Any) -> None:
    """Save adapter and model; ConfigError, and no model in the folder, if it answers otherwise than the trained one.

    The model is first saved beside its place, so that no folder ever looks like a model that is wrong. An adapter that
    was trained on top of another one is not saved: no folder holds the model it belongs to. Of divided weights every
    process has a share, and has to call this.
    """
    out, unchecked = job.out, job.out / "unchecked"
    device, kind, bound = ready.trainer.accelerator.device, job.method.kind, rounding_of(ready.trainer)
    model, trained = _trained(job, ready)
    if model is None:
        return
    shutil.rmtree(unchecked, ignore_errors=True)  # of a run killed right here
    refuse_diverged(model)
    if not is_adapter(model_path(job.model)):
        save_adapter(model, tokenizer, out / "adapter")
    save_model(model, tokenizer, unchecked)
    del model
    _release(ready.trainer)
    try:
        check_served(unchecked, trained, ready.compared, device, kind, bound)
    except ConfigError as error:
        shutil.rmtree(unchecked)
        raise ConfigError(f"{out} is not finished: {error}; {_way_out(out)}") from None
    for file in unchecked.iterdir():
        file.replace(out / file.name)
    unchecked.rmdir()


def _trained(job: Job, ready: Ready) -> tuple[Any, Answers]:
    """The trained model, None where another process has it, and what it answers to the rows that are compared."""
    trainer, kind, path = ready.trainer, job.method.kind, model_path(job.model)
    if not is_divided(trainer):
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        return model, kind.answers(model, ready.compared)
    answers = kind.answers(trainer.model_wrapped, ready.compared)
    base = partial(load_model, path, job.settings, ready.compared)
    return put_together(trainer, kind, base, job.out / "gathered"), answers


def _release(trainer: Any) -> None:
    """Give the memory of model and optimiser back: another copy of the model is about to be loaded."""
    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.ref_model = None
    trainer.accelerator.free_memory()


def _way_out(out: Path) -> str:
    adapter = out / "adapter"
    if adapter.is_dir():
        return (
            f"the adapter is in {adapter} and the checkpoints are kept; serve that, or train into a new folder with "
            "lora target_modules that leave the embeddings (embed_tokens, lm_head) out"
        )
    return f"the checkpoints are kept in {out / 'checkpoints'}; train into a new folder with other settings"


def _card_facts(job: Job, trainer: Any, identity: Mapping[str, JsonValue], result: TrainResult) -> CardFacts:
    origin = origin_of(job.data) or Origin()
    args, ours = trainer.args.to_dict(), job.settings.model_dump(exclude={"method", "trl", "lora", "chat_template"})
    shown = {key: str(args[key]) for key in _SHOWN if key in args}
    return CardFacts(
        method=result.method,
        base_model=job.model,
        data_name=job.data.name,
        data_sha256=str(identity["data"]),
        rows=result.rows,
        left_out=result.left_out,
        over_limit=result.over_limit,
        steps=result.steps,
        losses=(result.first_loss, result.last_loss),
        rewards=(result.first_reward, result.last_reward),
        judges=() if job.reward is None else job.reward.judges,
        hyperparameters={**shown, **{key: str(value) for key, value in ours.items()}},
        lora=None if job.settings.lora is None else job.settings.lora.model_dump(),
        dtype=_saved_type(job.out),
        adapter=(job.out / "adapter").is_dir(),
        picture=None,
        run_name=job.run_name or origin.name,
        for_user=origin.shows_persona,
    )


def _saved_type(out: Path) -> str:
    from transformers import AutoConfig

    return str(AutoConfig.from_pretrained(out).dtype).removeprefix("torch.")


@contextmanager
def _as_config_error(what: str) -> Iterator[None]:
    """A refusal of the libraries becomes one line of ours."""
    try:
        yield
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise ConfigError(f"{what}: {' '.join(str(error).split())}") from error
