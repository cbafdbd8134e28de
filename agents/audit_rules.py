"""Rules of the audit: every message of a simulated user beside the persona that is to be played.

Rules on words, so that it costs nothing and says the same every time. What contradicts a persona is a question of
meaning: the rules know it of the embedded world's personas and of ages, and a judge is asked for the rest.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from interalign.agents.assent import is_assent, words_of
from interalign.agents.audit import ANSWERS, REPEATS, THIRD_PERSON, marks_with_evidence, unquoted
from interalign.agents.audit_style import drifts
from interalign.agents.findings import CONTRADICTS, DRIFTS, KINDS, RECITES, RULES, STALLS, Finding, stored_findings
from interalign.agents.leaks import FUNCTION_WORDS, content_stems
from interalign.models.world.consistency import candidate_sentence, contradictions
from interalign.models.world.people import read_person
from interalign.personas import Persona
from interalign.tree import JudgedTree, Node, Tree

PASSAGE: Final = 6
"""So many words in a row that a message has from the personality are a recital of it."""
_RUN: Final = 0.6
"""A fact is stated in the profile's words if the message has so large a share of them in a row, of few words all."""
_MANY_WORDS: Final = 25
"""A shorter message repeats another one only word by word: of few words a new one may say something else."""
_AGE: Final = re.compile(r"\b(?:i am|i'm|i\u2019m) (?:a )?(\d{2})(?=[ -]years?[ -]old\b|[.,;!]|$| and )", re.IGNORECASE)
_PROFILE_AGE: Final = re.compile(r"\b(\d{2})[ -]years?[ -]old\b|\bage[d:]? ?(\d{2})\b|\bI am (\d{2})\b", re.IGNORECASE)
_ADVICE: Final = re.compile(
    r"\byou (?:should(?! (?:hear|see))|could|can|might|may|must|need to|will want to)\b|^(?:try|consider) ", re.I
)
_AGE_OF_SOMEBODY: Final = re.compile(r"\b(\d{2})[ -]years?[ -]old\b", re.IGNORECASE)
_FEW_STEMS: Final = 5
"""Of fewer content words it cannot be said whether they repeat a message in other words."""
_SAME_STEMS: Final = 0.6
"""Share of a message's content words that an earlier one has, from which on it brings nothing new."""
_MANY_FACTS: Final = 3
"""So many facts in words of its own, and more than were asked for, are a recital."""
_SELF: Final = re.compile(r"\b(?:i|i'm|i\u2019m|i've|i\u2019ve|i'd|i\u2019d|i'll|me|my|mine|we|our|us)\b", re.I)
_NOBODY: Final = Persona.model_construct(id="", profile=(), personality="")


def audit_tree(tree: Tree, persona: Persona | None) -> list[Finding]:
    """What the rules find in the user's messages of a tree, in stored order of the messages, then of KINDS.

    Without a persona, as imported conversations are, nothing is said about one.
    """
    persona = persona or _NOBODY
    found: dict[str, dict[str, str]] = {node.id: {} for node in tree.nodes if node.role == "user"}
    for node in tree.nodes:
        if node.role == "user":
            found[node.id].update(_in_message(node, tree.path(node.id)[:-1], persona))
    for path in _paths(tree):
        # The assistant's part has not the user's style.
        users = [node for node in path if ANSWERS not in found[node.id]]
        for node_id, evidence in drifts(users, persona):
            found[node_id].setdefault(DRIFTS, evidence)
    turns = {node.id: node.turn for node in tree.nodes}
    return [
        Finding(node=node_id, turn=turns[node_id], kind=kind, evidence=kinds[kind])
        for node_id, kinds in found.items()
        for kind in KINDS
        if kind in kinds
    ]


def faulty_messages(judged: JudgedTree, persona: Persona | None) -> set[str]:
    """Ids of the user's messages with a finding, of the rules as they are now or of a judge's audit on record."""
    stored = [each for by, findings in stored_findings(judged).items() if by != RULES for each in findings]
    return {each.node for each in (*audit_tree(judged.tree, persona), *stored)}


