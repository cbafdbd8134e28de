"""The audit of a simulated user: every message of a conversation beside the persona that is to be played.

Rules on words, so that it costs nothing and says the same every time. What contradicts a persona is a question of
meaning: the rules know it of the embedded world's personas and of ages, and a judge is asked for the rest.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Final, cast

from pydantic import JsonValue

from interalign.agents.audit import ANSWERS, COPIES, ENDS, REFUSES, REPEATS, THIRD_PERSON, marks_with_evidence
from interalign.agents.leaks import FUNCTION_WORDS
from interalign.models.world.consistency import candidate_sentence, contradictions, style_shown
from interalign.models.world.people import read_person
from interalign.personas import Persona
from interalign.records import AUDITED, FINDING
from interalign.tree import Annotation, Frozen, JudgedTree, Node, Tree

RULES: Final = "rules"
CONTRADICTS, RECITES, STALLS, DRIFTS = (
    "contradicts the persona",
    "recites the profile",
    "stalls",
    "drifts from the persona's style",
)
KINDS: Final = (CONTRADICTS, RECITES, ANSWERS, THIRD_PERSON, REFUSES, COPIES, REPEATS, ENDS, STALLS, DRIFTS)
"""All kinds of findings, in the order in which they are shown."""
PASSAGE: Final = 6
"""So many words in a row that a message has from the personality are a recital of it."""
_RUN: Final = 0.6
"""A fact is stated in the profile's words if the message has so large a share of them in a row, of few words all."""
_MANY_WORDS: Final = 25
"""A shorter message repeats another one only word by word: of few words a new one may say something else."""
_WORD: Final = re.compile(r"\w+(?:['\u2019]\w+)*")
_AGE: Final = re.compile(r"\b(?:i am|i'm|i\u2019m) (?:a )?(\d{2})(?=[ -]years?[ -]old\b|[.,;!]|$| and )", re.IGNORECASE)
_PROFILE_AGE: Final = re.compile(r"\b(\d{2})[ -]years?[ -]old\b|\bage[d:]? ?(\d{2})\b|\bI am (\d{2})\b", re.IGNORECASE)
_YES_OR_NO: Final = "yes yeah yep no nope sure very much a lot fine right true exactly"
_ASSENT: Final = (
    "ok okay thanks thank you thx great nice cool good perfect alright wonderful awesome hm hmm mhm i see got it that "
    "sounds makes sense so understood noted indeed oh ah well interesting agreed"
)
_EMOJI: Final = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_ADVICE: Final = re.compile(
    r"\byou (?:should|could|can|might|may|must|need to|will want to)\b|^(?:try|consider) ", re.I
)
_SELF: Final = re.compile(r"\b(?:i|i'm|i\u2019m|i've|i\u2019ve|i'd|i\u2019d|i'll|me|my|mine|we|our|us)\b", re.I)


class Finding(Frozen):
    """One thing that is wrong with a user's message."""

    node: str
    turn: int
    kind: str
    """One of KINDS."""
    evidence: str
    """The words that show it, of this message or of the one that it repeats; a judge's reasons."""


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
        users = [
            node for node in path if ANSWERS not in found[node.id]
        ]  # the assistant's part has not the user's style
        for node_id, evidence in _drifts(users, persona):
            found[node_id].setdefault(DRIFTS, evidence)
    turns = {node.id: node.turn for node in tree.nodes}
    return [
        Finding(node=node_id, turn=turns[node_id], kind=kind, evidence=kinds[kind])
        for node_id, kinds in found.items()
        for kind in KINDS
        if kind in kinds
    ]


def as_annotations(tree: Tree, findings: Iterable[Finding], by: str) -> list[Annotation]:
    """The findings as they are stored: one annotation a message, and one that says that the tree was audited."""
    by_node: dict[str, list[dict[str, str]]] = {}
    for one in findings:
        by_node.setdefault(one.node, []).append({"kind": one.kind, "evidence": one.evidence})
    return [
        *(Annotation(node=node.id, name=AUDITED, by=by, value=True) for node in tree.nodes[:1]),
        *(Annotation(node=node, name=FINDING, by=by, value=cast(JsonValue, found)) for node, found in by_node.items()),
    ]


def stored_findings(judged: JudgedTree) -> dict[str, list[Finding]]:
    """What an audit stored about a tree, by who found it: `rules` or a judge's name."""
    by_author: dict[str, list[Finding]] = {note.by: [] for note in judged.annotations if note.name == AUDITED}
    for note in judged.annotations:
        if note.name == FINDING and isinstance(note.value, list):
            turn = judged.tree.node(note.node).turn
            values = [value for value in note.value if isinstance(value, Mapping)]
            by_author.setdefault(note.by, []).extend(
                Finding(node=note.node, turn=turn, kind=str(each["kind"]), evidence=str(each["evidence"]))
                for each in values
            )
    return by_author


_OF_A_JUDGE: Final = {
    "contradiction": CONTRADICTS,
    "recital": RECITES,
    "assistant": ANSWERS,
    "stall": STALLS,
    "style": DRIFTS,
}


