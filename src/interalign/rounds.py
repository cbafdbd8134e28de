"""On-policy rounds: simulate with the current model, judge, export, train, evaluate on held-out personas, again.

One folder holds everything: `round-0/eval.db` measures the model to begin with, `round-R/` has that round's trees
(`run.db`), rows (`rows.jsonl`), model (`model/`) and evaluation (`eval.db`), `rounds.json` what came out so far. Every
step resumes by itself, so the same call goes on where it stopped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from interalign import api
from interalign.config import (
    CandidateSpec,
    EngineSettings,
    RoundsSettings,
    Runtime,
    SimulationSettings,
    build,
    read_settings,
)
from interalign.config.rounds_settings import POLICY, as_hf
from interalign.config.settings import WORDING
from interalign.errors import ConfigError, StopError
from interalign.eval.intervals import Interval
from interalign.eval.results import CandidateScores, candidate_result, candidate_scores, comparisons
from interalign.eval.run_report import scored_cases
from interalign.files import refuse_folder, refuse_shared, sha256, write_atomically
from interalign.model_spec import ModelSpec
from interalign.people import load_personas
from interalign.personas import Persona, dump_personas
from interalign.steps import Advance, Step, calls_made, growing, training
from interalign.store import Store
from interalign.store.lease_file import refuse_no_lease_file
from interalign.training.method import method_called
from interalign.training.model_kinds import LANGUAGE_MODEL

RECORD = "rounds.json"
_OF_SOURCES = ("world", "people")
"""Sources that draw other personas for every seed; a file's are taken in turn."""
_MAY_CHANGE = {"rounds", "patience", "candidate", "shard", "workers", "engine"}


class Round(NamedTuple):
    """What a round came to, on the held-out cases."""

    number: int
    """0 is the model to begin with."""
    model: str
    rows: int
    """Training rows of this round."""
    al_mean: float | None
    al_ci: Interval | None
    ir: float | None
    ir_ci: Interval | None
    against: int | None = None
    """The best round before this one."""
    delta: float | None = None
    """Mean AL of this round minus that of `against`, paired by case."""
    delta_ci: Interval | None = None

    @property
    def rose(self) -> bool:
        """Whether the interval of the rise lies above 0."""
        return self.delta_ci is not None and self.delta_ci[0] > 0


