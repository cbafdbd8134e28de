"""Rewards for training: replies that a training samples, scored by a judge whose calls are all on record in a run file.

The file is a run like any other, to be looked at, reported and exported: every group of replies to one state is a tree,
whose id has the step and a hash of what was said. A training that goes on from a checkpoint samples the same replies
again and finds their scores on record; where it samples others, they are other trees.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pydantic import JsonValue

from interalign.agents.judge import score_siblings
from interalign.agents.protocols import UserAsk, UserRole
from interalign.agents.reply_text import clean_reply
from interalign.config import Runtime, SimulationSettings, identity_of
from interalign.errors import BadContentError, DataError, FailedTreeError
from interalign.graphs.many_trees import unwrapped
from interalign.graphs.seats import Seating
from interalign.graphs.turn import Conversation
from interalign.panel import PANEL, mean_score
from interalign.personas import Persona, content_hash
from interalign.records import TreeRecord
from interalign.run.growing import carry_out, watched
from interalign.run.service_thread import Requests, ServiceThread
from interalign.run.session import Session, open_session, refuse_strangers, refuse_unknown_prices
from interalign.training.bad_rows import BadRows
from interalign.training.reward import Sampled, ScoreReplies
from interalign.training.rows import TrainingRow
from interalign.tree import Message, Node, Score
from interalign.version import __version__

POLICY = "policy"
"""What the model in training is called in the trees."""


@dataclass(frozen=True)
class JudgedReward:
    """A judge, or a panel, as the reward of a training."""

    path: Path
    """The run file that keeps the calls."""
    settings: SimulationSettings
    """Whose judge, user, prompts, rubric and seed are used."""
    personas: Mapping[str, Persona]
    """By id."""
    source: str
    """Where they come from, for messages."""
    data: str
    """Where the rows come from, for messages."""
    runtime: Runtime
    lookahead: int = 0
    """Further turns that count for a reply, with the user of the settings."""

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Who scores, and for whom."""
        ahead: dict[str, JsonValue] = (
            {"lookahead": self.lookahead, "user": self.settings.user} if self.lookahead else {}
        )
        return {"judge": list(self.judges), "seed": self.settings.seed, **ahead}

    @property
    def judges(self) -> tuple[str, ...]:
        """The judge, or the panel."""
        return self.settings.judges

    @contextmanager
    def opened(self, rows: Sequence[TrainingRow]) -> Iterator[ScoreReplies]:
        """Score in a thread with an event loop of its own, as training blocks its own thread while it computes."""
        settings = self._fitting(rows)
        service: ServiceThread[Asked, Any] = ServiceThread(partial(self._serve, settings, self._met(rows)))
        ask = service.start()
        try:
            yield ScoreInThread(ask, self.lookahead)
        except BaseException as error:
            service.end(error)
            raise
        service.end(None)

    def _fitting(self, rows: Sequence[TrainingRow]) -> SimulationSettings:
        """The settings with the rows' system message and turns; DataError for a row that does not fit."""
        bad, system = BadRows(self.data, rows[0].unit), _system(rows[0].prompt)
        for row in rows:
            with bad.noted(row.number):
                self._refuse(row, system)
        bad.refuse(len(rows))
        written = f"@{system}" if system and system.startswith("@") else system
        turns = max(sum(message.role == "user" for message in row.prompt) for row in rows)
        return self.settings.model_copy(update={"system": written, "turns": turns})

    def _refuse(self, row: TrainingRow, system: str | None) -> None:
        if row.persona not in self.personas:
            raise DataError(
                f"persona {row.persona!r} is not in {self.source}; name the run file the rows come from, or the file "
                "of its personas, with --personas"
            )
        if _system(row.prompt) != system:
            raise DataError("its system message is not the first row's; train on the rows of one run")

    def _met(self, rows: Sequence[TrainingRow]) -> tuple[Persona, ...]:
        return tuple(self.personas[name] for name in dict.fromkeys(str(row.persona) for row in rows))

    async def _serve(
        self,
        settings: SimulationSettings,
        met: Sequence[Persona],
        requests: "Requests[Asked, Any]",
    ) -> None:
        """Answer requests until there are none any more."""
        refuse_unknown_prices(settings.judges, self.runtime)
        async with open_session(self.path, self.runtime, None) as session:
            scoring = RewardScorer(session, settings, met)
            await session.load_models()
            await requests.answered(scoring.answer, session.ledger.stop)


Asked = tuple[Literal["score", "user"], Sequence[Sampled]]
"""What is asked of the thread that judges."""


