"""From the options of a training to the judge that scores what it samples."""

from collections.abc import Mapping
from pathlib import Path

from interalign.config import CandidateSpec, RewardSettings, Runtime, SimulationSettings, build, with_addresses
from interalign.errors import ConfigError
from interalign.files import is_database
from interalign.people.source import SHIPPED, load_personas
from interalign.personas import Persona
from interalign.run.rewards import POLICY, JudgedReward
from interalign.store import Store
from interalign.training.data_card import Origin, origin_of


def reward_of(chosen: RewardSettings, model: str, data: Path, path: Path, runtime: Runtime) -> JudgedReward:
    """The judge of these settings, whose calls are kept in `path`, for a training of `model` on the rows of `data`.

    Raises ConfigError if the personas of the rows cannot be found.
    """
    if chosen.lookahead and chosen.user is None:
        raise ConfigError("--lookahead needs somebody who plays the persona; name a model with --user")
    if chosen.user is not None and not chosen.lookahead:
        raise ConfigError("--user: nobody speaks without --lookahead; leave it out, or say how many turns")
    source = _source(chosen.personas, data)
    given = {
        "judge": chosen.judge,
        "candidate": (CandidateSpec(name=POLICY, model=model),),
        "user": chosen.user or "none",
        "inducer": "none",
        "judging": "score",
        "personas": "world",
        "prompts": chosen.prompts,
        "rubric": chosen.rubric,
        "seed": chosen.seed,
    }
    settings, runtime = with_addresses(build(SimulationSettings, given), runtime)
    return JudgedReward(path, settings, _personas(source), source, str(data), runtime, chosen.lookahead)


def _source(given: str | None, data: Path) -> str:
    """Where the personas are; ConfigError if nothing says it."""
    if given is not None:
        return given
    file = (origin_of(data) or Origin()).file
    if file is None or not file.is_file():
        where = f"its data card names {file}, which is not there" if file else "there is no data card beside it"
        raise ConfigError(
            f"{data} names personas by their ids, and {where}; name the run file the rows come from, or the file of "
            "its personas, with --personas"
        )
    return str(file)


def _personas(source: str) -> Mapping[str, Persona]:
    """By id, those of a run file, a persona file, or the shipped pool."""
    if source not in SHIPPED and is_database(Path(source)):
        with Store.open(Path(source)) as store:
            return store.personas()
    if source == "world":
        raise ConfigError("--personas world: the world's personas are made for a run; name the run file of the rows")
    return {persona.id: persona for persona in load_personas(source, split="train", n=0, seed=0)}
