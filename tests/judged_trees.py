"""Small conversation trees with what a judge said about them, written by hand."""

from interalign.personas import Persona
from interalign.training.user_seats import UserSeats
from interalign.tree import Annotation, Choice, JudgedTree, Node, Presentation, Score, Tree, Verdict

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


def path(*texts: str, tree_id: str = "t0", persona: str = "p0") -> Tree:
    """A conversation without siblings of these messages, the user's first."""
    nodes: list[Node] = []
    at = None
    for turn, text in enumerate(texts, start=2):
        if turn % 2 == 0:
            nodes.append(user(f"{at}/u" if at else "u", text, parent=at, turn=turn // 2))
        else:
            at = f"{at}/1" if at else "1"
            nodes.append(reply(at, text, parent=nodes[-1].id, turn=turn // 2))
    return tree(*nodes, tree_id=tree_id, persona=persona)


def said(about: Tree, *sayings: Verdict | Score | Annotation) -> JudgedTree:
    """The tree with these verdicts, scores and annotations."""
    return JudgedTree(
        tree=about,
        verdicts=tuple(saying for saying in sayings if isinstance(saying, Verdict)),
        scores=tuple(saying for saying in sayings if isinstance(saying, Score)),
        annotations=tuple(saying for saying in sayings if isinstance(saying, Annotation)),
    )


def prefers(better: str, worse: str) -> Verdict:
    """Both orders agree; the ids' own order decides which of the two is called `a`."""
    a, b = sorted((better, worse))
    return verdict(a, b, *(("A", "B") if better == a else ("B", "A")))


def ties(a: str, b: str) -> Verdict:
    """Each reply wins when it is shown first: a judge with a bias for the first place."""
    return verdict(a, b, "A", "A")


def half_missing(a: str, b: str) -> Verdict:
    """The first order prefers `a`; of the second no reply could be read."""
    return verdict(a, b, "A", None)


def score(node: str, value: int | None, judge: str = "j", **aspects: float) -> Score:
    return Score(judge=judge, node=node, replies=(f"Score: {value}",), value=value, aspects=aspects)


def verdict(a: str, b: str, forth: Choice | None, back: Choice | None, judge: str = "j") -> Verdict:
    """What was said of (`a`, `b`) and of (`b`, `a`); None is an answer that could not be read."""
    return Verdict(judge=judge, a=a, b=b, orders=(_shown(a, b, forth), _shown(b, a, back)))


def _shown(first: str, second: str, choice: Choice | None) -> Presentation:
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
