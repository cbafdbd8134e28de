"""Merging a LoRA adapter into its base model so that the two together and the merged weights answer the same."""

from collections.abc import Iterator
from typing import Any

from interalign.errors import ConfigError


def merged(adapted: Any) -> Any:
    """The base model of a `peft.PeftModel` with the adapter merged in; `adapted` is used up.

    Where the input and the output embeddings are one tensor and the adapter changes only one of them, they are made
    two tensors first (`tie_word_embeddings: false`): merged into the one, the change would reach the other as well.
    ConfigError for an adapter of a kind that cannot be merged (a learnt prompt, say).
    """
    _untie_adapted_embeddings(adapted)
    try:
        return adapted.merge_and_unload()
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"this adapter cannot be merged into its model ({' '.join(str(error).split())})") from error


def _untie_adapted_embeddings(adapted: Any) -> None:
    import torch

    base = adapted.get_base_model()
    read, write = base.get_input_embeddings(), base.get_output_embeddings()
    if write is None or not (_is_adapted(read) or _is_adapted(write)):
        return
    below = _unadapted(write)
    if below.weight.data_ptr() != _unadapted(read).weight.data_ptr():
        return
    below.weight = torch.nn.Parameter(below.weight.detach().clone(), requires_grad=False)
    for config in (base.config, base.config.get_text_config()):
        config.tie_word_embeddings = False


def refuse_shared_weights(adapted: Any) -> None:
    """ConfigError if the adapter of a `peft.PeftModel` sits on weights that another module has too.

    Merged, it would change both. The embeddings are no such case: `merged` takes them apart.
    """
    base = adapted.get_base_model()
    embeddings = {id(_unadapted(module)) for module in (base.get_input_embeddings(), base.get_output_embeddings())}
    owners: dict[int, list[str]] = {}
    for name, module in _with_weight(base):
        if id(module) not in embeddings and module.weight.data_ptr():  # 0: it is not in memory
            owners.setdefault(module.weight.data_ptr(), []).append(name)
    for names in owners.values():
        if len(names) > 1 and any(name.endswith(".base_layer") for name in names):
            modules = " and ".join(name.removesuffix(".base_layer") for name in names)
            raise ConfigError(
                f"{modules} share their weights, and a LoRA adapter on one of them cannot be merged without changing "
                "the other; leave them out of lora target_modules, or train without lora"
            )


def _with_weight(model: Any) -> Iterator[tuple[str, Any]]:
    import torch

    for name, module in model.named_modules():
        if isinstance(vars(module).get("_parameters", {}).get("weight"), torch.nn.Parameter):
            yield name, module


def _is_adapted(module: Any) -> bool:
    return _unadapted(module) is not module


def _unadapted(module: Any) -> Any:
    """The model's own module below PEFT's, if there is one."""
    for below in ("base_layer", "original_module"):
        if hasattr(module, below):
            return _unadapted(getattr(module, below))
    return module