class Rounds:
    """The rounds in one folder."""

    def __init__(
        self, out: Path | str, *, config: Path | str | None = None, runtime: Runtime | None = None, **settings: Any
    ) -> None:
        """`settings` are the fields of RoundsSettings and of Runtime, and win over those in the YAML file `config`.

        Raises ConfigError for settings that cannot work, or differ from those the folder was begun with.
        """
        file = Path(config) if config else None
        given = {**(read_settings(file) if file else {}), **settings}
        self.out = Path(out)
        self.settings = build(
            RoundsSettings,
            {name: value for name, value in given.items() if name not in Runtime.model_fields},
            file,
            given.keys() - settings.keys(),
        )
        self._how: dict[str, Any] = {name: value for name, value in given.items() if name in Runtime.model_fields}
        self._runtime = runtime
        if method_called(self.settings.method).kind is not LANGUAGE_MODEL:
            raise ConfigError(f"--method {self.settings.method} makes no model that talks; rounds need one that does")
        refuse_folder(self.out, inputs=[file, *self._inputs()])
        self._share_limits(file)
        self._refuse_other_settings()

    def _share_limits(self, file: Path | None) -> None:
        """Let --max-usd and --max-tokens hold for all runs of the folder together, by a file in it or the one named."""
        budget = self._how.get("budget")
        if budget is not None:
            refuse_no_lease_file(Path(budget))
            refuse_shared([Path(budget), self.out], inputs=[file, *self._inputs()])
        elif any(self._how.get(limit) is not None for limit in ("max_usd", "max_tokens")):
            self._how["budget"] = str(self.out / "rounds.budget")

    def _inputs(self) -> list[str | None]:
        """What is read, and so cannot be the folder."""
        chosen, prices = self.settings, self._how.get("prices")
        system = chosen.system or ""
        return [
            ModelSpec.parse(as_hf(chosen.model)).name,
            *(chosen.personas, chosen.cases, chosen.prompts, chosen.rubric, chosen.train_config),
            system[1:] if system.startswith("@") else None,
            str(prices) if isinstance(prices, str | Path) else None,
        ]

    # What is done ---------------------------------------------------------------------------------

    def steps(self) -> Iterator[Step]:
        """All steps in order, until held-out AL no longer rises or the rounds are over."""
        self.out.mkdir(parents=True, exist_ok=True)
        self._write([], "")
        yield Step("round 0: the model to begin with, on held-out cases", lambda advance: self._evaluate(0, advance))
        for number in range(1, self.settings.rounds + 1):
            yield Step(
                f"round {number}: trees grown by the current model",
                lambda advance, number=number: self._simulate(number, advance),  # type: ignore[misc]
            )
            yield Step(
                f"round {number}: {self.settings.method.upper()}",
                lambda advance, number=number: self._train(number, advance),  # type: ignore[misc]
            )
            yield Step(
                f"round {number}: held-out cases",
                lambda advance, number=number: self._evaluate(number, advance),  # type: ignore[misc]
            )
            if reason := self.stopped():
                self._write(self.results(), reason)
                return

    def stopped(self) -> str:
        """Why no further round is made; empty while there are rounds to come."""
        results = self.results()
        since_best = results[-1].number - best(results).number
        if since_best >= self.settings.patience:
            fell = results[-1]
            return (
                f"no rise in round {fell.number}: mean AL {fell.delta:+.2f} "
                f"[{fell.delta_ci[0]:+.2f}, {fell.delta_ci[1]:+.2f}] against round {fell.against}"
                if fell.delta is not None and fell.delta_ci is not None
                else f"round {fell.number} cannot be compared: too few cases have scores"
            )
        if results[-1].number == self.settings.rounds:
            return f"all {self.settings.rounds} rounds were made, and the last one rose; more --rounds go on"
        return ""

    def results(self) -> list[Round]:
        """The rounds that were measured, each compared with the best one before it."""
        found: list[Round] = []
        scores: dict[int, CandidateScores] = {}
        for number in range(self.settings.rounds + 1):
            mine = self._scores(number)
            if mine is None:
                break
            scores[number] = mine
            found.append(self._round(number, scores, best(found).number if found else None))
        return found

    def _round(self, number: int, scores: Mapping[int, CandidateScores], against: int | None) -> Round:
        of = candidate_result(scores[number])
        round_ = Round(
            number, self.model(number), self._rows(number), of.al_mean, of.al_ci, of.ir, of.ir_ci, against=against
        )
        if against is None:
            return round_
        named = [scores[each].model_copy(update={"name": str(each)}) for each in (number, against)]
        [difference] = comparisons(named)
        return round_._replace(delta=difference.delta_al, delta_ci=difference.ci)

    @property
    def engine(self) -> dict[str, Any]:
        """Which processes share the work of each simulation and evaluation: what was asked for, the rest by default."""
        return self.settings.model_dump(include=set(EngineSettings.model_fields), exclude_unset=True)

    # The steps ------------------------------------------------------------------------------------

    def _simulate(self, number: int, advance: Advance) -> str:
        personas = self._personas(number)
        own = SimulationSettings.model_fields.keys() - EngineSettings.model_fields.keys()
        fields = {name: getattr(self.settings, name) for name in own} | self.engine
        run = api.simulate(
            self.folder(number) / "run.db",
            runtime=self._runtime,
            progress=growing(advance),
            **{
                **fields,
                "personas": personas,
                "seed": self.settings.seed + number,
                "candidate": self._candidate(number - 1),
                **self._how,
            },
        )
        rows = api.export(
            self.folder(number) / "run.db", self.folder(number) / "rows.jsonl", format=self.settings.method
        )
        if not rows:
            why = api.why_empty(self.folder(number) / "run.db", self.settings.method)
            raise StopError(f"round {number} brought no row to train on: {why}")
        return f"{run.done} of {run.trees} trees, {rows:,} rows, by {calls_made(run)}"

    def _train(self, number: int, advance: Advance) -> str:
        config = self.settings.train_config
        result = api.train(
            self.settings.method,
            model=self.model(number - 1),
            data=self.folder(number) / "rows.jsonl",
            out=self.folder(number) / "model",
            config=None if config is None else Path(config),
            **self._scored_by(number),
            drop_too_long=True,  # the rounds should not end for one long talk; the step says how many were left out
            progress=training(advance),
        )
        return str(result)

    def _scored_by(self, number: int) -> dict[str, Any]:
        """Who scores what the training samples, if the method samples anything: the judge of the rounds."""
        if not method_called(self.settings.method).scored:
            return {}
        chosen = {name: getattr(self.settings, name) for name in ("judge", "prompts", "rubric", "seed")}
        return {**chosen, "personas": self.folder(number) / "run.db", "runtime": self._runtime, **self._how}

    def _evaluate(self, number: int, advance: Advance) -> str:
        shared = (
            "turns",
            "user",
            "judge",
            "seed",
            "prompts",
            "rubric",
            "system",
            "end_mark",
            "cases",
            "limit",
        )
        run = api.evaluate(
            self.folder(number) / "eval.db",
            runtime=self._runtime,
            progress=growing(advance),
            **{
                **{name: getattr(self.settings, name) for name in shared},
                "parameters": self.settings.parameters,
                "candidate": self._candidate(number),
                **self.engine,
                **self._how,
            },
        )
        results = self.results()
        self._write(results, "")
        return f"{line(results[-1])}, by {calls_made(run)}"

    # Where things are -----------------------------------------------------------------------------

    def folder(self, number: int) -> Path:
        """The folder of a round; it is there."""
        folder = self.out / f"round-{number}"
        folder.mkdir(exist_ok=True)
        return folder

    def model(self, number: int) -> str:
        """The folder of the model that a round ended with, or the hub id of the one to begin with."""
        return (
            str(self.out / f"round-{number}" / "model") if number else ModelSpec.parse(as_hf(self.settings.model)).name
        )

    def _candidate(self, number: int) -> list[CandidateSpec]:
        """The model of a round in the candidate's seat, served as `model` says."""
        spec = ModelSpec.parse(as_hf(self.settings.model))
        query = "&".join(filter(None, (spec.query, spec.engine)))
        return [CandidateSpec(name=POLICY, model=f"hf:{self.model(number)}{'?' if query else ''}{query}")]

    def _personas(self, number: int) -> str:
        """Where this round's personas come from: none of a file is met twice before all were met.

        Raises ConfigError if somebody of the held-out cases is among them.
        """
        source, seed, trees = self.settings.personas, self.settings.seed, self.settings.trees
        everyone = load_personas(source, split="train", n=trees, seed=seed + number)
        cases = load_personas(self.settings.cases, split="heldout", n=self.settings.limit or 100, seed=seed)
        held_out = {case.profile for case in cases}
        if met := [persona.id for persona in everyone if persona.profile in held_out]:
            raise ConfigError(
                f"{len(met)} of the personas to train on are among the held-out cases ({met[0]} is the first); "
                "divide them with `interalign personas split`"
            )
        if source in _OF_SOURCES:
            return source
        file = self.folder(number) / "personas.jsonl"
        write_atomically(file, dump_personas(_in_turn(everyone, (number - 1) * trees, trees)))
        return str(file)

    def _rows(self, number: int) -> int:
        rows = self.out / f"round-{number}" / "rows.jsonl"
        if not rows.exists():
            return 0
        with rows.open("rb") as lines:
            return sum(1 for _ in lines)

    def _scores(self, number: int) -> CandidateScores | None:
        """The scores of a round on the held-out cases; None before its evaluation is finished."""
        file = self.out / f"round-{number}" / "eval.db"
        return finished_scores(file) if file.exists() else None

    # The record -----------------------------------------------------------------------------------

    def _identity(self) -> dict[str, JsonValue]:
        """What must not change between calls; wordings are those of the runs themselves, which hold them."""
        config = self.settings.train_config
        return {
            **self.settings.model_dump(mode="json", exclude={*_MAY_CHANGE, *WORDING, "train_config"}),
            "train_config": None if config is None else sha256(Path(config)),
        }

    def _refuse_other_settings(self) -> None:
        record = self.out / RECORD
        if not record.exists():
            return
        begun = json.loads(record.read_text())["settings"]
        changed = sorted(name for name, value in self._identity().items() if begun.get(name) != value)
        if changed:
            raise ConfigError(
                f"{self.out} was begun with other settings ({', '.join(changed)}); restore them, or name another folder"
            )

    def _write(self, results: Sequence[Round], reason: str) -> None:
        """The record; written at the beginning, so that a folder belongs to its settings, and after every round."""
        if not results:
            results = self.results()
        held = {
            "settings": self._identity(),
            "rounds": [each._asdict() for each in results],
            "best": self.model(best(results).number) if results else None,
            "stopped": reason or None,
        }
        write_atomically(self.out / RECORD, [json.dumps(held, indent=2) + "\n"])


