"""What is on record of a run: calls, usage, trees, the run itself, and how it stands. Frozen values, no behaviour."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cached_property, reduce
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import ConfigDict, JsonValue

from interalign.shard import Shard
from interalign.tree import Frozen, Message


class Reply(Frozen):
    """What a model answered, as received."""

    text: str
    model: str
    """The name the server gives itself, which may differ from the one asked for."""
    finish_reason: str | None = None
    """`stop`, or `length` for a reply that was cut, whatever the server calls it; None if it does not say."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    server: str = ""
    """The address that answered; empty for a model that no server stands behind."""
    sends: int = 1
    """Requests that were sent until this reply came."""


class Place(NamedTuple):
    """Where a call happens: the same question at two places is two independent samples."""

    tree: str
    node: str
    """The node being made; for a judge the nodes it looks at, `a|b`."""
    role: str
    sample: int
    """0 at first; asking again after bad content counts up."""


class AgentRecord(NamedTuple):
    """What is kept of an agent beside its reply, in the same transaction."""

    path: bytes = b""
    """16 bytes for the messages that came before."""
    state: bytes | None = None
    """What it remembers; None for an agent without state."""
    tools: str | None = None
    """The tools that it used and the question of its interrupt, as JSON."""


class Call(Frozen):
    """A reply that is committed."""

    key: str
    """32 hex characters."""
    reply: Reply


class CallRecord(NamedTuple):
    """A call as it lies in the file: where it happened, what was sent, what came back."""

    key: str
    """32 hex characters."""
    place: Place
    asked: str
    """The model or plug-in that was asked."""
    parameters: str
    """The API parameters as JSON; empty for a plug-in."""
    messages: tuple[Message, ...]
    reply: Reply
    error: str | None
    """Why the reply could not be used."""
    began: datetime | None = None
    """When it was first sent, UTC; None for a call of version 0.1.0."""
    seconds: float | None = None
    """From then until the reply was here, further requests included, waiting for a slot not; None as before."""


class Usage(Frozen):
    """What one role has used so far."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    bad: int
    """Replies among `calls` that could not be used."""
    usd: float | None = None
    """What the tokens cost by the price table in use; None without one."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            bad=self.bad + other.bad,
            usd=None if self.usd is None or other.usd is None else self.usd + other.usd,
        )


def by_role(used: Mapping[tuple[str, str], Usage]) -> dict[str, Usage]:
    """The same, summed over the models of each role."""
    sums: dict[str, Usage] = {}
    for (role, _), more in used.items():
        sums[role] = sums[role] + more if role in sums else more
    return sums


class Spent(NamedTuple):
    """Money in USD, and tokens of prompts and replies together."""

    usd: float = 0.0
    tokens: int = 0

    def plus(self, other: "Spent") -> "Spent":
        """The sum of both."""
        return Spent(self.usd + other.usd, self.tokens + other.tokens)

    def minus(self, other: "Spent") -> "Spent":
        """The difference."""
        return Spent(self.usd - other.usd, self.tokens - other.tokens)


def sum_of(amounts: Iterable[Spent]) -> Spent:
    """All of these together."""
    return reduce(Spent.plus, amounts, Spent())


class ReplyCounts(Frozen):
    """What became of the questions to one role, over all calls in the file."""

    asked_again: int = 0
    """Questions that took more than one reply."""
    cut: int = 0
    """Replies that ended at their length limit, and not because the model was done."""


class JudgeAnswers(NamedTuple):
    """What one judge's answers have in common, whatever they are about."""

    asked: int
    missing: int
    pairs: int
    """Comparisons with a readable answer in both orders."""
    agreed: int
    """Of those, how many say the same in both."""
    named: int
    """Answers that name one of the two replies."""
    named_first: int

    @property
    def consistency(self) -> float | None:
        """Share of the pairs whose orders agree; None without any."""
        return self.agreed / self.pairs if self.pairs else None

    @property
    def first(self) -> float | None:
        """Share of the answers that name the reply shown first; None without any."""
        return self.named_first / self.named if self.named else None


class SiblingCounts(Frozen):
    """Replies to one message that are the same."""

    replies: int = 0
    """Replies that have a sibling."""
    identical: int = 0
    """Of those, how many say word by word what an earlier sibling says: nothing can be learnt from them."""


class JudgeCounts(Frozen):
    """What came of the questions to one judge."""

    judge: str
    asked: int
    """Questions: one a score, two a comparison (one an order)."""
    missing: int
    """Those without a readable answer."""


TreeStatus = Literal["planned", "done", "failed"]
RunKind = Literal["simulation", "evaluation", "personas", "import"]
"""`personas`: the calls that wrote a persona pool, a tree a call. `import`: conversations recorded elsewhere."""


