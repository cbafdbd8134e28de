"""Models in folders: which one is meant, what it is made for, loading it, saving it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from interalign.errors import ConfigError
from interalign.files import sha256
from interalign.model_spec import ModelSpec
from interalign.models.local.chat_template import ChatTemplate, install
from interalign.training.merging import merged
from interalign.training.method import method_called
from interalign.training.model_kinds import LANGUAGE_MODEL, ModelKind
from interalign.training.served import Answers, Rows, check_same
from interalign.training.settings import TrainSettings
from interalign.training.world_base_model import freeze_embeddings


class ModelFacts(NamedTuple):
    """What has to be known of a model before its weights are loaded."""

    identity: str
    """Hash of everything in the folder that counts, or the hub id with its commit."""
    positions: int | None
    """Longest sequence it was made for, in tokens; None if it does not say."""
    stops: frozenset[int]
    """Tokens at which it stops speaking."""
    config: Any
    """Its configuration, as transformers has it."""


def model_path(name: str) -> str:
    """The folder or hub id behind a model name, with or without `hf:`; ConfigError for a model without weights."""
    spec = ModelSpec.parse(name)
    path = spec.name if spec.scheme == "hf" else name
    if not path or (spec.scheme not in ("", "hf") and not Path(name).exists()):
        raise ConfigError(f"{name!r} cannot be trained; name a folder or a Hugging Face id (`hf:...`)")
    return path


def load_tokenizer(path: str, settings: TrainSettings | None = None) -> Any:
    """The tokenizer of a model, with the chat template and its arguments that the settings say; it saves both.

    Raises ConfigError if there is none, or one that no conversation can be learnt with, and for arguments that the
    template does not read.
    """
    from transformers import AutoTokenizer

    with _one_line(f"the tokenizer of {path}"):
        tokenizer = AutoTokenizer.from_pretrained(path)
    kwargs = settings.chat_template_kwargs if settings else {}
    install(tokenizer, settings.chat_template if settings else None, kwargs, path)
    if unread := sorted(kwargs.keys() - ChatTemplate(tokenizer).variables()):
        known = ", ".join(ChatTemplate(tokenizer).arguments()) or "nothing of the kind"
        raise ConfigError(f"{path}: its chat template does not read {', '.join(unread)}; it reads {known}")
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"{path}: its tokenizer has no eos_token, so the model could not learn to stop; set one")
    return tokenizer


def model_facts(path: str, tokenizer: Any) -> ModelFacts:
    """Identity, length and stop tokens of a model, read without loading its weights into memory."""
    from transformers import AutoConfig

    with _one_line(f"the model {path}"):
        config = AutoConfig.from_pretrained(_base_of(path))
    folder = Path(path)
    identity = _folder_hash(folder) if folder.is_dir() else f"{path}@{config._commit_hash}"
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    stops = {tokenizer.eos_token_id} | _as_set(config.get_text_config().eos_token_id) | _generation_stops(path)
    return ModelFacts(identity, positions, frozenset(stops), config)


def _folder_hash(folder: Path) -> str:
    """Hash of weights, configuration, tokenizer and chat template: the same model in another place hashes the same."""
    kinds = {".safetensors", ".json", ".jinja", ".model", ".txt"}
    files = sorted(path for path in folder.iterdir() if path.suffix in kinds and path.name != RECORD)
    listing = "\n".join(f"{path.name} {sha256(path)}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


RECORD = "interalign_training.json"
"""File in a trained model's folder that says what it was trained on and whether that is finished."""


def _generation_stops(path: str) -> set[int]:
    from transformers import GenerationConfig

    try:
        stops = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:  # a model without a generation configuration stops at the tokenizer's eos_token
        return set()
    return _as_set(stops)


def _as_set(tokens: int | list[int] | None) -> set[int]:
    if tokens is None:
        return set()
    return set(tokens) if isinstance(tokens, list) else {tokens}


