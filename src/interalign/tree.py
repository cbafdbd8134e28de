"""Conversation trees and what judges said about them. Nothing here says *better*: that is derived from verdicts."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    model_validator,
)

from interalign.errors import MalformedTreeError
from interalign.tree_html import Drawn, tree_html

IMPORTED: Final = "imported"
"""The judge whose verdicts came with an imported file, and who noted what the file says."""
SYSTEM: Final = "system"
"""Name of IMPORTED's annotation of a root: the system message before this one conversation."""
MARGIN: Final = "margin"
"""Name of IMPORTED's annotation of a chosen reply: id of the rejected one -> the margin in the file."""
Choice = Literal["A", "B", "tie"]
"""What a judge may answer to a comparison, in the contract's words."""
Aspect = Literal["content", "style", "engagement"]
"""What a judge may score of a reply beside the whole."""
ASPECTS: Final[tuple[Aspect, ...]] = ("content", "style", "engagement")
Outcome = Literal["a", "b", "tie", "missing"]
"""What both orders of a comparison add up to."""


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("a message cannot be empty")
    return text


Text = Annotated[str, AfterValidator(_not_empty)]
"""Never empty. Not `min_length`: pydantic's own check refuses the lone surrogates that some models produce."""


class Frozen(BaseModel):
    """Base of the values that cross from one package to another: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Frozen):
    """One chat message, as every chat API knows it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Node(Frozen):
    """One message of a tree, with a link to the message it answers."""

    id: str = Field(min_length=1)
    """The node's path: the numbers of the replies that lead to it (`2/1`); a user message is its parent plus `u`."""
    parent: str | None
    """Id of the node this one answers; None for the root."""
    turn: int = Field(ge=1)
    """A turn is one user message and the replies to it, counted from 1."""
    role: Literal["user", "assistant"]
    text: Text
    by: str
    """Who spoke: `user`, or the candidate's name."""
    hinted: bool = False
    """A reply that was made with the inducer's notes."""
    call: str | None = None
    """Ledger key of the call that produced the text; None when nobody was asked (an imported conversation)."""

    @property
    def message(self) -> Message:
        """The node as a chat message."""
        return Message(role=self.role, content=self.text)

    @property
    def label(self) -> str:
        """`by`, and `NAME+hint` for a hinted reply: a candidate's hinted and plain replies are counted apart."""
        return f"{self.by}+hint" if self.hinted else self.by


