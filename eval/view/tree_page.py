"""From a judged tree to everything its page shows. Pure: no file, no server, no markup."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, TypeVar

from interalign.eval.view.call_index import TreeCalls
from interalign.eval.view.links import Links
from interalign.eval.view.marks import Mark, marks
from interalign.eval.view.picture import Picture, draw, in_order
from interalign.eval.view.tree_summary import Summary, summarize
from interalign.personas import Persona
from interalign.records import CallRecord, TreeRecord
from interalign.tree import Annotation, JudgedTree, Message, Node, Presentation, Score, Tree, Verdict

T = TypeVar("T")
HINT = "+hint"
"""Ends the `by` of a reply whose candidate was shown the inducer's notes."""


class Link(NamedTuple):
    """A link by its text."""

    text: str
    href: str
    current: bool = False


class PromptPart(NamedTuple):
    """A message of a prompt, or several that only repeat the conversation."""

    role: str
    text: str
    repeated: int
    """How many messages stand here word for word as in the conversation; their text is left out."""


class Behind(NamedTuple):
    """What is behind something that was said: the prompt, and the calls it was sent in."""

    prompt: tuple[PromptPart, ...]
    calls: tuple[Link, ...]
    """Their pages, in the order they were asked; none in an exported file."""


class Note(NamedTuple):
    """An annotation, its value as text."""

    name: str
    by: str
    text: str
    behind: Behind | None


@dataclass(frozen=True)
class Said:
    """What a judge answered to one question."""

    asked: str
    answer: str
    unread: tuple[str, ...]
    """Answers that could not be read, each asked again."""
    read: str | None
    """The answer that could be read; None if none could."""
    behind: Behind | None


@dataclass(frozen=True)
class Compared:
    """What a judge said about two replies, asked in both orders."""

    outcome: str
    orders: tuple[Said, Said]


@dataclass(frozen=True)
class Spoken:
    """One message as it is shown."""

    id: str
    anchor: str
    by: str
    hinted: bool
    """The candidate was shown the inducer's notes."""
    text: str
    notes: tuple[Note, ...]
    behind: Behind | None
    """None if it was made without a call, or the call is not in this file."""
    selected: bool


@dataclass(frozen=True)
class Reply:
    """One reply beside its siblings."""

    spoken: Spoken
    place: int
    """1 is the first of the siblings."""
    mark: Mark
    taken: bool
    """The conversation went on with it (in a full tree: also with it)."""
    on_path: bool
    href: str
    scored: Said | None


@dataclass(frozen=True)
class Turn:
    """One user message and its replies."""

    number: int
    user: Spoken
    answers: Link | None
    """The reply that the user answers, where it is not in the turn shown above."""
    hints: tuple[Note, ...]
    replies: tuple[Reply, ...]
    compared: tuple[Compared, ...]


@dataclass(frozen=True)
class TreePage:
    """Everything the page of a tree shows."""

    record: TreeRecord
    anchor: str
    """The tree's own element id in a file of many."""
    summary: Summary
    persona: Persona | None
    judges: tuple[Link, ...]
    """Who judged this tree, the newest last."""
    judge: str | None
    """Whose verdicts are shown."""
    picture: Picture
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Looking:
    """How a tree is looked at."""

    links: Links
    judge: str | None
    """Whose verdicts count; None: nobody's."""
    judges: Sequence[str] = ()
    """All judges of the run, the newest last."""
    node: str | None = None
    """The message the path goes through; None: the longest path."""
    calls: TreeCalls = field(default_factory=TreeCalls)
    every_turn: bool = False
    """Show every turn of the tree, not only those of the path."""


def tree_page(judged: JudgedTree, record: TreeRecord, persona: Persona | None, look: Looking) -> TreePage:
    """The view of a tree. KeyError if `look.node` is not in it."""
    seen = judged.by_judge(look.judge or "")
    path = path_through(seen.tree, look.node)
    writer = _Writer(seen, look, path)
    asked = list(_branch_by_branch(seen.tree)) if look.every_turn else [node for node in path if node.role == "user"]
    judges = [name for name in look.judges if name in judged.judges()]
    return TreePage(
        record=record,
        anchor=look.links.anchor(record.id),
        summary=summarize(seen),
        persona=persona,
        judges=tuple(
            Link(name, look.links.judged(record.id, look.node, name), current=name == look.judge) for name in judges
        ),
        judge=look.judge,
        picture=draw(seen.tree, path, look.node, writer.marks, look.links),
        turns=tuple(writer.turns(asked)),
    )