class TreeRecord(Frozen):
    """One planned tree of the run."""

    id: str
    """`t0000` in a simulation, `NAME/CASE` in an evaluation."""
    index: int
    """Order of planning; trees are always listed by it."""
    persona: str
    seed: int
    candidate: str | None = None
    """Evaluation: who is measured."""
    case: str | None = None
    """Evaluation: which case."""
    status: TreeStatus = "planned"
    reason: str | None = None
    """Why it failed."""
    attempts: int = 0
    """How often it failed so far."""


class BegunWith(Frozen):
    """What a program has to know of a run's identity. Settings that it does not look at are left out."""

    model_config = ConfigDict(extra="ignore")

    turns: int = 0
    """K; 0 if the identity does not say."""
    user: str | tuple[str, ...] = ()
    judge: str | tuple[str, ...] = ()
    candidate: tuple[dict[str, str], ...] = ()
    repeats: int = 1
    """Conversations of a candidate with a case."""
    personas: str | None = None
    """Where the personas of a simulation come from."""
    prompts: dict[str, str] = {}
    """Hashes of the prompts, by name."""
    own_prompts: dict[str, str] = {}
    """The user's own prompts whole, by name."""
    rubric: str | None = None
    system: str | None = None
    end_mark: str | None = None
    """What the user agent writes to end a talk; None: it cannot."""
    seed: int | None = None

    @property
    def users(self) -> tuple[str, ...]:
        """Who plays the persona, in order; several only in an evaluation."""
        return (self.user,) if isinstance(self.user, str) else self.user

    @property
    def panel(self) -> tuple[str, ...]:
        """The judges of a run that was begun with several; empty for any other."""
        return () if isinstance(self.judge, str) else self.judge


GROWN: Final = "grown"
"""Where the identity of an import holds the settings with which branches were grown in it."""


class RunRecord(Frozen):
    """What the file is a run of."""

    name: str
    kind: RunKind
    identity: dict[str, JsonValue]
    """Every setting that must not change while the run goes on, by name, as in the file: to compare and show."""
    created: str
    """ISO time in UTC."""
    version: str
    """The interalign that started it."""

    @property
    def grown_with(self) -> dict[str, JsonValue] | None:
        """The settings with which branches were grown in an import; None if none were, and for any other run."""
        found = self.identity.get(GROWN) if self.kind == "import" else None
        return found if isinstance(found, dict) else None

    @cached_property
    def begun_with(self) -> BegunWith:
        """The identity, read."""
        if self.kind != "import":
            return BegunWith.model_validate(self.identity)
        own, grown = BegunWith.model_validate(self.identity), BegunWith.model_validate(self.grown_with or {})
        # Each tree of an import has its own system message, among its annotations.
        return grown.model_copy(update={"turns": max(own.turns, grown.turns), "system": None})


def simulated_tree(index: int) -> str:
    """The id of a simulation's tree at this place of the plan."""
    return f"t{index:05}"


def case_under(case: str, number: int) -> str:
    """The id under which the user of this number, from 1, meets a case: `CASE`, then `CASE@2` and so on."""
    return case if number == 1 else f"{case}@{number}"


def split_case(case: str, users: int) -> tuple[str, int]:
    """The case and the number of the user who meets it, in an evaluation with so many users."""
    name, sign, number = case.rpartition("@")
    is_further = sign and number in map(str, range(2, users + 1))
    return (name, int(number)) if is_further else (case, 1)


class RunPart(NamedTuple):
    """What part of a run a file holds."""

    number: int | None
    """Of the shard; None for merged shards, and for a whole run."""
    of: int | None
    """How many shards there are; None if that is not known."""
    trees: int
    """Trees of the whole run."""

    @property
    def shard(self) -> Shard | None:
        """The shard; None for merged shards, and for a whole run."""
        return None if self.number is None or self.of is None else Shard(self.number, self.of)


AUDITED: Final = "audited"
"""Name of the annotation at the first message of a tree that was audited, by who did it, whatever was found."""
FINDING: Final = "finding"
"""Name of the annotation at a user's message: a list of `{"kind", "evidence"}`, by `rules` or by a judge's name."""
CONTROL: Final = "control"
"""Name of the annotation at a reply that was scored again for another persona, by the judge."""
ASPECTS_NOTE: Final = "aspects"
"""Name of the annotation at a reply with the scores of its aspects, by the judge."""


