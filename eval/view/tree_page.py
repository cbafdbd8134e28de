"""From a judged tree to everything its page shows. Pure: no file, no server, no markup."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, TypeVar

from interalign.eval.disclosed import DisclosedFact, disclosed
from interalign.eval.view.call_index import TreeCalls
from interalign.eval.view.difference import Piece, difference
from interalign.eval.view.links import Links
from interalign.eval.view.marks import Mark, marks
from interalign.eval.view.picture import Picture, draw, in_order
from interalign.eval.view.tree_summary import Summary, summarize
from interalign.personas import Persona
from interalign.records import CallRecord, TreeRecord
from interalign.tree import Annotation, JudgedTree, Message, Node, Presentation, Score, Tree, Verdict

T = TypeVar("T")


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


class Provenance(NamedTuple):
    """Where a text comes from: the prompt, and the calls it was sent in."""

    prompt: tuple[PromptPart, ...]
    calls: tuple[Link, ...]
    """Their pages, in the order they were asked; none in an exported file."""


class Note(NamedTuple):
    """An annotation, its value as text."""

    name: str
    by: str
    text: str
    provenance: Provenance | None


@dataclass(frozen=True)
class JudgeAnswer:
    """What a judge answered to one question."""

    asked: str
    answer: str
    unreadable: tuple[str, ...]
    """Answers that could not be read, each asked again."""
    readable: str | None
    """The answer that could be read; None if none could."""
    provenance: Provenance | None


@dataclass(frozen=True)
class Compared:
    """What a judge said about two replies, asked in both orders."""

    outcome: str
    orders: tuple[JudgeAnswer, JudgeAnswer]


@dataclass(frozen=True)
class ShownMessage:
    """One message as it is shown."""

    id: str
    anchor: str
    by: str
    hinted: bool
    """The candidate was shown the inducer's notes."""
    text: str
    notes: tuple[Note, ...]
    provenance: Provenance | None
    """None if it was made without a call, or the call is not in this file."""
    selected: bool


@dataclass(frozen=True)
class ShownReply:
    """One reply beside its siblings."""

    message: ShownMessage
    place: int
    """1 is the first of the siblings."""
    mark: Mark
    taken: bool
    """The conversation went on with it (in a full tree: also with it)."""
    on_path: bool
    href: str
    scored: JudgeAnswer | None


@dataclass(frozen=True)
class ShownTurn:
    """One user message and its replies."""

    number: int
    user: ShownMessage
    answers: Link | None
    """The reply that the user answers, where it is not in the turn shown above."""
    hints: tuple[Note, ...]
    replies: tuple[ShownReply, ...]
    compared: tuple[Compared, ...]
    difference: tuple[Piece, ...] | None
    """The chosen and the rejected reply word by word, where that was asked for and there is such a pair."""


class Steps(NamedTuple):
    """Where one can go from the selected message, or from the first reply of the path; None: nowhere."""

    start: Node
    turn_before: str | None
    turn_after: str | None
    sibling_before: str | None
    sibling_after: str | None


class Unfinished(NamedTuple):
    """A call of a turn that was not finished."""

    role: str
    at: str
    """The node that was to be made or judged."""
    asked: str
    text: str | None
    """What came back; None if nothing did."""
    error: str | None
    """Why it could not be used, or why nothing came."""
    facts: tuple[str, ...]
    provenance: Provenance


@dataclass(frozen=True)
class TreePage:
    """Everything the page of a tree shows."""

    record: TreeRecord
    anchor: str
    """The tree's own element id in a file of many."""
    summary: Summary | None
    """None as long as no turn is finished, as is `picture`."""
    persona: Persona | None
    judges: tuple[Link, ...]
    """Who judged this tree, the newest last."""
    judge: str | None
    """Whose verdicts are shown."""
    picture: Picture | None
    turns: tuple[ShownTurn, ...]
    facts: tuple[DisclosedFact, ...]
    """The persona's profile, with what was disclosed on the path up to the selected message, if one is selected."""
    steps: Steps | None
    talk: tuple[Node, ...]
    """The messages of the path."""
    unfinished: tuple[Unfinished, ...]
    """Of a tree that is not done: the calls of turns that were begun."""


@dataclass(frozen=True)
class ViewOptions:
    """What of a tree is shown, and how its links are made."""

    links: Links
    judge: str | None
    """Whose verdicts count; None: no verdicts."""
    judges: Sequence[str] = ()
    """All judges of the run, the newest last."""
    node: str | None = None
    """The message the path goes through; None: the longest path."""
    calls: TreeCalls = field(default_factory=TreeCalls)
    every_turn: bool = False
    """Show every turn of the tree, not only those of the path."""
    difference: bool = False
    """Show what differs between the chosen and the rejected reply of each turn."""