def path_through(tree: Tree, node_id: str | None) -> tuple[Node, ...]:
    """The path from the root through this node (None: the root) to the end of the longest one below it."""
    reach: dict[str | None, int] = {}
    for node in reversed(in_order(tree.nodes)):
        reach[node.parent] = max(reach.get(node.parent, 0), reach.get(node.id, 0) + 1)
    path = list(tree.path(node_id or tree.root.id))
    while children := tree.children(path[-1].id):
        path.append(max(children, key=lambda child: reach.get(child.id, 0)))
    return tuple(path)


def _branch_by_branch(tree: Tree) -> Iterator[Node]:
    """Every user message, each followed by those that go on from its first reply, then from its second, ..."""
    waiting = [tree.root]
    while waiting:
        user = waiting.pop()
        yield user
        after = [next_one for reply in tree.children(user.id) for next_one in tree.children(reply.id)]
        waiting += reversed(after)


class _Writer:
    """Turns of one judged tree, as they are shown."""

    def __init__(self, judged: JudgedTree, look: Looking, path: Sequence[Node]) -> None:
        self._tree = judged.tree
        self._look = look
        self._path = {node.id for node in path}
        self._numbers = {node.id: number for number, node in enumerate(judged.tree.nodes)}
        self._notes = _grouped(judged.annotations, lambda note: note.node)
        self._verdicts = _grouped(judged.verdicts, lambda verdict: self._tree.node(verdict.a).parent)
        self._scores = {score.node: score for score in judged.scores}
        self.marks = {node: mark for asked in self._tree.turns() for node, mark in self._marks(asked).items()}

    def turns(self, asked: Sequence[Node]) -> list[Turn]:
        """The turns that begin with these user messages."""
        shown: set[str] = set()
        turns: list[Turn] = []
        for user in asked:
            turns.append(self._turn(user, None if user.parent in shown else self._answered(user)))
            shown = {reply.spoken.id for reply in turns[-1].replies}
        return turns

    def _marks(self, asked: Node) -> dict[str, Mark]:
        replies = self._tree.children(asked.id)
        scores = [self._scores[reply.id] for reply in replies if reply.id in self._scores]
        return marks(asked, replies, self._verdicts.get(asked.id, ()), scores)

    def _answered(self, user: Node) -> Link | None:
        return None if user.parent is None else Link(user.parent, self._href(user.parent))

    def _href(self, node: str) -> str:
        return self._look.links.node(self._tree.id, node, self._numbers[node])

    def _turn(self, user: Node, answers: Link | None) -> Turn:
        replies = self._tree.children(user.id)
        places = {reply.id: place for place, reply in enumerate(replies, start=1)}
        notes = self._notes.get(user.id, ())
        return Turn(
            number=user.turn,
            user=self._spoken(user, user, [note for note in notes if note.name != "hint"]),
            answers=answers,
            hints=tuple(self._note(note, user) for note in notes if note.name == "hint"),
            replies=tuple(self._reply(reply, user, places[reply.id]) for reply in replies),
            compared=tuple(self._compared(verdict, user, places) for verdict in self._verdicts.get(user.id, ())),
        )

    def _reply(self, reply: Node, user: Node, place: int) -> Reply:
        score = self._scores.get(reply.id)
        return Reply(
            spoken=self._spoken(reply, user, self._notes.get(reply.id, ())),
            place=place,
            mark=self.marks[reply.id],
            taken=bool(self._tree.children(reply.id)),
            on_path=reply.id in self._path,
            href=self._href(reply.id),
            scored=None if score is None else self._scored(score, user, place),
        )

    def _spoken(self, node: Node, user: Node, notes: Sequence[Annotation]) -> Spoken:
        return Spoken(
            id=node.id,
            anchor=self._look.links.anchor(self._tree.id, self._numbers[node.id]),
            by=node.by.removesuffix(HINT),
            hinted=node.by.endswith(HINT),
            text=node.text,
            notes=tuple(self._note(note, user) for note in notes),
            behind=self._behind(self._look.calls.of_message(node), user),
            selected=node.id == self._look.node,
        )

    def _note(self, note: Annotation, user: Node) -> Note:
        value = note.value
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        return Note(note.name, note.by, text, self._behind(self._look.calls.of_note(note, user), user))

    def _compared(self, verdict: Verdict, user: Node, places: Mapping[str, int]) -> Compared:
        pair = f"Replies {places[verdict.a]} and {places[verdict.b]}. " if len(places) > 2 else ""
        first, second = (self._ordered(order, verdict.judge, user, places) for order in verdict.orders)
        return Compared(pair + _outcome(verdict, places), (first, second))

    def _ordered(self, order: Presentation, judge: str, user: Node, places: Mapping[str, int]) -> Said:
        answer = {None: "nothing that could be read", "tie": "tie"}.get(order.said)
        winner = "" if order.winner is None else f"{order.said}, reply {places[order.winner]}"
        asked = f"Reply {places[order.first]} shown as A, reply {places[order.second]} as B"
        calls = self._look.calls.of_judge(judge, f"{order.first}|{order.second}", order.replies)
        heard = _heard(order.replies, order.said is not None)
        return Said(asked, answer or winner, *heard, self._behind(calls, user))

    def _scored(self, score: Score, user: Node, place: int) -> Said:
        answer = "nothing that could be read" if score.value is None else f"score {score.value:.3g}"
        calls = self._look.calls.of_judge(score.judge, score.node, score.replies)
        heard = _heard(score.replies, score.value is not None)
        return Said(f"Reply {place} on its own", answer, *heard, self._behind(calls, user))

    def _behind(self, calls: Sequence[CallRecord], user: Node) -> Behind | None:
        """`user`: the message of the turn; the conversation up to it is not repeated."""
        if not calls:
            return None
        conversation = [said.text for said in self._tree.path(user.id)]
        pages = [(call, self._look.links.call(self._tree.id, call.key)) for call in calls]
        links = tuple(Link(_named(call), href) for call, href in pages if href is not None)
        return Behind(folded(calls[-1].messages, conversation), links)


