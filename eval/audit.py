"""What an audit found of a simulated user: rates, disclosure, and what it does to the scores.

Findings are those stored in the run file by `interalign audit`. Numbers in, numbers out; the command prints them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from pydantic import JsonValue

from interalign.agents.findings import KINDS, RULES, Finding, stored_findings
from interalign.eval.disclosed import disclosed
from interalign.eval.rates import Profile, Rate, rate_over_profiles
from interalign.personas import Persona
from interalign.records import split_case
from interalign.store import Store
from interalign.tree import JudgedTree, Node

LOW: Final = 2
"""A score up to this is low."""
_EXAMPLES: Final = 3
"""Findings of a kind that are shown as examples."""


class Disclosure(NamedTuple):
    """How the persona came to light, over all paths. A rule on words says what counts as told (`eval/disclosed.py`)."""

    by_turn: tuple[float | None, ...]
    """Mean share of the profile's facts that were told by turn 1..K."""
    n_by_turn: tuple[int, ...]
    """Paths that reached that turn."""
    at_once: Rate
    """Facts told in the first turn, of all that were told."""
    asked: Rate
    """Facts told right after a reply with a question, of those told after the first turn."""


class AffectedScores(NamedTuple):
    """A candidate's mean score of all its replies, and without those that answer a message with a finding."""

    name: str
    mean: float | None
    n: int
    mean_without: float | None
    n_without: int


class Located(NamedTuple):
    """A finding with the tree it is in and who found it."""

    tree: str
    by: str
    finding: Finding


class Audit(NamedTuple):
    """What is known of the simulated user of a run."""

    by: tuple[str, ...]
    """Who audited: `rules`, names of judges."""
    conversations: int
    messages: int
    profiles: int
    findings: Mapping[str, Rate]
    """Kind -> messages that have it."""
    any: Rate
    """Messages with a finding of any kind."""
    by_turn: tuple[Rate, ...]
    """Messages with a finding of any kind, of turn 1..K."""
    disclosure: Disclosure
    low_scores: Rate
    """Scores of 1 or 2 that answer a message with a finding, of all scores of 1 or 2."""
    all_scores: Rate
    """The same of all scores: what to compare `low_scores` with."""
    candidates: tuple[AffectedScores, ...]
    each: tuple[Located, ...]
    """All findings, in stored order."""
    by_user: Mapping[str, "Audit"] = {}
    """The same of each user, where an evaluation has several."""
    unread: int = 0
    """Answers of the judge that was asked now which could not be read: those messages it did not audit."""
    failed: Mapping[str, str] = {}
    """Conversation -> why that judge could not audit it."""

    @property
    def examples(self) -> Iterator[Located]:
        """The first few findings of each kind."""
        shown = Counter[str]()
        for located in self.each:
            shown[located.finding.kind] += 1
            if shown[located.finding.kind] <= _EXAMPLES:
                yield located


class _Tally:
    """Counts trees as they pass."""

    def __init__(self) -> None:
        self.hits: dict[str, list[tuple[Profile, bool]]] = defaultdict(list)
        """What is counted -> one entry an item: its profile and whether it is so."""
        self.told: dict[int, list[float]] = defaultdict(list)
        self.scores: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        self.by: dict[str, None] = {}
        self.each: list[Located] = []
        self.trees = 0

    def add(self, judged: JudgedTree, persona: Persona | None, judge: str | None) -> None:
        profile = persona.profile if persona else (judged.tree.id,)
        by_author = stored_findings(judged)
        self.by |= dict.fromkeys(by_author)
        self.trees += 1
        kinds: dict[str, set[str]] = {node.id: set() for node in judged.tree.nodes if node.role == "user"}
        for by, findings in by_author.items():
            self.each += (Located(judged.tree.id, by, finding) for finding in findings)
            for finding in findings:
                kinds[finding.node].add(finding.kind)
        for node_id, found in kinds.items():
            for kind in KINDS:
                self.hits[kind].append((profile, kind in found))
            self.hits["any"].append((profile, bool(found)))
            self.hits[f"turn {judged.tree.node(node_id).turn}"].append((profile, bool(found)))
        if persona is not None:
            self._disclosed(judged, persona)
        if judge is not None:
            self._scored(judged.by_judge(judge), {node for node, found in kinds.items() if found}, profile)

    def _disclosed(self, judged: JudgedTree, persona: Persona) -> None:
        for path in _paths(judged):
            facts = [fact.turn for fact in disclosed(persona.profile, path)]
            asking = {node.turn + 1 for node in path if node.role == "assistant" and "?" in node.text}
            for turn in sorted({node.turn for node in path if node.role == "user"}):
                told = sum(fact is not None and fact <= turn for fact in facts)
                self.told[turn].append(told / len(facts))
            for fact in facts:
                if fact is not None:
                    self.hits["at once"].append((persona.profile, fact == 1))
                if fact is not None and fact > 1:
                    self.hits["asked"].append((persona.profile, fact in asking))

    def _scored(self, judged: JudgedTree, faulty: set[str], profile: Profile) -> None:
        for score in judged.scores:
            if score.value is not None:
                reply = judged.tree.node(score.node)
                affected = reply.parent in faulty
                self.scores[reply.by].append((float(score.value), affected))
                self.hits["scores"].append((profile, affected))
                if score.value <= LOW:
                    self.hits["low scores"].append((profile, affected))