def load_model(path: str, settings: TrainSettings, rows: Rows) -> Any:
    """The model that this method trains, float32 unless `model_init_kwargs: {dtype: ...}` says otherwise.

    From safetensors only. A language model becomes a reward model by a new head, drawn by the settings' `seed`.
    A LoRA adapter gives its base model with the adapter merged in, so that a DPO run that starts from an adapter is
    held against that adapter's own replies, not against the base model's. Merged it has to answer
    `rows` as before, or it is refused (ConfigError).
    """
    from transformers import set_seed

    kind = method_called(settings.method).kind
    options = {"dtype": "float32", "use_safetensors": True, **(settings.trl.get("model_init_kwargs") or {})}
    if options.get("trust_remote_code"):
        raise ConfigError("trust_remote_code cannot be set: interalign runs no code from a model's folder")
    with _one_line(f"the model {path}"):
        _refuse_another_kind(path, kind)
        set_seed(settings.trl.get("seed", 42))  # of the head of a new reward model; 42 is TRL's default
        model = kind.auto().from_pretrained(_base_of(path), **options, **kind.options)
        if is_adapter(path):
            model = _merged_checked(model, path, rows, kind)
    if settings.freeze_embeddings:
        freeze_embeddings(model)
    return model


def _merged_checked(model: Any, adapter: str, rows: Rows, kind: ModelKind) -> Any:
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, adapter)
    known = kind.answers(adapted, rows)
    # Merging leaves the weights frozen, as they were under the adapter.
    model = merged(adapted).requires_grad_(True)
    check_same(known, model, rows, "merged, the adapter answers otherwise", kind.answers)
    return model


def _refuse_another_kind(path: str, kind: ModelKind) -> None:
    """ConfigError for a reward model that is to speak, or the adapter of a language model that is to score."""
    from transformers import AutoConfig

    classes = AutoConfig.from_pretrained(_base_of(path)).architectures or ()
    if kind is LANGUAGE_MODEL and any(name.endswith("ForSequenceClassification") for name in classes):
        raise ConfigError("it is a reward model, which scores conversations and does not speak; name a language model")
    if is_adapter(path) and _adapter_config(path).task_type != kind.task_type:
        raise ConfigError(
            f"it is an adapter of a {_adapter_config(path).task_type} model, and a {kind.name} is trained; name the "
            "folder of the merged weights"
        )


def _adapter_config(path: str) -> Any:
    from peft import PeftConfig

    return PeftConfig.from_pretrained(path)


def check_served(
    folder: Path, trained: Answers, rows: Rows, device: Any, kind: ModelKind, rounded: float = 0.0
) -> None:
    """Load the model in `folder` as it will be served; ConfigError if it answers otherwise than the trained one did.

    `rounded`: a difference that rounding explains, where the trained one computed in another type.
    """
    served = kind.auto().from_pretrained(folder, dtype="auto", use_safetensors=True).to(device)
    what = "the saved model does not answer as the trained one did"
    check_same(trained, served, rows, what, kind.answers, rounded)


def is_adapter(path: str) -> bool:
    """Whether a folder or hub id holds a LoRA adapter, and not a whole model."""
    from transformers.utils import find_adapter_config_file

    return find_adapter_config_file(path) is not None


def _base_of(path: str) -> str:
    """The model an adapter belongs to; any other model itself."""
    if not is_adapter(path):
        return path
    return str(_adapter_config(path).base_model_name_or_path)


def refuse_diverged(trained: Any) -> None:
    """ConfigError if a weight is no number."""
    import torch

    if not all(bool(torch.isfinite(weight).all()) for weight in trained.parameters()):
        raise ConfigError("training diverged: some weights are not numbers; train again with a lower learning_rate")


def save_model(trained: Any, tokenizer: Any, out: Path) -> None:
    """Save weights (safetensors), configuration, tokenizer and chat template in `out`; `trained` is used up.

    Of a LoRA run it is the merged weights, so that `out` serves as a model like any other.
    """
    from peft import PeftModel

    whole = merged(trained) if isinstance(trained, PeftModel) else trained
    whole.save_pretrained(out)
    tokenizer.save_pretrained(out)


def save_adapter(trained: Any, tokenizer: Any, out: Path) -> None:
    """Save the adapter of a LoRA run alone in `out`; nothing if the run trained all weights."""
    from peft import PeftModel

    if isinstance(trained, PeftModel):
        trained.save_pretrained(out)
        tokenizer.save_pretrained(out)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """An error of the libraries while loading becomes one ConfigError line."""
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, ConfigError) as error:
        raise ConfigError(f"cannot load {what}: {' '.join(str(error).split())}") from error
