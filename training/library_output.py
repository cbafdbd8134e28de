"""Keeps the training libraries from drawing bars, printing, or calling home while ours is the only voice."""

import logging as logging_of_python
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside, transformers, TRL and datasets draw no bars, log errors only and report nothing to anyone.

    Bars, log level and warning filters are put back at the end; the switched-off reporting stays off.
    """
    _no_telemetry()
    import datasets
    from transformers.utils import logging

    level, bars, data_bars = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        not datasets.are_progress_bars_disabled(),
    )
    grpo = logging_of_python.getLogger("trl.trainer.grpo_trainer")
    grpo.addFilter(_is_not_of_a_missing_reward)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # Settings that TRL's own defaults use and a coming transformers renames: nothing a user could act on.
            warnings.simplefilter("ignore", FutureWarning)
            # Of the checkpoints it keeps or removes; transformers 5.0 says it as a warning, later ones in the log.
            warnings.filterwarnings("ignore", message="mtime may not be reliable")
            # PEFT warns of adapters on tied embeddings, which `merging` takes apart and `served` checks.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"peft\.")
            yield
    finally:
        grpo.removeFilter(_is_not_of_a_missing_reward)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if data_bars:
            datasets.enable_progress_bars()


def _is_not_of_a_missing_reward(record: logging_of_python.LogRecord) -> bool:
    """A score may be missing: TRL drops the reply, as it should, and would say so over several lines each time."""
    return "All reward functions returned None" not in record.getMessage()


def _no_telemetry() -> None:
    """TRL reports every trainer to its makers unless told not to, before huggingface_hub is first imported or after."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
