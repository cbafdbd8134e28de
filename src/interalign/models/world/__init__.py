"""The embedded world: a small closed world in plain English in which the true score of a reply is known.

It validates the pipeline; it says nothing about how good a language model is. docs/world.md describes it.
"""

from interalign.models.world.corpus import deciding_exercise, long_talk, reading_exercise, short_talk
from interalign.models.world.people import Split, WorldPersonas, is_world_persona, world_personas
from interalign.models.world.roles import WorldModel, from_spec, world_model, world_models
from interalign.models.world.sentences import tokenize, vocabulary
from interalign.models.world.truth import true_score

__all__ = [
    "Split",
    "WorldModel",
    "WorldPersonas",
    "deciding_exercise",
    "from_spec",
    "is_world_persona",
    "long_talk",
    "reading_exercise",
    "short_talk",
    "tokenize",
    "true_score",
    "vocabulary",
    "world_model",
    "world_models",
    "world_personas",
]