def folded(prompt: Sequence[Message], conversation: Sequence[str]) -> tuple[PromptPart, ...]:
    """The messages of a prompt, those that repeat the conversation counted instead of shown."""
    known = set(conversation)
    parts: list[PromptPart] = []
    for repeats, messages in groupby(prompt, key=lambda message: message.content in known):
        group = list(messages)
        if repeats:
            parts.append(PromptPart("", "", len(group)))
        else:
            parts += [PromptPart(message.role, message.content, 0) for message in group]
    return tuple(parts)


def _named(call: CallRecord) -> str:
    return call.asked if call.error is None else f"{call.asked}, could not be used"


def _outcome(verdict: Verdict, places: Mapping[str, int]) -> str:
    first, second = verdict.orders
    winner = {"a": verdict.a, "b": verdict.b}.get(verdict.outcome)
    if winner is not None:
        return f"Reply {places[winner]} preferred, in both orders"
    if verdict.outcome == "missing":
        return "Missing: not both orders could be read"
    return "Tie, in both orders" if first.said == second.said == "tie" else "Tie: the two orders disagree"


def _heard(replies: Sequence[str], readable: bool) -> tuple[tuple[str, ...], str | None]:
    """The raw answers divided: those that could not be read, and the one that could."""
    return (tuple(replies[:-1]), replies[-1]) if readable and replies else (tuple(replies), None)


def _grouped(values: Sequence[T], key: Callable[[T], str | None]) -> dict[str | None, tuple[T, ...]]:
    groups: dict[str | None, list[T]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return {name: tuple(group) for name, group in groups.items()}
