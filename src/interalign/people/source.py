"""Where the personas of a run come from: the embedded world, the shipped pool, or a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from interalign.errors import ConfigError
from interalign.people.pool import aloe_cases, people, source_identity
from interalign.personas import Persona, content_hash, parse_personas

SHIPPED: Final = ("people", "aloe")


def load_personas(source: str, *, split: Literal["train", "heldout"], n: int, seed: int) -> Sequence[Persona]:
    """The personas that `source` names.

    `world`: n personas of the embedded world. `people`: the 3,510 training personas of the shipped pool, for
    simulations. `aloe`: its 100 held-out cases, for evaluations. Anything else: the JSON lines file of that name, all
    of it. Raises ConfigError for a file that cannot be read, and for the shipped pool on the wrong side of the split.
    """
    if source == "world":
        from interalign.models.world import WorldPersonas

        return WorldPersonas(split, n, seed, per_profile=5 if split == "heldout" else 1)
    if source in SHIPPED:
        return _shipped(source, split, seed)
    return read_personas(Path(source))


def read_personas(path: Path) -> tuple[Persona, ...]:
    """The personas of a JSON lines file; ConfigError if it cannot be read, DataError for a bad row."""
    try:
        with path.open(encoding="utf-8-sig") as lines:  # some editors put a mark before the first line
            return parse_personas(lines, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); give a JSON lines file, `people` (`aloe` for --cases), or `world`"
        ) from None


def persona_source(given: str, personas: Sequence[Persona]) -> str:
    """What a run keeps of where its personas come from: a file may move, but another persona in it is another run."""
    if given == "world":
        return given
    if given in SHIPPED:
        return source_identity(given)
    return f"sha256:{content_hash(personas)}"


def _shipped(source: str, split: Literal["train", "heldout"], seed: int) -> tuple[Persona, ...]:
    if (source == "people") != (split == "train"):
        raise ConfigError(
            "the personas `people` are for `simulate --personas`, and the cases `aloe`, held out from them, for "
            "`evaluate --cases`; a file of your own can be given to both"
        )
    return people(seed) if source == "people" else aloe_cases()
