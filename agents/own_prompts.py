"""The user's own wording: `--prompts DIR`, `--rubric FILE`, `--system TEXT|@FILE`, read and checked before anything is
asked."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from jinja2 import TemplateSyntaxError

from interalign.agents.templates import (
    PromptSet,
    builtin_prompts,
    environment,
    prompt_versions,
    prompts_of,
    variables_of,
)
from interalign.config import PersonaSettings, RunSettings, SimulationSettings
from interalign.errors import ConfigError, did_you_mean
from interalign.model_spec import ModelSpec
from interalign.personas import Persona
from interalign.records import BegunWith

_LOG = logging.getLogger("interalign")
_JUDGING: Final = {
    "judge_compare": "Verdict:",
    "judge_score": "Score:",
    "judge_aspects": "Score:",
    "judge_list": "Ranking:",
}
"""The judge's prompts, and how the line begins that an answer has to end with."""
_PERSONA: Final = Persona(id="sample", profile=("I keep bees.",), personality="Dry and short.")


def read_prompts(settings: RunSettings, recorded: Mapping[str, str] | None) -> PromptSet:
    """The prompts of a run with these settings, checked; `recorded`: the hashes it was begun with, None for a new run.

    Raises ConfigError for a file that cannot be read or filled in, or that a role of the embedded world would not
    understand. A prompt that leaves out what it should show is told in a warning.
    """
    own = {} if settings.prompts is None else _read_folder(Path(settings.prompts))
    rubric = None if settings.rubric is None else _text(Path(settings.rubric), "--rubric").removesuffix("\n")
    system = None if settings.system is None else _system(settings.system)
    prompts = prompts_of(recorded, own=own, rubric=rubric, system=system, asked_for=asked_for(settings))
    for name in prompts.own:
        _check(Path(str(settings.prompts), f"{name}.jinja"), name, prompts)
    refuse_world(prompts, settings)
    return prompts


def asked_for(settings: RunSettings) -> tuple[str, ...]:
    """The prompts that only these settings use, of those that a run uses if its settings ask for them."""
    if settings.aspects:
        return ("judge_aspects", "again_aspects")
    lists = isinstance(settings, SimulationSettings) and settings.judging == "list"
    return ("judge_list", "again_list") if lists else ()


def persona_prompts(settings: PersonaSettings, recorded: Mapping[str, str] | None) -> PromptSet:
    """The prompts that ask for personas, checked; as `read_prompts`."""
    own = {} if settings.prompts is None else _read_folder(Path(settings.prompts))
    prompts = prompts_of(recorded, own=own)
    for name in prompts.own:
        _check(Path(str(settings.prompts), f"{name}.jinja"), name, prompts)
    if ModelSpec.parse(settings.model).is_world and any(name.startswith("persona_") for name in own):
        raise ConfigError(f"--prompts: {settings.model} reads the built-in wording only; name another --model")
    return prompts


def recorded_prompts(run: BegunWith | None) -> PromptSet:
    """The prompts a run was begun with, the user's own included; the newest for a new run (None)."""
    if run is None:
        return prompts_of(None)
    return prompts_of(run.prompts, own=run.own_prompts, rubric=run.rubric, system=run.system)


def refuse_world(prompts: PromptSet, settings: RunSettings) -> None:
    """ConfigError for a role of the embedded world whose prompts have other words: it reads the built-in ones only."""
    seats = [*(("user", user) for user in settings.users), *(("judge", judge) for judge in settings.judges)]
    seats += [("candidate", candidate.model) for candidate in settings.candidate]
    if isinstance(settings, SimulationSettings):
        seats.append(("inducer", settings.inducer))
    for seat, spec in seats:
        mine = [name for name in prompts.own if name.partition("_")[0] == seat]
        if ModelSpec.parse(spec).is_world and (mine or (seat == "judge" and prompts.rubric)):
            option = f"--prompts with {mine[0]}.jinja" if mine else "--rubric"
            raise ConfigError(f"{option}: {spec} reads the built-in wording only; name another model for --{seat}")


