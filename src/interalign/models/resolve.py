"""From a model name to a model."""

from interalign.config import Runtime, join_engine
from interalign.errors import ConfigError
from interalign.models.base import ChatModel


def resolve_model(spec: str, runtime: Runtime) -> ChatModel:
    """The model called `spec`: `world:...`, `openai:...`, `hf:...`, or any `provider:name` of LangChain.

    Raises ConfigError if there is no such model or something it needs (a key, an extra, a folder) is missing.
    """
    provider, colon, name = spec.partition(":")
    if not colon or not name:
        raise ConfigError(f"model {spec!r}: expected PROVIDER:NAME, such as world:attentive or openai:gpt-4o-mini")
    if provider == "world":
        from interalign.models.world import world_model

        return world_model(name)
    if provider == "openai":
        from interalign.models.openai import openai_model

        return openai_model(spec, runtime)
    if provider == "hf":
        from interalign.models.local import hf_model

        return hf_model(join_engine(spec, dict(runtime.engines).get(spec, "")))
    from interalign.models.langchain import langchain_model

    return langchain_model(spec, runtime)
