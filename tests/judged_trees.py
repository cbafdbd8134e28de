"""Small conversation trees with what a judge said about them, written by hand."""

from interalign.personas import Persona
from interalign.training.user_seats import UserSeats
from interalign.tree import JudgedTree, Node, Presentation, Score, Tree, Verdict

P0 = Persona(id="p0", profile=("I keep bees.",), personality="Dry and short.")
"""The persona of these trees."""


def seats(run=None) -> UserSeats:
    """The user's seat in trees of this run, of whose personas only P0 is known."""
    return UserSeats(run, {"p0": P0}.get)


def user(node_id: str, text: str, *, parent: str | None = None, turn: int = 1) -> Node:
    return Node(id=node_id, parent=parent, turn=turn, role="user", text=text, by="user")


def reply(node_id: str, text: str, *, parent: str, turn: int = 1, by: str = "a", hinted: bool = False) -> Node:
    return Node(id=node_id, parent=parent, turn=turn, role="assistant", text=text, by=by, hinted=hinted)


def one_turn(*texts: str) -> Tree:
    """One user message `u` and the replies `1`, `2`, ... to it."""
    replies = [reply(str(number), text, parent="u") for number, text in enumerate(texts, start=1)]
    return tree(user("u", "What shall I cook?"), *replies)


def tree(*nodes: Node, tree_id: str = "t0", persona: str = "p0") -> Tree:
    return Tree(id=tree_id, run="run", persona=persona, seed=0, nodes=nodes)


def said(about: Tree, *sayings: Verdict | Score) -> JudgedTree:
    """The tree with these verdicts and scores."""
    return JudgedTree(
        tree=about,
        verdicts=tuple(saying for saying in sayings if isinstance(saying, Verdict)),
        scores=tuple(saying for saying in sayings if isinstance(saying, Score)),
    )


def prefers(better: str, worse: str) -> Verdict:
    """Both orders agree; the ids' own order decides which of the two is called `a`."""
    a, b = sorted((better, worse))
    return _verdict(a, b, better, better)


def ties(a: str, b: str) -> Verdict:
    """Each reply wins when it is shown first: a judge with a bias for the first place."""
    return _verdict(a, b, a, b)


def half_missing(a: str, b: str) -> Verdict:
    """The first order prefers `a`; of the second no reply could be read."""
    return _verdict(a, b, a, None)


def score(node: str, value: int | None) -> Score:
    return Score(judge="j", node=node, replies=(f"Score: {value}",), value=value)


def _verdict(a: str, b: str, first_winner: str, second_winner: str | None) -> Verdict:
    return Verdict(judge="j", a=a, b=b, orders=(_shown(a, b, first_winner), _shown(b, a, second_winner)))


def _shown(first: str, second: str, winner: str | None) -> Presentation:
    choice = None if winner is None else "A" if winner == first else "B"
    answer = "I cannot say." if choice is None else f"Verdict: {choice}"
    return Presentation(first=first, second=second, replies=(answer,), value=choice)


def two_judged_turns() -> JudgedTree:
    """Turn 1 prefers `1` to `2`, the conversation goes on with `2`, turn 2 prefers `2/1`."""
    grown = tree(
        user("u", "Hi."),
        reply("1", "Hello!", parent="u"),
        reply("2", "Yes?", parent="u"),
        user("2u", "I like tea.", parent="2", turn=2),
        reply("2/1", "Green tea?", parent="2u", turn=2),
        reply("2/2", "Coffee?", parent="2u", turn=2),
    )
    return said(grown, prefers("1", "2"), prefers("2/1", "2/2"))