def audit_of(store: Store) -> Audit:
    """The audit of an open run file, by the findings stored in it and the scores of its newest judge."""
    tally, judge, personas = _Tally(), store.newest_judge(), store.personas()
    user_of = _user_of(store)
    of_user = {user: _Tally() for user in user_of.values()}
    for judged in store.judged_trees():
        persona = personas.get(judged.tree.persona)
        tally.add(judged, persona, judge)
        if user_of:
            of_user[user_of[judged.tree.id]].add(judged, persona, judge)
    return _audit(tally)._replace(by_user={user: _audit(each) for user, each in of_user.items() if each.trees})


def _user_of(store: Store) -> dict[str, str]:
    """The user of each conversation, in the order of the users; empty unless an evaluation has several."""
    users = store.run.begun_with.users if store.run else ()
    if len(users) < 2:
        return {}
    numbered = ((split_case(each.case or each.id, len(users))[1], each.id) for each in store.walk_trees("done"))
    return {tree: users[number - 1] for number, tree in sorted(numbered)}


def _audit(tally: _Tally) -> Audit:
    turns = max(tally.told, default=0)
    turns = max([turns, *(int(name[5:]) for name in tally.hits if name.startswith("turn "))])
    told = [tally.told[turn] for turn in range(1, turns + 1)]
    return Audit(
        by=tuple(sorted(tally.by, key=lambda name: name != RULES)),
        conversations=tally.trees,
        messages=len(tally.hits["any"]),
        profiles=len({profile for profile, _ in tally.hits["any"]}),
        findings={kind: rate_over_profiles(tally.hits[kind]) for kind in KINDS},
        any=rate_over_profiles(tally.hits["any"]),
        by_turn=tuple(rate_over_profiles(tally.hits[f"turn {turn}"]) for turn in range(1, turns + 1)),
        disclosure=Disclosure(
            by_turn=tuple(float(np.mean(shares)) if shares else None for shares in told),
            n_by_turn=tuple(len(shares) for shares in told),
            at_once=rate_over_profiles(tally.hits["at once"]),
            asked=rate_over_profiles(tally.hits["asked"]),
        ),
        low_scores=rate_over_profiles(tally.hits["low scores"]),
        all_scores=rate_over_profiles(tally.hits["scores"]),
        candidates=tuple(_affected(name, scores) for name, scores in tally.scores.items()),
        each=tuple(tally.each),
    )


def _paths(judged: JudgedTree) -> Iterator[Sequence[Node]]:
    """The way to each last user message; its reply tells nothing of the user."""
    asked = {judged.tree.node(node.parent).parent for node in judged.tree.nodes if node.role == "user" and node.parent}
    for node in judged.tree.nodes:
        if node.role == "user" and node.id not in asked:
            yield judged.tree.path(node.id)


def _affected(name: str, scores: Sequence[tuple[float, bool]]) -> AffectedScores:
    clean = [value for value, affected in scores if not affected]
    mean_without = float(np.mean(clean)) if clean else None
    return AffectedScores(name, float(np.mean([value for value, _ in scores])), len(scores), mean_without, len(clean))


def as_json(found: Audit) -> dict[str, JsonValue]:
    """What `interalign audit --json` prints."""
    return {
        "schema": 1,
        "by": list(found.by),
        **_figures(found),
        "each": [
            {"tree": at.tree, "node": at.finding.node, "turn": at.finding.turn, "kind": at.finding.kind, "by": at.by,
             "evidence": at.finding.evidence}
            for at in found.each
        ],
        "by_user": {user: _figures(of_user) for user, of_user in found.by_user.items()},
        "unread": found.unread,
        "failed": dict(found.failed),
    }  # fmt: skip


def _figures(found: Audit) -> dict[str, JsonValue]:
    disclosure = found.disclosure
    candidates: list[JsonValue] = [
        {"name": one.name, "mean": one.mean, "n": one.n, "mean_without": one.mean_without, "n_without": one.n_without}
        for one in found.candidates
    ]
    return {
        "conversations": found.conversations,
        "messages": found.messages,
        "profiles": found.profiles,
        "findings": {kind: _rate_json(rate) for kind, rate in found.findings.items()},
        "any": _rate_json(found.any),
        "by_turn": [_rate_json(rate) for rate in found.by_turn],
        "disclosure": {
            "by_turn": list(disclosure.by_turn),
            "n_by_turn": list(disclosure.n_by_turn),
            "at_once": _rate_json(disclosure.at_once),
            "asked": _rate_json(disclosure.asked),
        },
        "low_scores": _rate_json(found.low_scores),
        "all_scores": _rate_json(found.all_scores),
        "candidates": candidates,
    }


def _rate_json(rate: Rate) -> JsonValue:
    return {"count": rate.hits, "n": rate.n, "share": rate.share, "ci": list(rate.ci) if rate.ci else None}