def finished_scores(run: Path) -> CandidateScores | None:
    """The scores of the one candidate of an evaluation; None before all its conversations have ended."""
    with Store.open(run) as store:
        if store.run is None or store.count_trees().get("planned", 0):
            return None
        [scores] = candidate_scores(scored_cases(store), store.run.begun_with.turns, store.newest_judge())
        return scores


def best(results: Sequence[Round]) -> Round:
    """The last round that rose above the best one before it; the first one if none did."""
    return next((each for each in reversed(results) if each.rose), results[0])


def line(result: Round) -> str:
    """What a round came to, in one line."""
    said = f"mean AL {_figure(result.al_mean, result.al_ci, 2)}, IR {_figure(result.ir, result.ir_ci, 3)}"
    if result.delta is None:
        return said
    return f"{said}, against round {result.against} {_figure(result.delta, result.delta_ci, 2, '+')}"


def _figure(value: float | None, interval: Interval | None, digits: int, sign: str = "") -> str:
    if value is None:
        return "-"
    ends = "" if interval is None else f" [{interval[0]:{sign}.{digits}f}, {interval[1]:{sign}.{digits}f}]"
    return f"{value:{sign}.{digits}f}{ends}"


def _in_turn(personas: Sequence[Persona], first: int, count: int) -> list[Persona]:
    """So many personas from this place on, beginning again at the end, each once at most."""
    return [personas[(first + index) % len(personas)] for index in range(min(count, len(personas)))]
