"""Names of models, as LangChain writes them: what is one, what it needs, what a wrong one may have meant."""

import importlib.util
from pathlib import Path

from interalign.errors import did_you_mean
from interalign.model_spec import ModelSpec
from interalign.registries import PROVIDERS

_PACKAGES = {
    "anthropic": "langchain-anthropic", "azure_ai": "langchain-azure-ai", "azure_openai": "langchain-openai",
    "bedrock": "langchain-aws", "bedrock_converse": "langchain-aws", "anthropic_bedrock": "langchain-aws",
    "cohere": "langchain-cohere", "deepseek": "langchain-deepseek", "fireworks": "langchain-fireworks",
    "google_anthropic_vertex": "langchain-google-vertexai", "google_genai": "langchain-google-genai",
    "google_vertexai": "langchain-google-vertexai", "groq": "langchain-groq", "huggingface": "langchain-huggingface",
    "ibm": "langchain-ibm", "litellm": "langchain-litellm", "mistralai": "langchain-mistralai",
    "nvidia": "langchain-nvidia-ai-endpoints", "ollama": "langchain-ollama", "openrouter": "langchain-openrouter",
    "perplexity": "langchain-perplexity", "together": "langchain-together", "upstage": "langchain-upstage",
    "xai": "langchain-xai",
}  # fmt: skip
"""Providers as LangChain's `init_chat_model` names them, and the package that each one needs."""


def is_model_name(spec: str) -> bool:
    """Whether the spec reads as a model, `provider:name`, and not as a plug-in, `module:attribute`.

    Those of the registry and every installed LangChain integration are providers; otherwise an importable module with
    an attribute that can be one is a plug-in.
    """
    model = ModelSpec.parse(spec)
    if not model.name or ":" not in spec:
        return False
    if model.scheme in PROVIDERS.names() or importable(f"langchain_{model.scheme.replace('-', '_')}"):
        return True
    return not (all(part.isidentifier() for part in model.name.split(".")) and importable(model.scheme))


def importable(module: str) -> bool:
    """Whether a top-level module is installed; nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def needed_package(provider: str) -> str | None:
    """The package that LangChain needs for a provider; None for a name that is none that we know of."""
    return _PACKAGES.get(provider)


def unknown_name(spec: str) -> str:
    """One line for a name that is neither a model nor a plug-in: both readings, and what is near it."""
    first, _, last = spec.partition(":")
    near = did_you_mean(_as_module(first), [*PROVIDERS.names(), *_PACKAGES, *_modules_near(first)])
    return (
        f"{spec!r}: there is no provider {first!r} of models, and no module {first!r}: a plug-in is MODULE:ATTRIBUTE, "
        f"and its module one that Python can import here{near.replace('?', f':{last}?')}"
    )


def _as_module(name: str) -> str:
    """What was written as a path, as a module is named."""
    return name.removeprefix("./").removesuffix(".py").replace("/", ".")


def _modules_near(name: str) -> list[str]:
    """The modules in the folder where a module of this name would lie, seen from the working folder."""
    *packages, _ = _as_module(name).split(".")
    folder = Path(*packages)
    try:
        found = [entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").exists()]
    except OSError:
        return []
    return [".".join((*packages, stem)) for stem in found if stem.isidentifier()]
