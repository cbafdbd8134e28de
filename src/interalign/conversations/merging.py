"""Conversations merged into one tree: a prefix tree of messages, in which equal beginnings are one path."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from interalign.conversations.chat import Chat, JoinedMessage
from interalign.tree import IMPORTED, MARGIN, SYSTEM, Annotation, JudgedTree, Node, Presentation, Tree, Verdict

NO_NAME: Final = "assistant"
"""Who replied, where the file does not say."""
_NODE: Final = re.compile(r"(?:(\d+(?:/\d+)*)(?:/u\d*)?|u)")
"""Ids of our own nodes; the group holds the numbers of the replies on the path."""


@dataclass(eq=False, slots=True)
class Branch:
    """A message and what answers it. The beginning of a tree is a branch without a message."""

    message: JoinedMessage | None = None
    parent: "Branch | None" = None
    by: str = ""
    children: dict[tuple[str, str], "Branch"] = field(default_factory=dict)
    """By text and tools."""
    replies: dict[int, "Branch"] = field(default_factory=dict)
    """Below a reply, or the beginning: the replies one turn later whose number is known."""
    sources: list[tuple[Mapping[str, JsonValue], list[int]]] = field(default_factory=list)
    """The rows that it stands in, with the numbers of its messages in the row."""
    rests: list[dict[str, JsonValue]] = field(default_factory=list)
    """Further columns of the rows that end with it."""

    def path(self) -> list["Branch"]:
        """The branches from the first message to this one."""
        found = [self]
        while found[-1].parent is not None and found[-1].parent.message is not None:
            found.append(found[-1].parent)
        return found[::-1]


class TreeBuilder:
    """One tree as rows are added to it."""

    def __init__(self, system: str | None, persona: str) -> None:
        self.system = system
        self.persona = persona
        self._start = Branch()
        self._preferred: dict[tuple[Branch, Branch], float | None] = {}
        """Chosen and rejected reply -> the margin, None if the file has none."""
        self.labels: dict[Branch, bool] = {}
        """Which replies the file calls good, and which bad."""

    def add(self, chat: Chat, by: str | None, source: Mapping[str, JsonValue]) -> Branch:
        """Add a conversation; the branch of its last message. `source` is noted at each of its messages."""
        at = self._start
        for message in chat.messages:
            at = at.children.setdefault(_key(message), Branch(message, at, by or NO_NAME))
            at.sources.append((source, message.numbers))
            if message.extra and at.message is not None and message.extra != at.message.extra:
                at.rests.append({**source, "extra": message.extra})
        return at

    def number(self, last: Branch, node: str) -> None:
        """Give the replies on this path the numbers that this id of a node of ours says, unless others have them."""
        found = _NODE.fullmatch(node)
        replies = [each for each in last.path() if each.message is not None and each.message.role == "assistant"]
        numbers = [int(number) for number in (found[1] or "").split("/") if number] if found else []
        if len(numbers) == len(replies):
            for reply, number in zip(replies, numbers, strict=True):
                siblings = _above(reply).replies
                if reply not in siblings.values():
                    siblings.setdefault(number, reply)

    def prefer(self, chosen: Branch, rejected: Branch, margin: float | None) -> None:
        """Keep that one reply was chosen over the other."""
        if self._preferred.get((chosen, rejected)) is None:
            self._preferred[chosen, rejected] = margin

    def find(self, chat: Chat) -> Branch | None:
        """The branch of the last message of a conversation; None if it was not added."""
        at: Branch | None = self._start
        for message in chat.messages:
            at = None if at is None else at.children.get(_key(message))
        return at

    def label_of(self, reply: Branch | None) -> bool | None:
        """What a row before calls this reply; None: nothing."""
        return None if reply is None else self.labels.get(reply)

    def has_preferred(self, chosen: Branch | None, rejected: Branch | None) -> bool:
        """Whether a row before says so."""
        return (chosen, rejected) in self._preferred

    def build(self, tree: str, run: str) -> JudgedTree:
        """The tree with this id, its verdicts, and what is noted at its messages."""
        ids = dict(_numbered(self._start))
        nodes = tuple(_node(branch, ids) for branch in ids)
        return JudgedTree(
            tree=Tree(id=tree, run=run, persona=self.persona, seed=0, nodes=nodes, system=self.system),
            verdicts=tuple(self._verdicts(ids)),
            annotations=tuple(self._annotations(ids)),
        )

    def _verdicts(self, ids: dict[Branch, str]) -> Iterator[Verdict]:
        order = {branch: place for place, branch in enumerate(ids)}
        for chosen, rejected in dict.fromkeys([*self._preferred, *self._by_label()]):
            first, second = sorted((chosen, rejected), key=order.__getitem__)
            a, b = ids[first], ids[second]
            forth = Presentation(first=a, second=b, replies=(), value="A" if first is chosen else "B")
            back = Presentation(first=b, second=a, replies=(), value="B" if first is chosen else "A")
            yield Verdict(judge=IMPORTED, a=a, b=b, orders=(forth, back))

    def _by_label(self) -> Iterator[tuple[Branch, Branch]]:
        """Every good reply with every bad one to the same message."""
        for good, is_good in self.labels.items():
            siblings = good.parent.children.values() if is_good and good.parent is not None else ()
            yield from ((good, each) for each in siblings if self.labels.get(each) is False)

    def _annotations(self, ids: dict[Branch, str]) -> Iterator[Annotation]:
        if self.system is not None:
            yield Annotation(node="u", name=SYSTEM, by=IMPORTED, value=self.system)
        for branch, node in ids.items():
            if branch.message is not None and branch.message.tools:
                yield Annotation(node=node, name="tool", by=branch.by, value=[*branch.message.tools])
            if branch in self.labels:
                yield Annotation(node=node, name="label", by=IMPORTED, value=self.labels[branch])
            for name, value in _notes(branch):
                yield Annotation(node=node, name=name, by=IMPORTED, value=value)
        for chosen, margins in self._margins().items():
            over: dict[str, JsonValue] = {ids[rejected]: margin for rejected, margin in margins.items()}
            yield Annotation(node=ids[chosen], name=MARGIN, by=IMPORTED, value=over)

    def _margins(self) -> dict[Branch, dict[Branch, float]]:
        found: dict[Branch, dict[Branch, float]] = {}
        for (chosen, rejected), margin in self._preferred.items():
            if margin is not None:
                found.setdefault(chosen, {})[rejected] = margin
        return found


def _notes(branch: Branch) -> Iterator[tuple[str, JsonValue]]:
    yield "source", [{**source, "messages": [*numbers]} for source, numbers in branch.sources]
    if branch.message is not None and branch.message.extra:
        yield "extra", branch.message.extra
    if branch.rests:
        yield "row", [*branch.rests]


def _key(message: JoinedMessage) -> tuple[str, str]:
    return message.text, json.dumps(message.tools) if message.tools else ""


def _above(reply: Branch) -> Branch:
    """The reply, or the beginning, that the user message before this reply answers."""
    assert reply.parent is not None
    assert reply.parent.parent is not None
    return reply.parent.parent


def _numbered(start: Branch) -> Iterator[tuple[Branch, str]]:
    """Every branch with the id of its node, a parent before what answers it, siblings in the order of their numbers."""
    waiting = [(start, "")]
    while waiting:
        above, prefix = waiting.pop()
        for place, user in enumerate(above.children.values(), start=1):
            yield user, f"{prefix}u" if place == 1 else f"{prefix}u{place}"
        replies = [reply for user in above.children.values() for reply in user.children.values()]
        for number, reply in sorted(_with_numbers(replies, above.replies), key=lambda each: each[0]):
            yield reply, f"{prefix}{number}"
            waiting.append((reply, f"{prefix}{number}/"))


def _with_numbers(replies: Sequence[Branch], known: dict[int, Branch]) -> Iterator[tuple[int, Branch]]:
    """The replies with their numbers: the known ones, and for the others the lowest that are free."""
    of = {reply: number for number, reply in known.items()}
    free = (number for number in range(1, len(replies) + len(known) + 1) if number not in known)
    for reply in replies:
        yield (of[reply] if reply in of else next(free)), reply


def _node(branch: Branch, ids: dict[Branch, str]) -> Node:
    message, path = branch.message, branch.path()
    assert message is not None
    return Node(
        id=ids[branch],
        parent=None if branch.parent is None else ids.get(branch.parent),
        turn=(len(path) + 1) // 2,
        role=message.role,
        text=message.text,
        by="user" if message.role == "user" else branch.by,
    )
