"""The command that goes on from a message: `interalign simulate RUN.db --from TREE:NODE` with the run's settings."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final

from interalign.config import WORDING, CandidateSpec, SeatParameters, SimulationSettings
from interalign.config.option import options_of
from interalign.eval.safe_text import shown
from interalign.records import RunRecord
from interalign.store import Store
from interalign.store.branches import branch_name
from interalign.tree import Node

_ALONE: Final = {"inducer": "none", "branch": 1, "judging": "score"}
"""What an evaluation does in words of a simulation: one reply a turn, without notes, and a score for it."""
_IN_FILES: Final = {"own_prompts": "--prompts DIR", "rubric": "--rubric FILE"}
"""Settings of which the run keeps the text, and the option that reads it from a file."""
_TO_NAME: Final = {"user": "MODEL", "candidate": ["MODEL"], "judge": "MODEL"}
"""Seats of a run that has none yet."""


def command_from(store: Store, tree: str, node: Node, persona: str) -> str | None:
    """The command that grows one more tree from this message, under the settings that the run was begun with.

    In the run's own file where that is possible, else in a fork: of an evaluation, of a shard, or where the
    conversation has all turns of the run already. Words in capitals stand for files, and models, that only the user
    knows. None without a run, and for names that a terminal would not show.
    """
    run, path = store.run, _from_here(store.path)
    if run is None or run.kind == "personas":
        return None
    begun = _settings(run, store, tree)
    first_turn = node.turn + (node.role == "assistant")
    turns = int(begun.get("turns", SimulationSettings().turns))
    part, spec = store.part, f"{tree}:{node.id}"
    forks = run.kind == "evaluation" or first_turn > turns or (part is not None and part.shard is not None)
    begins_as_an_option = "=" if spec.startswith("-") else " "
    words = ["interalign simulate", _word(str(path)), f"--from{begins_as_an_option}{_word(spec)}"]
    words += [f"--fork {_word(_fork(path, spec))}"] if forks else []
    words += [f"--trees {1 if forks else 1 + _branches(store, spec)}"]
    words += _options({**begun, "turns": max(turns, first_turn)})
    words += [] if store.find_persona(persona) is not None else ["--personas FILE"]
    command = " ".join(words)
    return command if shown(command) == command else None


def _word(text: str) -> str:
    return shlex.quote(text)


def _from_here(path: Path) -> Path:
    """The path as it is short: from the folder that the viewer was started in, if the file is in it."""
    try:
        return path.relative_to(Path.cwd().resolve())
    except ValueError:
        return path


def _settings(run: RunRecord, store: Store, tree: str) -> Mapping[str, Any]:
    """The settings that trees of this run are grown with, as far as the file says them."""
    if run.kind == "import":
        return run.grown_with or _TO_NAME
    if run.kind == "simulation":
        return run.identity
    record = store.tree_record(tree)
    candidates = run.begun_with.candidate
    mine = [each for each in candidates if record is None or each["name"] == record.candidate]
    return {**run.identity, **_ALONE, "candidate": mine or candidates}


def _branches(store: Store, spec: str) -> int:
    """Trees that begin here already."""
    return next(number for number in count() if store.tree_record(branch_name(spec, number)) is None)


def _fork(path: Path, spec: str) -> str:
    """A name beside the run that no file has."""
    stem = f"{path.stem}-{re.sub(r'[^A-Za-z0-9]+', '-', spec).strip('-')}"[:80]
    names = (path.with_name(f"{stem}{'' if number == 1 else f'-{number}'}.db") for number in count(1))
    return str(next(name for name in names if not os.path.lexists(name)))


def _options(begun: Mapping[str, Any]) -> Iterator[str]:
    """The settings that are not the default, as options."""
    usual = SimulationSettings().model_dump(mode="json")
    for name, _, option in options_of(SimulationSettings):
        if name in (*WORDING, "personas") or begun.get(name, usual[name]) == usual[name]:
            continue
        values = begun[name] if isinstance(begun[name], list | tuple) else [begun[name]]
        yield from (f"{option.name or f'--{name}'} {_word(_as_option(value))}" for value in values)
    if system := begun.get("system"):
        yield f"--system {_word(f'@{system}' if system.startswith('@') else system)}"
    yield from (option for name, option in _IN_FILES.items() if begun.get(name))
    if _needs_a_file(begun):
        yield "--config FILE.yaml"


def _as_option(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    name, model = value["name"], value["model"]
    return model if CandidateSpec.parse(model).name == name else f"{name}={model}"


def _needs_a_file(begun: Mapping[str, Any]) -> bool:
    """Whether the run has settings that only a configuration file can give."""
    own = SeatParameters.model_validate(begun.get("parameters", {})) != SeatParameters()
    return own or bool(begun.get("hooks")) or begun.get("end_mark") is not None
