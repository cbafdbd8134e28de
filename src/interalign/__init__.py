"""Teach a chat model to find out, while it talks, what this user likes, and to act on it.

import interalign as ia

ia.simulate("run.db", trees=20)
ia.export("run.db", "dpo.jsonl", format="dpo")
ia.evaluate("eval.db", candidate=["world:blind", "world:oracle"])
"""

from interalign.agents.answers import parse_score, parse_verdict
from interalign.agents.asking import ask_model
from interalign.agents.protocols import (
    At,
    Candidate,
    CandidateAsk,
    ChoiceOpinion,
    Comparison,
    Hook,
    HookView,
    Inducer,
    InducerAsk,
    Judge,
    Listing,
    RankingOpinion,
    Said,
    ScoreOpinion,
    Scoring,
    UserAsk,
    UserRole,
)
from interalign.api import evaluate, export, open_run, simulate
from interalign.config import Parameters, Price, Runtime
from interalign.errors import (
    BadContentError,
    ConfigError,
    DataError,
    FailedTreeError,
    InteralignError,
    LockedError,
    MalformedTreeError,
    MetricError,
    StopError,
)
from interalign.personas import Persona
from interalign.records import RunSummary, Usage
from interalign.tree import Annotation, JudgedTree, Message, Node, Presentation, Score, Tree, Verdict
from interalign.version import __version__ as __version__

__all__ = [
    "Annotation",
    "At",
    "BadContentError",
    "Candidate",
    "CandidateAsk",
    "ChoiceOpinion",
    "Comparison",
    "ConfigError",
    "DataError",
    "FailedTreeError",
    "Hook",
    "HookView",
    "Inducer",
    "InducerAsk",
    "InteralignError",
    "Judge",
    "JudgedTree",
    "Listing",
    "LockedError",
    "MalformedTreeError",
    "Message",
    "MetricError",
    "Node",
    "Parameters",
    "Persona",
    "Presentation",
    "Price",
    "RankingOpinion",
    "RunSummary",
    "Runtime",
    "Said",
    "Score",
    "ScoreOpinion",
    "Scoring",
    "StopError",
    "Tree",
    "Usage",
    "UserAsk",
    "UserRole",
    "Verdict",
    "ask_model",
    "evaluate",
    "export",
    "open_run",
    "parse_score",
    "parse_verdict",
    "simulate",
]