def tree_page(judged: JudgedTree, record: TreeRecord, persona: Persona | None, options: ViewOptions) -> TreePage:
    """The view of a tree. KeyError if `options.node` is not in it."""
    seen = judged.by_judge(options.judge or "")
    path = path_through(seen.tree, options.node)
    builder = _PageBuilder(seen, options, path)
    asked = list(_branch_by_branch(seen.tree)) if options.every_turn else [node for node in path if node.role == "user"]
    judges = [name for name in options.judges if name in judged.judges()]
    return TreePage(
        record=record,
        anchor=options.links.anchor(record.id),
        summary=summarize(seen),
        persona=persona,
        judges=tuple(
            Link(name, options.links.judged(record.id, options.node, name), current=name == options.judge)
            for name in judges
        ),
        judge=options.judge,
        picture=draw(seen.tree, path, options.node, builder.marks, options.links),
        turns=tuple(builder.turns(asked)),
        facts=() if persona is None else disclosed(persona.profile, _so_far(path, options.node)),
        steps=builder.steps(path),
        talk=path,
        unfinished=_unfinished(seen.tree.nodes, record, options),
    )


def page_without_turns(record: TreeRecord, persona: Persona | None, options: ViewOptions) -> TreePage:
    """The view of a tree of which no turn was finished."""
    return TreePage(
        record=record,
        anchor=options.links.anchor(record.id),
        summary=None,
        persona=persona,
        judges=(),
        judge=None,
        picture=None,
        turns=(),
        facts=() if persona is None else disclosed(persona.profile, ()),
        steps=None,
        talk=(),
        unfinished=_unfinished((), record, options),
    )


def _so_far(path: Sequence[Node], selected: str | None) -> Sequence[Node]:
    """The path up to the selected message; all of it if none is selected."""
    ids = [node.id for node in path]
    return path if selected is None else path[: ids.index(selected) + 1]


def _unfinished(nodes: Sequence[Node], record: TreeRecord, options: ViewOptions) -> tuple[Unfinished, ...]:
    if record.status == "done":
        return ()
    texts = [node.text for node in nodes]
    return tuple(_begun(call, texts, options.links) for call in options.calls.beyond({node.id for node in nodes}))


def _begun(call: CallRecord, texts: Sequence[str], links: Links) -> Unfinished:
    href = links.call(call.place.tree, call.key) if call.key else None
    provenance = Provenance(folded(call.messages, texts), () if href is None else (Link(_named(call), href),))
    text = call.reply.text if call.key else None
    return Unfinished(call.place.role, call.place.node, call.asked, text, call.error, times(call), provenance)


def times(call: CallRecord) -> tuple[str, ...]:
    """When a call was made, how long it took, with how many requests and by which server, as far as it is known."""
    found = [] if call.began is None else [f"sent {call.began:%Y-%m-%d %H:%M:%S} UTC"]
    found += [] if call.seconds is None else [f"took {call.seconds:,.3f} s"]
    found += [f"{call.reply.sends} requests"] if call.reply.sends > 1 else []
    return tuple(found + ([f"server {call.reply.server}"] if call.reply.server else []))


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


