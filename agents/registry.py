"""Roles by name: built-in models, the entry-point group `interalign.roles`, or `module:attribute`.

Nothing is imported that the user did not name.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, cast

from interalign.agents.candidate import PromptedCandidate
from interalign.agents.inducer import PromptedInducer
from interalign.agents.judge import PromptedJudge
from interalign.agents.plugin import AgentSpeaker, PluginModel, RecordedJudge, RecordedRole, RunnableModel
from interalign.agents.protocols import Candidate, Hook, Inducer, Judge, UserRole
from interalign.agents.speaker import Speaker
from interalign.agents.templates import PromptSet
from interalign.agents.user import PromptedUser
from interalign.config import Parameters, Runtime
from interalign.errors import ConfigError, did_you_mean
from interalign.ledger import Calls
from interalign.models.base import ChatModel
from interalign.models.names import is_model_name, unknown_name
from interalign.models.resolve import resolve_model
from interalign.models.world import world_models

GROUP = "interalign.roles"
Kind = Literal["user", "inducer", "candidate", "judge"]
Role = UserRole | Inducer | Candidate | Judge
_JUDGING = ("compare", "score", "rank")
"""What a plug-in judge may do."""
_PROMPTED: dict[Kind, Callable[[Speaker], Role]] = {
    "user": PromptedUser,
    "inducer": PromptedInducer,
    "candidate": PromptedCandidate,
    "judge": PromptedJudge,
}


def registered_roles() -> dict[str, EntryPoint]:
    """Installed plug-in roles by name, as when first asked; none of them is imported."""
    return _registered(tuple(sys.path))


@cache
def _registered(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Those found on this import path. Looking through all that is installed takes milliseconds: it is done once."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load_plugin(spec: str) -> Any:
    """The object a plug-in name stands for; ConfigError if there is none or it cannot be imported."""
    entry = registered_roles().get(spec)
    module, _, attribute = (entry.value if entry else spec).partition(":")
    if not module or not attribute:
        raise ConfigError(
            f"no role or model is called {spec!r}; give PROVIDER:MODEL, MODULE:ATTRIBUTE or a name that "
            f"`interalign roles list` shows{_near(spec)}"
        )
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = _attribute(spec, found, part)
        # A class is a role's blueprint: it is built once, without arguments.
        return found() if isinstance(found, type) else found
    except ConfigError:
        raise
    except Exception as error:
        if entry is None and isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(unknown_name(spec)) from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"role {spec!r} cannot be loaded ({reason})") from error


def _near(name: str) -> str:
    """What a name without a colon may have been meant to be: a registered role, or one of the world."""
    world = [each.partition("[")[0] for each in world_models()]
    return f"; did you mean world:{name}?" if name in world else did_you_mean(name, registered_roles())


def _attribute(spec: str, owner: object, name: str) -> object:
    if not hasattr(owner, name):
        where = getattr(owner, "__name__", type(owner).__name__)
        near = did_you_mean(name, (each for each in dir(owner) if not each.startswith("_")))
        raise ConfigError(f"role {spec!r} cannot be loaded: {where} has no attribute {name!r}{near}")
    return getattr(owner, name)


def is_plugin_name(spec: str) -> bool:
    """Whether the spec names a plug-in rather than a model."""
    return spec in registered_roles() or not is_model_name(spec)


def seat_role(
    kind: Kind,
    spec: str,
    parameters: Parameters,
    ledger: Calls,
    resolve: Callable[[str], ChatModel],
    prompts: PromptSet,
) -> Role:
    """The role behind a spec, ready to be asked. `resolve` turns a model name into a model (one object a name)."""
    if not is_plugin_name(spec):
        return _PROMPTED[kind](Speaker(kind, resolve(spec), parameters, ledger, prompts))
    plugin = load_plugin(spec)
    if hasattr(plugin, "ainvoke") or isinstance(plugin, ChatModel):
        model = RunnableModel(spec, plugin) if hasattr(plugin, "ainvoke") else PluginModel(spec, plugin)
        return _PROMPTED[kind](AgentSpeaker(kind, model, parameters, ledger, prompts, resolve))
    if kind == "judge" and any(hasattr(plugin, name) for name in _JUDGING):
        return RecordedJudge(spec, plugin, ledger, resolve)
    if kind != "judge" and callable(plugin):
        return cast(Role, RecordedRole(kind, spec, plugin, ledger, resolve))
    needs = "an object with `compare`, `score` or `rank`" if kind == "judge" else "an async callable"
    raise ConfigError(f"{kind} {spec!r} is {type(plugin).__name__}; expected {needs}, a Runnable or a graph")


def load_hook(spec: str) -> Hook:
    """The hook a plug-in name stands for; ConfigError if it is not callable."""
    plugin = load_plugin(spec)
    if not callable(plugin):
        raise ConfigError(f"hook {spec!r} is {type(plugin).__name__}; expected an async callable")
    return cast(Hook, plugin)


def _refuse_plain(spec: str, called: object) -> None:
    """ConfigError for a function that is surely not async. What answers is known only when it is asked."""
    function = called if inspect.isroutine(called) else inspect.getattr_static(type(called), "__call__", None)
    if inspect.isroutine(function) and not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise ConfigError(f"{function.__name__!r} of role {spec!r} is not async: write it with `async def`")


def describe_role(spec: str) -> str:
    """One line: what a name stands for and which seats it can take; ConfigError if it cannot be loaded."""
    if not is_plugin_name(spec):
        resolve_model(spec, Runtime())
        return f"{spec}: a chat model; can sit in every seat: user, inducer, candidate, judge"
    plugin = load_plugin(spec)
    kind = type(plugin).__name__
    if hasattr(plugin, "ainvoke") or isinstance(plugin, ChatModel):
        return f"{spec}: {kind}; can sit in every seat: user, inducer, candidate, judge"
    judging = [name for name in _JUDGING if hasattr(plugin, name)]
    for called in filter(callable, [getattr(plugin, name) for name in judging] or [plugin]):
        _refuse_plain(spec, called)
    if judging:
        return f"{spec}: {kind} with {' and '.join(judging)}; can sit as judge"
    if callable(plugin):
        return f"{spec}: {kind}; can sit as user, inducer or candidate, or be a hook"
    raise ConfigError(f"{spec} is {kind}; a role is an async callable, a judge, a Runnable or a graph")
