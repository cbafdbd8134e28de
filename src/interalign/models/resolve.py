"""From a model name to a model."""

from interalign.config import Runtime
from interalign.errors import ConfigError
from interalign.model_spec import ModelSpec
from interalign.models.base import ChatModel
from interalign.registries import PROVIDERS


def resolve_model(text: str, runtime: Runtime) -> ChatModel:
    """The model called `text`: `world:...`, `openai:...`, `hf:...`, a plug-in's, or any `provider:name` of LangChain.

    Raises ConfigError if there is no such model or something it needs (a key, an extra, a folder) is missing.
    """
    spec = ModelSpec.parse(text)
    if not spec.is_complete:
        raise ConfigError(f"model {text!r}: expected PROVIDER:NAME, such as world:attentive or openai:gpt-4o-mini")
    if spec.scheme in PROVIDERS.names():
        build, _ = PROVIDERS.load(spec.scheme)
        model: ChatModel = build(spec.run_with(spec.engine or dict(runtime.engines).get(spec.known_as, "")), runtime)
        return model
    from interalign.models.langchain import langchain_model

    return langchain_model(text, runtime)