class ScoreInThread(NamedTuple):
    """Asks the thread that judges."""

    ask: Callable[[Asked], Any]
    lookahead: int

    def __call__(self, sampled: Sequence[Sampled]) -> list[list[float | None]]:
        """A value for every reply."""
        found: list[list[float | None]] = self.ask(("score", sampled))
        return found

    def user_turns(self, sampled: Sequence[Sampled]) -> list[list[str | None]]:
        """What the user says next after every reply."""
        found: list[list[str | None]] = self.ask(("user", sampled))
        return found


class RewardScorer:
    """An open run file in which a judge scores."""

    def __init__(self, session: Session, settings: SimulationSettings, met: Sequence[Persona]) -> None:
        """Record the run, or check that the recorded one is the same."""
        refuse_strangers(met, settings)
        prompts = session.prompts(settings)
        seating = Seating(settings, session.ledger, session.resolve, prompts)
        seated = seating.judges()
        source: dict[str, JsonValue] = {"personas": f"sha256:{content_hash(met)}"}
        identity = {**identity_of(settings, **prompts.identity), **source, **session.weights()}
        session.store.begin_run(session.path.stem, "simulation", identity, __version__)
        session.count()
        session.share_budget()
        session.store.add_personas(met)
        self._session, self._seed = session, settings.seed
        self._personas = {persona.id: persona for persona in met}
        self._judges = {name: watched(session, judge, name) for name, judge in seated.items()}
        self._user = None if settings.user == "none" else cast(UserRole, seating.role("user", settings.user))

    async def answer(self, asked: Asked) -> Any:
        """Scores, or the user's next messages."""
        what, sampled = asked
        return await (self.score(sampled) if what == "score" else self.user_turns(sampled))

    async def user_turns(self, sampled: Sequence[Sampled]) -> list[list[str | None]]:
        """What the user says next after each reply and what followed it; None where nothing came, or nothing can."""
        groups = [Group.of(each) for each in sampled]
        self._session.store.plan_trees(group.record(self._seed) for group in groups)
        async with unwrapped(), asyncio.TaskGroup() as tasks:
            found = [
                [tasks.create_task(self._user_turn(group, place)) for place in range(group.size)] for group in groups
            ]
        return [[task.result() for task in of_group] for of_group in found]

    async def _user_turn(self, group: "Group", place: int) -> str | None:
        if place not in group.samples or self._user is None:
            return None
        path = (group.samples[place], *group.ahead.get(place, ()))
        conversation = self._conversation(group)
        node = f"{path[-1].id}/u"
        talk = (*group.transcript, *(each.message for each in path))
        turn = path[-1].turn + 1
        ask = UserAsk(at=conversation.at(node, node, "user"), persona=conversation.persona, transcript=talk, turn=turn)
        try:
            return (await self._user(ask)).text
        except (BadContentError, FailedTreeError):
            return None

    async def score(self, sampled: Sequence[Sampled]) -> list[list[float | None]]:
        """A value for every reply: its score, of a panel the mean; None for a reply that is none, or has no score.

        Raises StopError when the run stopped, cleanly and resumably.
        """
        groups = [Group.of(each) for each in sampled]
        store = self._session.store
        store.plan_trees(group.record(self._seed) for group in groups)
        waiting = [group for group in groups if not _is_done(store.tree_record(group.tree))]
        jobs = ((group.tree, partial(self._judge, group)) for group in waiting)
        await carry_out(self._session, jobs, self._session.ended, self._ask_anew)
        return [self._values(group) for group in groups]

    async def _judge(self, group: "Group") -> None:
        if not group.samples:
            return
        conversation = self._conversation(group)
        scores = []
        for state, talk, replies in group.judged():
            asked = (conversation.at(state, state, "judge"), conversation.persona, talk, replies)
            for name, judge in self._judges.items():
                scores += await score_siblings(judge, name, *asked)
        await self._session.store.save_turn(group.tree, group.nodes, (), scores)

    def _conversation(self, group: "Group") -> Conversation:
        record = self._session.store.tree_record(group.tree)
        assert record is not None
        return Conversation(
            tree=group.tree, case=group.tree, seed=self._seed, persona=self._personas[group.persona],
            turns=group.turns, samples=3 * (1 + record.attempts),
        )  # fmt: skip

    def _values(self, group: "Group") -> list[float | None]:
        judged = self._session.store.judged_tree(group.tree) if group.samples else None
        given = () if judged is None else judged.scores
        return [_value(group.replies(place), given) for place in range(group.size)]

    async def _ask_anew(self) -> None:
        for tree in {tree: None for judge in self._judges.values() for tree in judge.unread_trees}:
            await self._session.store.finish_tree(tree, failed="the judge gave no readable answer")


def _value(replies: Sequence[Node], given: Sequence[Score]) -> float | None:
    """The mean score of a reply and of those after it that are not missing; None if that of the reply itself is."""
    each = [_score(node, given) for node in replies]
    known = [value for value in each if value is not None]
    return sum(known) / len(known) if each and each[0] is not None else None


