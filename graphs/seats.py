"""From the settings of a run to the roles in their seats."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from interalign.agents.plugin import RecordedHook
from interalign.agents.protocols import Candidate, Hook, Inducer, Judge, UserRole
from interalign.agents.registry import Kind, Role, load_hook, seat_role
from interalign.agents.reply_text import clean_reply
from interalign.agents.templates import PromptSet
from interalign.config import EvaluationSettings, HookPoint, RunSettings, SimulationSettings
from interalign.errors import BadContentError, ConfigError
from interalign.graphs.evaluation import evaluation_seats
from interalign.graphs.turn import Seats
from interalign.ledger import Calls
from interalign.models.base import ChatModel, Parameters

Resolve = Callable[[str], ChatModel]


class Seating:
    """Finds and builds the roles that settings name; ConfigError for one that is not there."""

    def __init__(self, settings: RunSettings, ledger: Calls, resolve: Resolve, prompts: PromptSet) -> None:
        _refuse_lost_mark(settings.end_mark)
        self._settings = settings
        self._ledger = ledger
        self._resolve = resolve
        self._prompts = prompts

    def role(self, kind: Kind, spec: str) -> Role:
        """The role of this kind behind a model or plug-in name."""
        parameters: Parameters = getattr(self._settings.parameters, kind)
        return seat_role(kind, spec, parameters, self._ledger, self._resolve, self._prompts)

    def hooks(self) -> Mapping[HookPoint, Sequence[tuple[str, Hook]]]:
        """The plug-ins at each point of the turn graph, by name."""
        return {
            point: [(spec, RecordedHook(point, spec, load_hook(spec), self._ledger, self._resolve)) for spec in specs]
            for point, specs in self._settings.hooks.items()
        }

    def users(self) -> list[UserRole]:
        """Who plays the persona, in order."""
        return [cast(UserRole, self.role("user", spec)) for spec in self._settings.users]

    def judges(self) -> dict[str, Judge]:
        """The judges by name, in order."""
        return {spec: cast(Judge, self.role("judge", spec)) for spec in self._settings.judges}

    def candidates(self) -> dict[str, Candidate]:
        """The candidates by name, in order."""
        return {spec.name: cast(Candidate, self.role("candidate", spec.model)) for spec in self._settings.candidate}


def _refuse_lost_mark(mark: str | None) -> None:
    """ConfigError for an end mark that would be cut off messages, as a token of a chat template is."""
    if mark is not None and not (_stays(mark) and _stays(f"Bye {mark} now")):
        raise ConfigError(
            f"end_mark {mark!r} is cut off messages like a token of a chat template; use one such as [END]"
        )


def _stays(message: str) -> bool:
    try:
        return clean_reply(message, "user") == message
    except BadContentError:
        return False


def simulation_seats(settings: SimulationSettings, ledger: Calls, resolve: Resolve, prompts: PromptSet) -> Seats:
    """The seats of a simulation."""
    seating = Seating(settings, ledger, resolve, prompts)
    inducer = None if settings.inducer == "none" else cast(Inducer, seating.role("inducer", settings.inducer))
    return Seats(
        user=seating.users()[0],
        candidates=seating.candidates(),
        inducer=inducer,
        judges=seating.judges(),
        judging=settings.judging,
        aspects=settings.aspects,
        branch=settings.branch,
        hooks=seating.hooks(),
        system=prompts.system,
        checks_notes=prompts.checks_notes,
        hint_wording=prompts.render("candidate_hint", message="", hint=""),
    )


def all_evaluation_seats(
    settings: EvaluationSettings, ledger: Calls, resolve: Resolve, prompts: PromptSet
) -> dict[tuple[str, int], Seats]:
    """The seats of an evaluation by candidate's name and number of the user, from 1."""
    seating = Seating(settings, ledger, resolve, prompts)
    users, judges, hooks = seating.users(), seating.judges(), seating.hooks()
    return {
        (name, number): evaluation_seats(user, name, candidate, judges, hooks, prompts.system, aspects=settings.aspects)
        for name, candidate in seating.candidates().items()
        for number, user in enumerate(users, start=1)
    }