class LabelQuestion(Frozen):
    """A question to put to people: which of two sibling replies suits the user better, or how well one reply does."""

    tree: str
    a: str
    """Node id of the reply, or of the earlier of two siblings."""
    b: str | None
    """Node id of the other one; None where one reply is scored, 1 to 5."""
    probability: float | None = None
    """With which the plan drew this question, 0 to 1; None for one that was not drawn."""

    @property
    def id(self) -> str:
        """The same in every file of the run."""
        return f"{self.tree}:{self.a}" if self.b is None else f"{self.tree}:{self.a}|{self.b}"

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What it asks about."""
        return self.tree, self.a, self.b


class Label(Frozen):
    """What one person answered to one question."""

    tree: str
    a: str
    b: str | None
    who: str
    answer: str
    """`a`, `b` or `tie` of a pair, whatever the order shown; `1` to `5` of a score."""
    first: str
    """Node id of the reply that was shown first, or alone."""
    at: str
    """When, UTC, ISO 8601."""
    instructions: str | None = None
    """The text by which it was to be answered; None if none is on record."""

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What was asked about."""
        return self.tree, self.a, self.b

    @property
    def choice(self) -> str:
        """The answer as it was given: `A` is the reply shown first; a score as it is."""
        if self.b is None or self.answer == "tie":
            return self.answer
        return "A" if (self.answer == "a") == (self.first == self.a) else "B"


class Shortfalls(Frozen):
    """What a run has less of than its number of trees says."""

    judge: JudgeCounts | None
    """Of the judge whose verdicts are meant; None if none was asked."""
    replies: dict[str, ReplyCounts]
    """By role, over all calls in the file."""
    warnings: tuple[str, ...] = ()
    """Reasons to distrust the judge, a sentence each."""

    def __str__(self) -> str:
        """One line; empty if nothing fell short."""
        missing = self.judge is not None and self.judge.missing > 0
        parts = [
            f"{self.judge.missing} of {self.judge.asked} answers of judge {self.judge.judge} are missing"
            if self.judge is not None and missing
            else "",
            _by_role("asked again", {role: count.asked_again for role, count in self.replies.items()}),
            _by_role("cut at the length limit", {role: count.cut for role, count in self.replies.items()}),
        ]
        return "; ".join(part for part in parts if part)


def _by_role(what: str, counts: Mapping[str, int]) -> str:
    said = ", ".join(f"{role} {count:,}" for role, count in counts.items() if count)
    return f"{what}: {said}" if said else ""


class RunSummary(Frozen):
    """How a run stands, or what came of it."""

    run: Path
    trees: int
    done: int
    failed: dict[str, str]
    """Tree id -> why it failed. Running the same command again tries just these again."""
    calls: int
    """Model calls made now; what the ledger already had is not among them."""
    replayed: int
    """Calls answered from the ledger."""
    under_way: float = 0.0
    """How much of the trees being grown is done, in trees: half a tree has half its turns."""
    in_flight: int = 0
    """Calls being answered at this moment."""
    note: str = ""
    """What else there is to say of how it stands, in words."""
    stopping: str | None = None
    """Why no call is begun any more; None while the run goes on."""
    retried: int = 0
    """Requests that were sent again."""
    unread: int = 0
    """Answers of an audit's judge that could not be read."""
    usage: dict[str, Usage] = {}
    """By role, over all calls in the file."""
    shortfalls: Shortfalls | None = None
    """Missing, cut and asked-again values; None while the run is going on."""
    usd: float | None = None
    """What all calls in the file cost; None without a price table."""

    def with_part(self, part: "RunSummary") -> "RunSummary":
        """This with what is done elsewhere for the same run; how many trees there are is known here."""
        roles = self.usage.keys() | part.usage.keys()
        more = {
            "done": self.done + part.done,
            "failed": {**self.failed, **part.failed},
            "calls": self.calls + part.calls,
            "replayed": self.replayed + part.replayed,
            "under_way": self.under_way + part.under_way,
            "in_flight": self.in_flight + part.in_flight,
            "retried": self.retried + part.retried,
            "unread": self.unread + part.unread,
            "usage": {role: self._used(role) + part._used(role) for role in sorted(roles)},
            "usd": None if self.usd is None or part.usd is None else self.usd + part.usd,
        }
        return self.model_copy(update=more)

    def _used(self, role: str) -> Usage:
        return self.usage.get(role, Usage(calls=0, prompt_tokens=0, completion_tokens=0, bad=0, usd=0.0))

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Why trees failed: reason -> their ids, the reason of most trees first."""
        found: dict[str, list[str]] = {}
        for tree, reason in sorted(self.failed.items()):
            found.setdefault(reason, []).append(tree)
        return dict(sorted(found.items(), key=lambda one: -len(one[1])))


Progress = Callable[[RunSummary], None]
"""Told twice a second and at the end how the run stands."""
