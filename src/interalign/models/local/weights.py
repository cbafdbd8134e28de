"""Loading the weights of an `hf:` model, and what follows from them: its limits, and what ends a reply."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from interalign.errors import ConfigError
from interalign.models.local.adapter import adapted_model
from interalign.models.local.chat_template import install
from interalign.models.local.chunked_prefill import allows_chunked_prefill
from interalign.models.local.options import template_text

_DEFAULT_NEW_TOKENS = 512


class Weights(NamedTuple):
    """A loaded model and what has to be known of it."""

    tokenizer: Any
    model: Any
    limit: int
    """Most positions the model can take, prompt and reply together."""
    stops: tuple[int, ...]
    """Ids of the tokens that end a reply."""
    max_new_tokens: int
    chunked: bool
    """Whether it may read a prompt in parts, and so go on from keys and values that were kept."""


def load_weights(path: str, dtype: str | None, gpu: int | None = None, chat_template: str | None = None) -> Weights:
    """The model in a folder or of a Hugging Face id, ready to run.

    `dtype` None: the checkpoint's on a GPU, on a CPU bfloat16 where the checkpoint is and the CPU computes in it, else
    float32.

    `gpu`: the number of the GPU, modulo how many there are; None: PyTorch's choice. `chat_template`: a file with the
    template to use instead of the tokenizer's own.

    Raises ConfigError for whatever keeps it from being loaded, or from chatting.
    """
    try:
        device = _device(gpu)
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise ConfigError("hf: models need the training extra: pip install 'interalign[train]'") from None
    folder = Path(path).expanduser()
    if not folder.is_dir() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise ConfigError(f"hf:{path}: there is no folder {path}")
    source = str(folder) if folder.is_dir() else path
    try:
        with _no_bars():
            options = {"use_safetensors": True, "trust_remote_code": False, "dtype": dtype or "auto"}
            _refuse_reward_model(source)
            if (folder / "adapter_config.json").is_file():
                model = adapted_model(folder, options)
            else:
                model = AutoModelForCausalLM.from_pretrained(source, **options)
            tokenizer = _tokenizer(source, model)
    except (OSError, ValueError, ImportError) as error:
        missing = "" if folder.is_dir() else "no such folder, and as a name on the Hugging Face hub it "
        raise ConfigError(f"hf:{path}: {missing}cannot be loaded: {first_line(error)}") from None
    install(tokenizer, None if chat_template is None else template_text(chat_template), {}, f"hf:{path}")
    if dtype is None and device == "cpu" and not _computes_in(model.dtype):
        model = model.float()
    return _weights(model.to(device).eval(), tokenizer)


def _computes_in(dtype: Any) -> bool:
    """Whether this CPU has instructions for a checkpoint's half precision, without which float32 is faster."""
    import torch

    can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # of later versions
    return dtype == torch.bfloat16 and any(can.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"))


def _refuse_reward_model(source: str) -> None:
    """ValueError for a model or adapter that scores: transformers would give it an output layer that learnt nothing."""
    from transformers import AutoConfig

    adapter = Path(source) / "adapter_config.json"
    if adapter.is_file():
        scores = json.loads(adapter.read_text(encoding="utf-8")).get("task_type") == "SEQ_CLS"
    else:
        classes = AutoConfig.from_pretrained(source, trust_remote_code=False).architectures or ()
        scores = any(name.endswith("ForSequenceClassification") for name in classes)
    if scores:
        raise ValueError("it is a reward model, which scores conversations and does not speak")


def _device(gpu: int | None) -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    if gpu is None:
        return "cuda"
    place = gpu % torch.cuda.device_count()
    torch.cuda.set_device(place)  # so that nothing of this process lands on the first one
    return f"cuda:{place}"


def _tokenizer(source: str, model: Any) -> Any:
    """The model's tokenizer, for an adapter without one its base model's."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError):  # the last one of transformers 5.0, which then looks for protobuf
        return AutoTokenizer.from_pretrained(model.config.name_or_path, trust_remote_code=False)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the loading bars of transformers off standard error; a run has its own progress."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """What a foreign error says first: our errors are one line."""
    return str(error).strip().partition("\n")[0]


def _weights(model: Any, tokenizer: Any) -> Weights:
    from transformers import GenerationConfig

    own = model.generation_config
    stops = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    stops = [token for token in dict.fromkeys([*stops, tokenizer.eos_token_id]) if token is not None]
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops or [0])[0]
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    # Sampling settings come from the run alone: those in the folder would change replies without being on record.
    model.generation_config = GenerationConfig(do_sample=False, pad_token_id=padding, eos_token_id=stops or None)
    longest = own.max_new_tokens or _DEFAULT_NEW_TOKENS
    return Weights(tokenizer, model, int(limit), tuple(stops), longest, allows_chunked_prefill(model, int(limit)))