def _read_folder(folder: Path) -> dict[str, str]:
    """Prompt name -> text of every file in the folder; hidden files are passed over."""
    if not folder.is_dir():
        raise ConfigError(f"--prompts {folder}: no such folder; give one with {_known_files()}")
    names = builtin_prompts().sources
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    for file in files:
        if file.suffix != ".jinja" or file.stem not in names:
            near = did_you_mean(file.name, (f"{name}.jinja" for name in names))
            raise ConfigError(f"--prompts {folder}: {file.name!r} is no prompt; there are {_known_files()}{near}")
    if not files:
        raise ConfigError(f"--prompts {folder}: nothing in it; there are {_known_files()}")
    return {file.stem: _text(file, "--prompts") for file in files}


def _known_files() -> str:
    return ", ".join(f"{name}.jinja" for name in builtin_prompts().sources)


def _text(file: Path, option: str) -> str:
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors put a mark before the first line
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{option} {file}: cannot be read as UTF-8 text ({error})") from None
    if not text.strip():
        raise ConfigError(f"{option} {file}: is empty; write a text into it, or leave the option out")
    return text


def _system(given: str) -> str:
    """The text itself, or of `@FILE` that of the file; `@@` begins a text that begins with `@`."""
    if given.startswith("@@"):
        return given[1:]
    text = _text(Path(given[1:]), "--system").removesuffix("\n") if given.startswith("@") else given
    if not text.strip():
        raise ConfigError("--system: is empty; write a text, or leave the option out")
    return text


def _check(file: Path, name: str, prompts: PromptSet) -> None:
    """ConfigError for a prompt that cannot be filled in; a warning for one that leaves out what it should show."""
    option = f"--prompts {file}"
    try:
        used = variables_of(prompts.own[name])
    except TemplateSyntaxError as error:
        raise ConfigError(f"{option}: line {error.lineno}: {' '.join(str(error.message).split())}") from None
    versions = shown_by_version(name)
    given = set[str]().union(*versions, ["rubric"] if name in _JUDGING else [])
    # What jinja2 itself brings, `range` say, is in its environment.
    if unknown := sorted(used - given - environment().globals.keys()):
        there = ", ".join(sorted(given)) or "no variable at all"
        raise ConfigError(
            f"{option}: there is no {unknown[0]!r}; this prompt is given {there}{did_you_mean(unknown[0], given)}"
        )
    if prompts.rubric is not None and name in _JUDGING and "rubric" not in used:
        raise ConfigError(f"{option}: has no place for the --rubric; write {{{{ rubric | quoted }}}} where it belongs")
    _try(option, name, prompts, given - {"rubric"})
    if left_out := min((sorted(shown - used) for shown in versions), key=len):
        _LOG.warning("%s: does not show %s", option, ", ".join(left_out))
    if (line := _JUDGING.get(name)) and line not in prompts.own[name]:
        _LOG.warning("%s: does not ask for a last line `%s ...`, without which no answer can be read", option, line)


def shown_by_version(name: str) -> list[set[str]]:
    """The variables that each version of a built-in prompt shows, the newest first; `rubric` is left out."""
    versions = (builtin_prompts(each).sources for each in reversed(prompt_versions()))
    return [variables_of(sources[name]) - {"rubric"} for sources in versions if name in sources]


def _try(option: str, name: str, prompts: PromptSet, given: Collection[str]) -> None:
    """Fill the prompt in once: `persona.nmae`, an unknown filter or an included file that is not there end here."""
    try:
        filled = prompts.render(name, **{each: _PERSONA if each == "persona" else "text" for each in given})
    except Exception as error:  # noqa: BLE001  (a template may raise anything)
        raise ConfigError(f"{option}: cannot be filled in ({' '.join(str(error).split())})") from None
    if not filled.strip():
        raise ConfigError(f"{option}: nothing is left of it when it is filled in")