class _PageBuilder:
    """Turns of one judged tree, as they are shown."""

    def __init__(self, judged: JudgedTree, options: ViewOptions, path: Sequence[Node]) -> None:
        self._tree = judged.tree
        self._options = options
        self._path = {node.id for node in path}
        self._numbers = {node.id: number for number, node in enumerate(judged.tree.nodes)}
        self._notes = _grouped(judged.annotations, lambda note: note.node)
        self._verdicts = _grouped(judged.verdicts, lambda verdict: self._tree.node(verdict.a).parent)
        self._scores = {score.node: score for score in judged.scores}
        self.marks = {node: mark for asked in self._tree.turns() for node, mark in self._marks(asked).items()}

    def turns(self, asked: Sequence[Node]) -> list[ShownTurn]:
        """The turns that begin with these user messages."""
        shown: set[str] = set()
        turns: list[ShownTurn] = []
        for user in asked:
            turns.append(self._turn(user, None if user.parent in shown else self._answered(user)))
            shown = {reply.message.id for reply in turns[-1].replies}
        return turns

    def steps(self, path: Sequence[Node]) -> Steps:
        """From the selected message, or the first reply of the path."""
        at = next((node for node in path if node.id == self._options.node), path[min(1, len(path) - 1)])
        by_turn = {node.turn: node for node in path if node.role == at.role}
        siblings = self._tree.siblings(at.id)
        place = [node.id for node in siblings].index(at.id)
        before, after = siblings[place - 1 : place], siblings[place + 1 : place + 2]
        found = (by_turn.get(at.turn - 1), by_turn.get(at.turn + 1), next(iter(before), None), next(iter(after), None))
        return Steps(at, *(None if node is None else self._href(node.id) for node in found))

    def _difference(self, replies: Sequence[Node]) -> tuple[Piece, ...] | None:
        text = {self.marks[reply.id].kind: reply.text for reply in replies}
        if not self._options.difference or not {"chosen", "rejected"} <= text.keys():
            return None
        return difference(text["rejected"], text["chosen"])

    def _marks(self, asked: Node) -> dict[str, Mark]:
        replies = self._tree.children(asked.id)
        scores = [self._scores[reply.id] for reply in replies if reply.id in self._scores]
        return marks(asked, replies, self._verdicts.get(asked.id, ()), scores)

    def _answered(self, user: Node) -> Link | None:
        return None if user.parent is None else Link(user.parent, self._href(user.parent))

    def _href(self, node: str) -> str:
        return self._options.links.node(self._tree.id, node, self._numbers[node])

    def _turn(self, user: Node, answers: Link | None) -> ShownTurn:
        replies = self._tree.children(user.id)
        places = {reply.id: place for place, reply in enumerate(replies, start=1)}
        notes = self._notes.get(user.id, ())
        return ShownTurn(
            number=user.turn,
            user=self._message(user, user, [note for note in notes if note.name != "hint"]),
            answers=answers,
            hints=tuple(self._note(note, user) for note in notes if note.name == "hint"),
            replies=tuple(self._reply(reply, user, places[reply.id]) for reply in replies),
            compared=tuple(self._compared(verdict, user, places) for verdict in self._verdicts.get(user.id, ())),
            difference=self._difference(replies),
        )

    def _reply(self, reply: Node, user: Node, place: int) -> ShownReply:
        score = self._scores.get(reply.id)
        return ShownReply(
            message=self._message(reply, user, self._notes.get(reply.id, ())),
            place=place,
            mark=self.marks[reply.id],
            taken=bool(self._tree.children(reply.id)),
            on_path=reply.id in self._path,
            href=self._href(reply.id),
            scored=None if score is None else self._scored(score, user, place),
        )

    def _message(self, node: Node, user: Node, notes: Sequence[Annotation]) -> ShownMessage:
        return ShownMessage(
            id=node.id,
            anchor=self._options.links.anchor(self._tree.id, self._numbers[node.id]),
            by=node.by,
            hinted=node.hinted,
            text=node.text,
            notes=tuple(self._note(note, user) for note in notes),
            provenance=self._provenance(self._options.calls.of_message(node), user),
            selected=node.id == self._options.node,
        )

    def _note(self, note: Annotation, user: Node) -> Note:
        value = note.value
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        return Note(note.name, note.by, text, self._provenance(self._options.calls.of_note(note, user), user))

    def _compared(self, verdict: Verdict, user: Node, places: Mapping[str, int]) -> Compared:
        pair = f"Replies {places[verdict.a]} and {places[verdict.b]}. " if len(places) > 2 else ""
        first, second = (self._ordered(order, verdict.judge, user, places) for order in verdict.orders)
        return Compared(pair + _outcome(verdict, places), (first, second))

    def _ordered(self, order: Presentation, judge: str, user: Node, places: Mapping[str, int]) -> JudgeAnswer:
        answer = {None: "nothing that could be read", "tie": "tie"}.get(order.value)
        winner = "" if order.winner is None else f"{order.value}, reply {places[order.winner]}"
        asked = f"Reply {places[order.first]} shown as A, reply {places[order.second]} as B"
        calls = self._options.calls.of_judge(judge, f"{order.first}|{order.second}", order.replies)
        if any(call.place.node.count("|") > 1 for call in calls):
            asked = f"All replies ranked, reply {places[order.first]} shown before reply {places[order.second]}"
            winner = "" if order.winner is None else f"reply {places[order.winner]} is ranked higher"
        answers = _split_answers(order.replies, order.value is not None)
        return JudgeAnswer(asked, answer or winner, *answers, self._provenance(calls, user))

    def _scored(self, score: Score, user: Node, place: int) -> JudgeAnswer:
        answer = "nothing that could be read" if score.value is None else f"score {score.value:.3g}"
        calls = self._options.calls.of_judge(score.judge, score.node, score.replies)
        answers = _split_answers(score.replies, score.value is not None)
        return JudgeAnswer(f"Reply {place} on its own", answer, *answers, self._provenance(calls, user))

    def _provenance(self, calls: Sequence[CallRecord], user: Node) -> Provenance | None:
        """`user`: the message of the turn; the conversation up to it is not repeated."""
        if not calls:
            return None
        conversation = [said.text for said in self._tree.path(user.id)]
        pages = [(call, self._options.links.call(self._tree.id, call.key)) for call in calls]
        links = tuple(Link(_named(call), href) for call, href in pages if href is not None)
        return Provenance(folded(calls[-1].messages, conversation), links)


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
    return "Tie, in both orders" if first.value == second.value == "tie" else "Tie: the two orders disagree"


def _split_answers(replies: Sequence[str], readable: bool) -> tuple[tuple[str, ...], str | None]:
    """The raw answers divided: those that could not be read, and the one that could."""
    return (tuple(replies[:-1]), replies[-1]) if readable and replies else (tuple(replies), None)


def _grouped(values: Sequence[T], key: Callable[[T], str | None]) -> dict[str | None, tuple[T, ...]]:
    groups: dict[str | None, list[T]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return {name: tuple(group) for name, group in groups.items()}