def _score(node: Node, given: Sequence[Score]) -> float | None:
    """The mean of the judges' scores of this reply that are not missing."""
    own = [score for score in given if score.node == node.id and score.judge != PANEL]
    return mean_score(own).value if own else None


def _is_done(record: TreeRecord | None) -> bool:
    return record is not None and record.status == "done"


@dataclass(frozen=True)
class Group:
    """The replies to one state as a tree."""

    tree: str
    index: int
    persona: str
    transcript: tuple[Message, ...]
    """Without the system message."""
    history: tuple[Node, ...]
    """The state; its last node is the user's message."""
    samples: Mapping[int, Node]
    """The replies that can be read, by their place among those sampled."""
    size: int
    ahead: Mapping[int, tuple[Node, ...]] = field(default_factory=dict)
    """What was said after them: a user's message, a reply, and so on."""

    @classmethod
    def of(cls, sampled: Sampled) -> "Group":
        """The tree of these replies."""
        talk = tuple(message for message in sampled.prompt if message.role != "system")
        history = tuple(_path(talk))
        samples = dict(_readable(sampled.replies, history[-1]))
        return cls(
            tree=f"s{sampled.step:06}-{sampled.number:03}-{_hash(sampled)}",
            index=sampled.step * 100_000 + sampled.number,
            persona=sampled.persona,
            transcript=talk,
            history=history,
            samples=samples,
            size=len(sampled.replies),
            ahead={place: tuple(_after(node, sampled.after(place))) for place, node in samples.items()},
        )

    @property
    def state(self) -> str:
        """Id of the user message that the replies answer."""
        return self.history[-1].id

    @property
    def turns(self) -> int:
        """Turn of the replies, from 1."""
        return self.history[-1].turn

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the tree."""
        return *self.history, *self.samples.values(), *(node for path in self.ahead.values() for node in path)

    def replies(self, place: int) -> tuple[Node, ...]:
        """A sampled reply and those after it; none if it could not be read."""
        after = (node for node in self.ahead.get(place, ()) if node.role == "assistant")
        return (self.samples[place], *after) if place in self.samples else ()

    def judged(self) -> Iterator[tuple[str, tuple[Message, ...], list[Node]]]:
        """Every user message that was replied to: its id, the conversation up to it, and the replies."""
        yield self.state, self.transcript, list(self.samples.values())
        for place, path in self.ahead.items():
            talk = (*self.transcript, self.samples[place].message)
            for user, reply in zip(path[::2], path[1::2], strict=True):
                talk = (*talk, user.message)
                yield user.id, talk, [reply]
                talk = (*talk, reply.message)

    def record(self, seed: int) -> TreeRecord:
        """The tree as it is planned."""
        return TreeRecord(id=self.tree, index=self.index, persona=self.persona, seed=seed)


def _hash(sampled: Sampled) -> str:
    said = json.dumps([[message.content for message in sampled.prompt], sampled.replies])
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _path(talk: Sequence[Message]) -> Iterator[Node]:
    """The messages as nodes of one path, with the ids that a tree of one reply a turn has."""
    parent, reply = None, ""
    for place, message in enumerate(talk):
        is_user = message.role == "user"
        reply = reply if is_user else "/".join(filter(None, (reply, "1")))
        name = "/".join(filter(None, (reply, "u"))) if is_user else reply
        by = "user" if is_user else "before"
        yield Node(id=name, parent=parent, turn=place // 2 + 1, role=message.role, text=message.content, by=by)
        parent = name


def _after(reply: Node, said: Sequence[str]) -> Iterator[Node]:
    """What was said after a reply as nodes of one path; it ends before a reply that cannot be read."""
    before = reply
    for user, text in zip(said[::2], said[1::2], strict=True):
        asked = Node(id=f"{before.id}/u", parent=before.id, turn=before.turn + 1, role="user", text=user, by="user")
        answer = dict(_readable([text], asked)).get(0)
        if answer is None:
            return
        yield from (asked, answer)
        before = answer


def _readable(replies: Sequence[str], state: Node) -> Iterator[tuple[int, Node]]:
    """The replies that say something, as a candidate's are read; the others are missing."""
    path = state.id.removesuffix("u")
    for place, text in enumerate(replies):
        try:
            said = clean_reply(text, "assistant")
        except BadContentError:
            continue
        if said.strip():
            name = f"{path}{place + 1}"
            yield place, Node(id=name, parent=state.id, turn=state.turn, role="assistant", text=said, by=POLICY)


def _system(prompt: Sequence[Message]) -> str | None:
    return prompt[0].content if prompt[0].role == "system" else None