class Tree(Frozen):
    """One branching conversation with one persona. A malformed one cannot be built (MalformedTreeError)."""

    id: str
    run: str
    persona: str
    """Id of the persona the user agent played."""
    seed: int
    nodes: tuple[Node, ...]
    system: str | None = Field(default=None, exclude_if=lambda text: text is None)
    """What stood before the conversation in the candidate's requests: the run's system message; None: nothing did."""

    @model_validator(mode="after")
    def _is_one_tree(self) -> Self:
        _check_shape(self.nodes)
        return self

    @cached_property
    def _by_id(self) -> Mapping[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def _children(self) -> Mapping[str | None, tuple[Node, ...]]:
        groups: dict[str | None, list[Node]] = {}
        for node in self.nodes:
            groups.setdefault(node.parent, []).append(node)
        return {parent: tuple(nodes) for parent, nodes in groups.items()}

    def _repr_html_(self) -> str:
        """The conversation, as a notebook shows it."""
        return _html(self, {})

    @property
    def root(self) -> Node:
        """The first user message."""
        return self._children[None][0]

    def node(self, node_id: str) -> Node:
        """The node with this id; KeyError if there is none."""
        return self._by_id[node_id]

    def children(self, node_id: str) -> tuple[Node, ...]:
        """The nodes that answer this one, in stored order."""
        return self._children.get(node_id, ())

    def siblings(self, node_id: str) -> tuple[Node, ...]:
        """All answers to this node's parent, the node itself included."""
        return self._children[self.node(node_id).parent]

    def path(self, node_id: str) -> tuple[Node, ...]:
        """The nodes from the root down to this one, both included."""
        nodes = [self.node(node_id)]
        while nodes[-1].parent is not None:
            nodes.append(self.node(nodes[-1].parent))
        return tuple(reversed(nodes))

    def leaves(self) -> tuple[Node, ...]:
        """The nodes nobody answered, in stored order."""
        return tuple(node for node in self.nodes if node.id not in self._children)

    def transcript(self, node_id: str) -> tuple[Message, ...]:
        """The conversation from the root down to this node, as chat messages."""
        return tuple(node.message for node in self.path(node_id))

    def turns(self) -> tuple[Node, ...]:
        """Every user message that got at least one reply, in stored order."""
        return tuple(node for node in self.nodes if node.role == "user" and node.id in self._children)


def _check_shape(nodes: Sequence[Node]) -> None:
    """Raise MalformedTreeError unless the nodes form one tree of alternating user and assistant messages."""
    by_id = {node.id: node for node in nodes}
    if len(by_id) < len(nodes):
        raise MalformedTreeError("two nodes have the same id")
    roots = [node for node in nodes if node.parent is None]
    if len(roots) != 1 or roots[0].role != "user" or roots[0].turn != 1:
        raise MalformedTreeError(f"a tree has one root, a user message of turn 1; got {[node.id for node in roots]}")
    for node in nodes:
        if node.parent is not None:
            _check_link(node, by_id.get(node.parent))
    # Turns never fall along a link and rise at every second one, so a cycle is impossible once all links are sound.


def _check_link(node: Node, parent: Node | None) -> None:
    if parent is None:
        raise MalformedTreeError(f"node {node.id!r} answers {node.parent!r}, which is not in the tree")
    if node.role == parent.role:
        raise MalformedTreeError(f"node {node.id!r}: a {node.role} message cannot answer a {parent.role} message")
    expected = parent.turn + (node.role == "user")
    if node.turn != expected:
        raise MalformedTreeError(f"node {node.id!r} is in turn {node.turn}, after {parent.id!r} it must be {expected}")


class Presentation(Frozen):
    """One time a judge was shown two replies: which came first, what it answered, how that was read."""

    first: str
    """Node id of the reply shown as A."""
    second: str
    """Node id of the reply shown as B."""
    replies: tuple[str, ...]
    """Raw replies of the judge in the order asked; all but the last could not be read."""
    value: Choice | None = Field(validation_alias=AliasChoices("value", "said"))
    """The parsed verdict; None if no reply could be read (missing, never guessed)."""

    @property
    def said(self) -> Choice | None:
        """`value` by its earlier name."""
        return self.value

    @property
    def winner(self) -> str | None:
        """Node id of the preferred reply; None for a tie or a missing verdict."""
        return {"A": self.first, "B": self.second}.get(self.value or "")


class Verdict(Frozen):
    """What one judge said about two sibling replies, asked in both orders."""

    judge: str
    a: str
    """Node id of the earlier sibling; its pair is shown first in `orders[0]`."""
    b: str
    orders: tuple[Presentation, Presentation]

    @property
    def outcome(self) -> Outcome:
        """Both orders agree: that reply. They disagree, or say tie: a tie. One is missing: missing."""
        if any(order.value is None for order in self.orders):
            return "missing"
        winners = {order.winner for order in self.orders}
        if len(winners) > 1 or winners == {None}:
            return "tie"
        return "a" if winners == {self.a} else "b"


AspectScores = Annotated[Mapping[Aspect, int | float], AfterValidator(MappingProxyType), PlainSerializer(dict)]
"""Read only, as all else that a role or a hook is handed."""


def no_aspects() -> Mapping[Aspect, int | float]:
    """Where none were asked for or read."""
    return MappingProxyType({})


class Score(Frozen):
    """What one judge said about one reply, 1 (ignores this user) to 5 (fits in content and in style)."""

    judge: str
    node: str
    replies: tuple[str, ...]
    """Raw replies of the judge in the order asked; all but the last could not be read."""
    value: int | float | None = Field(ge=1, le=5)
    """A judge's is a whole number, a panel's a mean; None if no reply could be read (missing, never guessed)."""
    aspects: AspectScores = Field(default_factory=no_aspects, exclude_if=lambda found: not found)
    """Of content, style and engagement those that were asked for and could be read, 1 to 5 each."""


class Annotation(Frozen):
    """Something a role or a plug-in noted about a node, such as the inducer's notes under the name `hint`."""

    node: str
    name: str
    by: str
    value: JsonValue


class JudgedTree(Frozen):
    """A tree with everything said about it, by every judge that was asked."""

    tree: Tree
    verdicts: tuple[Verdict, ...] = ()
    scores: tuple[Score, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    cut: frozenset[str] = frozenset()
    """Ids of the messages that ended at their length limit, and not because the model was done."""
    unpaired: frozenset[tuple[str, str]] = frozenset()
    """Pairs of replies, ids in sorted order, that must not become preference pairs; what was said of them stays."""

    def _repr_html_(self) -> str:
        """The conversation with scores and preferred replies, as a notebook shows it."""
        notes = [(score.node, f"score {score.value:g} by {score.judge}") for score in self.scores if score.value]
        winners = [({"a": each.a, "b": each.b}.get(each.outcome), each.judge) for each in self.verdicts]
        notes += [(node, f"preferred by {judge}") for node, judge in winners if node is not None]
        return _html(self.tree, {node: [said for at, said in notes if at == node] for node, _ in notes})

    def judges(self) -> tuple[str, ...]:
        """Names of the judges asked, in the order they were first asked."""
        said: tuple[Verdict | Score, ...] = (*self.verdicts, *self.scores)
        return tuple(dict.fromkeys(word.judge for word in said))

    @property
    def is_readable(self) -> bool:
        """Whether any answer of any judge about this tree could be read."""
        orders = (order.value for verdict in self.verdicts for order in verdict.orders)
        return any(value is not None for value in (*orders, *(score.value for score in self.scores)))

    def by_judge(self, judge: str) -> Self:
        """The same tree with what this judge said, and nothing of the others."""
        return self.model_copy(
            update={
                "verdicts": tuple(verdict for verdict in self.verdicts if verdict.judge == judge),
                "scores": tuple(score for score in self.scores if score.judge == judge),
            }
        )

    def without(self, nodes: Collection[str], *, unanswered: bool = False) -> Self | None:
        """The same tree without these replies, what follows them, and what was said of either; None if nothing is left.

        A user message that nobody answers any more goes too, unless `unanswered` messages are to stay.
        """
        kept = _kept(self.tree, set(nodes))
        kept = kept if unanswered else _answered(self.tree, kept)
        if not kept:
            return None
        return self.model_copy(
            update={
                # Built anew, not copied: a copy would keep the links that were worked out for all nodes.
                "tree": Tree(**{**dict(self.tree), "nodes": tuple(n for n in self.tree.nodes if n.id in kept)}),
                "verdicts": tuple(v for v in self.verdicts if v.a in kept and v.b in kept),
                "scores": tuple(s for s in self.scores if s.node in kept),
                "annotations": tuple(a for a in self.annotations if a.node in kept),
                "cut": self.cut & kept,
            }
        )

    def unjudged(self, nodes: Collection[str]) -> Self:
        """The same tree without what was said of these replies, alone or beside another one."""
        return self.model_copy(
            update={
                "verdicts": tuple(v for v in self.verdicts if v.a not in nodes and v.b not in nodes),
                "scores": tuple(s for s in self.scores if s.node not in nodes),
            }
        )


def _kept(tree: Tree, gone: set[str]) -> set[str]:
    """Ids of the nodes whose path has none of `gone`."""
    kept: set[str] = set()
    for node in sorted(tree.nodes, key=lambda node: (node.turn, node.role == "assistant")):  # parents come first
        if node.id not in gone and (node.parent is None or node.parent in kept):
            kept.add(node.id)
    return kept


def _answered(tree: Tree, kept: set[str]) -> set[str]:
    """Those of these nodes that are no user message without a reply among them."""
    answered = {node.parent for node in tree.nodes if node.id in kept}
    return {node for node in kept if tree.node(node).role == "assistant" or node in answered}


def net_wins(replies: Sequence[str], verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Reply id -> comparisons it won minus comparisons it lost; ties and missing verdicts count for nobody."""
    wins = dict.fromkeys(replies, 0)
    for verdict in verdicts:
        if verdict.outcome in ("a", "b") and verdict.a in wins and verdict.b in wins:
            first_won = verdict.outcome == "a"
            wins[verdict.a] += 1 if first_won else -1
            wins[verdict.b] -= 1 if first_won else -1
    return wins


def _html(tree: Tree, notes: Mapping[str, Sequence[str]]) -> str:
    # Parents first: turns never fall along a link, and a user's message stands before its answers.
    nodes = sorted(tree.nodes, key=lambda node: (node.turn, node.role == "assistant"))
    title = f"tree {tree.id} of {tree.run}, persona {tree.persona}, {len(nodes):,} messages, {nodes[-1].turn:,} turns"
    named = (", ".join([node.label, *notes.get(node.id, ())]) for node in nodes)
    return tree_html(title, [Drawn(n.id, n.parent, n.role, by, n.text) for n, by in zip(nodes, named, strict=True)])
