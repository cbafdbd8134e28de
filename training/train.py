"""Any training method by its name: from a file of rows to a finished folder, trees read whole where that can be."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from interalign.errors import ConfigError
from interalign.training.fit import Job, Progress, fit, print_nothing
from interalign.training.method import CannotPackError, method_called
from interalign.training.processes import rank
from interalign.training.result import TrainResult
from interalign.training.reward import Reward
from interalign.training.settings import Packing
from interalign.training.settings_file import read_settings, recipe_of
from interalign.training.weights import RECORD


def train(
    method: str,
    model: str,
    data: Path,
    out: Path,
    *,
    packing: Packing | None = None,
    config: Path | Mapping[str, Any] | None = None,
    lora: bool = False,
    drop_too_long: bool = False,
    max_per_persona: int | None = None,
    report_to: Sequence[str] = (),
    run_name: str | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = print_nothing,
    reward: Reward | None = None,
) -> TrainResult:
    """Train `model`, a folder or hub id with or without `hf:`, on the rows of `data` and save it in `out`.

    `config` is YAML (or a mapping) of TRL's keys for this method and ours (docs/data-format.md); `drop_too_long` leaves
    rows out that are longer than `max_length`, `max_per_persona` all but so many of one persona; `report_to` names
    where transformers reports the run, nowhere by default. `packing` "tree" reads what rows of a tree share once, and
    counts batches in trees; None: where the method has a trainer for it, and model and settings allow it; `tell` is
    told which, and why. `reward` scores what a method such as grpo samples. Run again with the same arguments, it goes
    on from its last checkpoint, or does nothing if it was finished.

    Raises ConfigError and DataError before anything is trained; and ConfigError afterwards if the weights are no
    numbers, or the saved model does not answer as the trained one did.
    """
    if packing not in (None, "pairs", "tree"):
        raise ConfigError(f"no way {packing!r} to read pairs; give --method pairs, --method tree, or neither")

    if method_called(method).scored and reward is None:
        raise ConfigError(f"train {method} needs a judge that scores the replies it samples; name one with --judge")

    def fitted(chosen: Packing) -> TrainResult:
        settings = read_settings(
            method, config, lora=lora, drop_too_long=drop_too_long, max_per_persona=max_per_persona,
            report_to=report_to, packing=chosen,
        )  # fmt: skip
        job = Job(settings, model, data, out, run_name, progress, tell, reward)
        return fit(job, recipe_of(method, chosen))

    if packing is None and method_called(method).trees is not None:
        packing = begun_with(out)
    elif packing is None:
        packing = "pairs"
    if packing is not None:
        return fitted(packing)
    try:
        return fitted("tree")
    except CannotPackError as error:
        if rank() == 0:
            tell(f"read as plain pairs: {error}")
        return fitted("pairs")


def begun_with(out: Path) -> Packing | None:
    """How the rows are read in a folder that a training has begun; None for a new one."""
    record = out / RECORD
    if not record.is_file():
        return None
    settings = json.loads(record.read_text(encoding="utf-8"))["identity"]["settings"]
    return "tree" if settings.get("packing") == "tree" else "pairs"