def judged_findings(node: Node, words: Iterable[str], reply: str) -> list[Finding]:
    """What a judge said is wrong with a message, its words as evidence."""
    return [Finding(node=node.id, turn=node.turn, kind=_OF_A_JUDGE[word], evidence=reply) for word in words]


def faulty_messages(judged: JudgedTree, persona: Persona | None) -> set[str]:
    """Ids of the user's messages with a finding, of the rules as they are now or of a judge's audit on record."""
    stored = [each for by, findings in stored_findings(judged).items() if by != RULES for each in findings]
    return {each.node for each in (*audit_tree(judged.tree, persona), *stored)}


def _in_message(node: Node, before: Sequence[Node], persona: Persona) -> dict[str, str]:
    said, heard = ([each.text for each in before if each.role == role] for role in ("user", "assistant"))
    reply = heard[-1] if heard else ""
    found = marks_with_evidence(node.text, said, heard)
    person = read_person(persona.profile, persona.personality)
    more = {
        CONTRADICTS: "; ".join(
            [*(contradictions(person, node.text) if person else []), *_other_age(persona, node.text)]
        ),
        RECITES: "; ".join(_recited(persona, node.text, reply)),
        ANSWERS: candidate_sentence(node.text) or _advice(node.text),
        STALLS: node.text if heard and _says_nothing(node.text, reply) else "",
    }
    all_found = {**{kind: evidence for kind, evidence in more.items() if evidence}, **found}
    if REPEATS in all_found and (RECITES in all_found or _differs(node.text, all_found[REPEATS])):
        del all_found[REPEATS]  # two recitals are alike because each is one
    return all_found


def _differs(text: str, other: str) -> bool:
    """Whether a short message and one that is much like it differ in any word."""
    words = _words(text)
    return len(words) < _MANY_WORDS and words != _words(other)


def _other_age(persona: Persona, text: str) -> Iterator[str]:
    """An age that the message gives the user, where the profile gives another."""
    ages = {next(filter(None, groups)) for line in persona.profile for groups in _PROFILE_AGE.findall(line)}
    yield from (
        f"{match[0]} (profile: {', '.join(sorted(ages))})" for match in _AGE.finditer(text) if ages - {match[1]}
    )


def _recited(persona: Persona, text: str, reply: str) -> list[str]:
    """The facts stated in the profile's own words, where they are more than one and more than were asked for."""
    said = _words(text)
    stated = [fact for fact in persona.profile if _is_stated(_words(fact), said)]
    asked = max(1, reply.count("?"))
    of_style = _longest_run(_words(persona.personality), said)
    style = [] if len(of_style) < PASSAGE else [" ".join(of_style)]
    return [*(stated if len(stated) > asked else []), *style]


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


def _words(text: str) -> list[str]:
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.lower())]


def _advice(text: str) -> str:
    """The advice in a message that gives some, asks nothing and does not speak of itself."""
    advice = _ADVICE.search(text)
    return advice[0].strip() if advice and "?" not in text and not _SELF.search(text) else ""


def _says_nothing(text: str, reply: str) -> bool:
    """Whether a message takes the talk nowhere: words of assent or thanks alone, where nothing was asked."""
    words = _words(text)
    if not words:
        return True
    empty = _ASSENT if "?" in reply else f"{_ASSENT} {_YES_OR_NO}"
    return "?" not in text and set(words) <= set(empty.split())


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


def _drifts(path: Sequence[Node], persona: Persona) -> Iterator[tuple[str, str]]:
    """Ids of the messages whose style is another than the persona's, each with what shows it."""
    person = read_person(persona.profile, persona.personality)
    yield from _drifts_in_length(path) if person is None else _drifts_in_the_world(path, person.style)


def _drifts_in_the_world(path: Sequence[Node], style: Sequence[bool]) -> Iterator[tuple[str, str]]:
    """A mark that the persona never shows; or none of its own marks, five missing in a row or three at once.

    A mark is missing by chance in a fifth of the messages: five times in a row that is rarer than one in 3,000.
    """
    names = ("small talk", "an emoji", "an exclamation mark")
    quiet: list[Node] = []
    for node in path:
        shown = style_shown(node.text)
        strange = [name for name, is_shown, own in zip(names, shown, style, strict=True) if is_shown and not own]
        if strange:
            yield node.id, "shows " + ", ".join(strange)
        quiet = [] if any(shown) else [*quiet, node]
        missing = sum(style) * len(quiet)
        if missing >= 5 or (sum(style) == 3 and missing >= 3):
            yield from ((each.id, "shows nothing of the persona's style") for each in quiet)


def _drifts_in_length(path: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """After three messages: four times as long as the middle one of those before, or a quarter of it; first emoji."""
    lengths = [len(_words(node.text)) for node in path]
    emoji = [bool(_EMOJI.search(node.text)) for node in path]
    for place, node in enumerate(path):
        if place < 3:
            continue
        usual = median(lengths[:place])
        if lengths[place] > 4 * max(usual, 8) or (lengths[place] < usual / 4 and usual >= 16):
            yield node.id, f"{lengths[place]} words, {usual:g} before"
        elif emoji[place] != emoji[place - 1] and len(set(emoji[:place])) == 1 and place >= 4:
            yield node.id, "the first emoji" if emoji[place] else "no emoji any more"
