"""Settings of a run, read once and passed down: their fields are the YAML keys, the options and the keywords."""

from interalign.config.addresses import as_runtime, with_addresses
from interalign.config.engines import EngineSettings
from interalign.config.keywords import (
    EngineKeywords,
    EvaluationKeywords,
    RunKeywords,
    RuntimeKeywords,
    SimulationKeywords,
)
from interalign.config.parameters import Parameters, SeatParameters
from interalign.config.persona_settings import PersonaSettings
from interalign.config.reading import build, naming_the_file, read_settings
from interalign.config.reward_settings import RewardSettings
from interalign.config.rounds_settings import RoundsSettings
from interalign.config.runtime import Price, Runtime, ServerSettings, TokenLimit, key_variables, merged_servers
from interalign.config.settings import (
    WORDING,
    CandidateSpec,
    EvaluationSettings,
    HookPoint,
    Judging,
    RunSettings,
    SimulationSettings,
    identity_of,
    models_of,
)

__all__ = [
    "WORDING",
    "CandidateSpec",
    "EngineKeywords",
    "EngineSettings",
    "EvaluationKeywords",
    "EvaluationSettings",
    "HookPoint",
    "Judging",
    "Parameters",
    "PersonaSettings",
    "Price",
    "RewardSettings",
    "RoundsSettings",
    "RunKeywords",
    "RunSettings",
    "Runtime",
    "RuntimeKeywords",
    "SeatParameters",
    "ServerSettings",
    "SimulationKeywords",
    "SimulationSettings",
    "TokenLimit",
    "as_runtime",
    "build",
    "identity_of",
    "key_variables",
    "merged_servers",
    "models_of",
    "naming_the_file",
    "read_settings",
    "with_addresses",
]
