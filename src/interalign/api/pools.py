"""Persona files: generated, imported, filtered, split, measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interalign.api.resolve import run_async
from interalign.config import (
    PersonaSettings,
    Runtime,
    as_runtime,
    build,
)
from interalign.errors import ConfigError
from interalign.files import is_stream, refuse_outputs, write_atomically
from interalign.model_spec import ModelSpec
from interalign.people import load_personas
from interalign.personas import Persona, dump_personas
from interalign.records import Progress

if TYPE_CHECKING:
    from interalign.diversity import Diversity
    from interalign.people.importing import Imported
    from interalign.people.split import SplitPool
    from interalign.run.dry_run import Estimate
    from interalign.run.generation import GeneratedPool


def personas_generate(out: Path | str, *, n: int, heldout: bool, seed: int) -> int:
    """Write `n` personas of the embedded world; number written."""
    refuse_outputs([out])
    personas = load_personas("world", split="heldout" if heldout else "train", n=n, seed=seed)
    return _write_personas(Path(out), personas)


def personas_by_model(
    out: Path | str,
    *,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> "GeneratedPool":
    """Have a model write personas by self-generation and keep those that are different enough; what came of it.

    `settings` are the fields of PersonaSettings, of which `model` must be given. Every call is kept in the run file
    `OUT.db`; the same call again goes on where it stopped, and one for more personas begins with the same. Raises
    ConfigError for settings that cannot work or differ from those it was begun with, StopError when it stopped cleanly.
    """
    from interalign.people.seeds import read_seeds
    from interalign.run.generation import run_generation

    chosen, runtime = _persona_settings(out, settings, runtime)
    seeds = read_seeds(chosen.seeds, chosen.seed)
    found = run_async(run_generation(calls_of_pool(out), chosen, seeds, runtime, progress))
    _write_personas(Path(out), found.personas)
    return found


def personas_estimate(out: Path | str, *, runtime: Runtime | None = None, **settings: Any) -> "Estimate":
    """What `personas_by_model` with the same arguments is expected to take; nothing is asked and nothing is written."""
    from interalign.people.seeds import read_seeds
    from interalign.run.generation_dry_run import estimate_generation

    chosen, runtime = _persona_settings(out, settings, runtime)
    seeds = read_seeds(chosen.seeds, chosen.seed)
    return run_async(estimate_generation(calls_of_pool(out), chosen, seeds, runtime))


def calls_of_pool(out: Path | str) -> Path:
    """The run file beside a generated pool: `people.jsonl.db` beside `people.jsonl`."""
    return Path(out).with_name(Path(out).name + ".db")


def _persona_settings(
    out: Path | str, settings: Mapping[str, Any], runtime: Runtime | None
) -> tuple[PersonaSettings, Runtime]:
    """The settings with the model's bare name; how it is reached or run goes into the runtime."""
    chosen = build(PersonaSettings, settings)
    if is_stream(Path(out)):
        raise ConfigError(f"{out} is no file, and the model's calls are kept in a run file beside it; name a file")
    refuse_outputs([out], inputs=[chosen.seeds])
    spec = ModelSpec.parse(chosen.model)
    runtime = (runtime or Runtime()).model_copy(update=as_runtime([spec]))
    return chosen.model_copy(update={"model": spec.known_as}), runtime


def personas_import(
    file: Path | str,
    out: Path | str,
    *,
    format: str = "auto",  # noqa: A002  (the option's name)
    columns: Sequence[str] = (),
    personalities: Path | str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
) -> "Imported":
    """Read personas in any format of `registries.PERSONA_FORMATS` and write them in ours; what became of the rows.

    `columns` such as `profile=COLUMN` read the columns of a table; `personalities` is `people` or a file from which
    one is drawn for each persona that has none. Raises DataError that names the bad rows, unless `skip_bad`.
    """
    from interalign.people.importing import import_personas

    pool = None if personalities is None else str(personalities)
    refuse_outputs([out], inputs=[file, None if pool == "people" else pool])
    found = import_personas(Path(file), format=format, columns=columns, pool=pool, seed=seed, skip_bad=skip_bad)
    _write_personas(Path(out), found.personas)
    return found


def personas_filter(
    file: Path | str,
    out: Path | str,
    *,
    threshold: float = 0.6,
    embedding: str = "tfidf",
    add_to: Path | str | None = None,
) -> "Diversity":
    """Write the personas of `file` without near-repeats of a profile; what was kept, and by which measure.

    With `add_to` they are written behind the personas of that pool, and only they are compared: with the pool and with
    each other.
    """
    from interalign.diversity import diverse

    refuse_outputs([out], inputs=[file, None if add_to in ("people", "aloe") else add_to])
    found = diverse(_pool(file), threshold, embedding, () if add_to is None else _pool(add_to))
    _write_personas(Path(out), found.kept)
    return found


def personas_split(
    file: Path | str,
    train_out: Path | str,
    heldout_out: Path | str,
    *,
    share: float,
    seed: int,
    max_similarity: float | None = None,
    embedding: str = "tfidf",
) -> "SplitPool":
    """Hold out about `share` of the profiles, each by a hash of `seed` and its facts; who is on which side.

    A profile stays on its side when others are added. With `max_similarity` training personas whose profile is closer
    to a held-out one are left out, and counted.
    """
    from interalign.people.split import split_pool

    refuse_outputs([train_out, heldout_out], inputs=[file])
    found = split_pool(_pool(file), share, seed, max_similarity, embedding)
    _write_personas(Path(train_out), found.train)
    _write_personas(Path(heldout_out), found.heldout)
    return found


def personas_stats(file: Path | str, *, threshold: float = 0.6, embedding: str = "tfidf") -> dict[str, Any]:
    """Sizes of a persona pool and how different its profiles are; `people` is the shipped one, `aloe` its cases."""
    from interalign.people.stats import pool_stats

    return pool_stats(str(file), _pool(file), threshold, embedding)


def _pool(file: Path | str) -> Sequence[Persona]:
    """The personas of a file, or those that ship."""
    return load_personas(str(file), split="heldout" if str(file) == "aloe" else "train", n=0, seed=0)


def _write_personas(out: Path, personas: Sequence[Persona]) -> int:
    write_atomically(out, dump_personas(personas))
    return len(personas)
