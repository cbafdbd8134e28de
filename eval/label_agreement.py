"""How far one person's labels agree with those of the others and of the judges, once they are given."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from interalign.eval.rates import Rate, rate_over_profiles
from interalign.records import Label
from interalign.store import Store
from interalign.tree import JudgedTree

Key = tuple[str, str, str | None]
"""What a label is about: tree, reply, the other reply or None."""


class LabelAgreement(NamedTuple):
    """One person's answers beside another's, or a judge's."""

    other: str
    is_judge: bool
    same: Rate
    """Of the questions that both answered, those with the same answer."""
    close: Rate | None
    """Scores: those at most one point apart; None of pairs."""
    differing: tuple[Key, ...]
    """The questions with another answer."""


def agreements(store: Store, who: str) -> list[LabelAgreement]:
    """With every other person, then with every judge, of those who answered one of the same questions."""
    labels = store.labels()
    mine = {label.key: label.answer for label in labels if label.who == who}
    trees = {tree: judged for tree in {key[0] for key in mine} if (judged := store.judged_tree(tree)) is not None}
    profiles = _profiles(store, trees)
    people = {name: _of_person(labels, name) for name in sorted({label.who for label in labels} - {who})}
    judges = {name: dict(_of_judge(name, mine, trees)) for name in store.judges()}
    found = [_agreement(name, False, mine, theirs, profiles) for name, theirs in people.items()]
    found += [_agreement(name, True, mine, theirs, profiles) for name, theirs in judges.items()]
    return [each for each in found if each.same.n]


def _profiles(store: Store, trees: Mapping[str, JudgedTree]) -> dict[str, tuple[str, ...]]:
    """Tree -> what its questions depend on together: the persona's profile, or the tree itself."""
    personas = store.personas()
    met = {tree: personas.get(judged.tree.persona) for tree, judged in trees.items()}
    return {tree: (tree,) if persona is None else persona.profile for tree, persona in met.items()}


def _of_person(labels: Sequence[Label], name: str) -> dict[Key, str]:
    return {label.key: label.answer for label in labels if label.who == name}


def _of_judge(name: str, asked: Mapping[Key, str], trees: Mapping[str, JudgedTree]) -> Iterator[tuple[Key, str]]:
    """What the judge said to these questions, as labels have it; the mean of a panel rounded half up."""
    for tree, judged in trees.items():
        seen = judged.by_judge(name)
        for verdict in seen.verdicts:
            for key in ((tree, verdict.a, verdict.b), (tree, verdict.b, verdict.a)):
                if key in asked and verdict.outcome != "missing":
                    winner = {"a": verdict.a, "b": verdict.b}.get(verdict.outcome)
                    yield key, {key[1]: "a", key[2]: "b"}.get(winner or "", "tie")
        for score in seen.scores:
            if (tree, score.node, None) in asked and score.value is not None:
                yield (tree, score.node, None), str(int(score.value + 0.5))


def _agreement(
    other: str,
    is_judge: bool,
    mine: Mapping[Key, str],
    theirs: Mapping[Key, str],
    profiles: Mapping[str, tuple[str, ...]],
) -> LabelAgreement:
    both = [key for key in mine if key in theirs]
    scores = [key for key in both if key[2] is None]

    def rate(keys: Sequence[Key], apart: int) -> Rate:
        return rate_over_profiles(
            [(profiles.get(key[0], (key[0],)), _distance(mine[key], theirs[key]) <= apart) for key in keys]
        )

    differing = tuple(key for key in both if mine[key] != theirs[key])
    return LabelAgreement(other, is_judge, rate(both, 0), rate(scores, 1) if scores else None, differing)


def _distance(one: str, other: str) -> int:
    """Points between two scores; of pairs 0 for the same answer, else more than any score can be apart."""
    if one.isdigit() and other.isdigit():
        return abs(int(one) - int(other))
    return 0 if one == other else 9