def _in_message(node: Node, before: Sequence[Node], persona: Persona) -> dict[str, str]:
    said, heard = ([each.text for each in before if each.role == role] for role in ("user", "assistant"))
    reply = heard[-1] if heard else ""
    text = unquoted(node.text)
    found = marks_with_evidence(node.text, said, heard)
    person = read_person(persona.profile, persona.personality)
    more = {
        CONTRADICTS: "; ".join([*(contradictions(person, node.text) if person else []), *_other_age(persona, text)]),
        RECITES: "; ".join(_recited(persona, node.text, reply, of_the_world=person is not None)),
        ANSWERS: candidate_sentence(node.text) or _advice(text),
        THIRD_PERSON: _tells_of_itself(persona, text),
        STALLS: node.text if heard and is_assent(node.text, reply) else "",
    }
    all_found = {**{kind: evidence for kind, evidence in more.items() if evidence}, **found}
    if REPEATS in all_found and (RECITES in all_found or _differs(node.text, all_found[REPEATS])):
        del all_found[REPEATS]  # two recitals are alike because each is one
    if person is None and not {REPEATS, RECITES} & all_found.keys() and (earlier := _said_before(node.text, said)):
        all_found[REPEATS] = earlier
    return all_found


def _differs(text: str, other: str) -> bool:
    """Whether a short message and one that is much like it differ in any word."""
    words = words_of(text)
    return len(words) < _MANY_WORDS and words != words_of(other)


def _tells_of_itself(persona: Persona, text: str) -> str:
    """The persona's age in a message that speaks of somebody and never in the first person."""
    ages = _ages(persona)
    found = next((match for match in _AGE_OF_SOMEBODY.finditer(text) if match[1] in ages), None)
    return found[0] if found and not _SELF.search(text) else ""


def _said_before(text: str, earlier: Sequence[str]) -> str:
    """The earlier message that has most content words of this one, in whatever order and form."""
    own = content_stems(text)
    if len(own) < _FEW_STEMS:
        return ""
    return next((other for other in earlier if len(own & content_stems(other)) >= _SAME_STEMS * len(own)), "")


def _other_age(persona: Persona, text: str) -> Iterator[str]:
    """An age that the message gives the user, where the profile gives another."""
    ages = _ages(persona)
    yield from (
        f"{match[0]} (profile: {', '.join(sorted(ages))})" for match in _AGE.finditer(text) if ages - {match[1]}
    )


def _ages(persona: Persona) -> set[str]:
    return {next(filter(None, groups)) for line in persona.profile for groups in _PROFILE_AGE.findall(line)}


def _recited(persona: Persona, text: str, reply: str, *, of_the_world: bool) -> list[str]:
    """The facts stated in the profile's own words, where they are more than one and more than were asked for.

    Of any persona but the world's, whose facts share their words, also three facts in other words.
    """
    said = words_of(text)
    stated = [fact for fact in persona.profile if _is_stated(words_of(fact), said)]
    asked = max(1, reply.count("?"))
    of_style = _longest_run(words_of(persona.personality), said)
    style = [] if len(of_style) < PASSAGE else [" ".join(of_style)]
    if len(stated) <= asked and not of_the_world:
        stated = _reworded(persona, text)
        asked = max(asked, _MANY_FACTS - 1)
    return [*(stated if len(stated) > asked else []), *style]


def _reworded(persona: Persona, text: str) -> list[str]:
    """The facts of which the message has half of the content words."""
    said = content_stems(text)
    facts = ((fact, content_stems(fact)) for fact in persona.profile)
    return [fact for fact, stems in facts if stems and len(stems & said) >= len(stems) / 2]


def _is_stated(fact: Sequence[str], said: Sequence[str]) -> bool:
    run = _longest_run(fact, said)
    return len(run) >= min(len(fact), max(5, _RUN * len(fact))) and not FUNCTION_WORDS.issuperset(run)


def _longest_run(words: Sequence[str], said: Sequence[str]) -> Sequence[str]:
    """The longest run of these words that the message has too, in the same order and without a gap."""
    best: Sequence[str] = ()
    lengths = [0] * (len(said) + 1)
    for end, word in enumerate(words, 1):
        previous = lengths
        lengths = [0] * (len(said) + 1)
        for place, other in enumerate(said, 1):
            if word == other:
                lengths[place] = previous[place - 1] + 1
                if lengths[place] > len(best):
                    best = words[end - lengths[place] : end]
    return best


def _advice(text: str) -> str:
    """The advice in a message that gives some, asks nothing and does not speak of itself."""
    advice = _ADVICE.search(text)
    return advice[0].strip() if advice and "?" not in text and not _SELF.search(text) else ""


def _paths(tree: Tree) -> Iterator[list[Node]]:
    """The user's messages on the way to each message that nobody answers any more."""
    parents = {node.parent for node in tree.nodes}
    seen = set[tuple[str, ...]]()
    for node in tree.nodes:
        if node.id not in parents:
            path = [each for each in tree.path(node.id) if each.role == "user"]
            key = tuple(each.id for each in path)
            if key not in seen:
                seen.add(key)
                yield path
