"""The audit of a simulated user: every message of a conversation beside the persona that is to be played.

Rules on words, so that it costs nothing and says the same every time. What contradicts a persona is a question of
meaning: the rules know it of the embedded world's personas and of ages, and a judge is asked for the rest.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Final, cast

from pydantic import JsonValue

from interalign.agents.audit import ANSWERS, COPIES, ENDS, REFUSES, REPEATS, THIRD_PERSON, marks_with_evidence, unquoted
from interalign.agents.leaks import FUNCTION_WORDS, content_stems
from interalign.models.world.consistency import candidate_sentence, contradictions, style_shown
from interalign.models.world.people import read_person
from interalign.personas import Persona
from interalign.tree import Annotation, Frozen, JudgedTree, Node, Tree

FINDING: Final = "finding"
"""Name of the annotation at a user's message: a list of `{"kind", "evidence"}`, by `rules` or by a judge's name."""
AUDITED: Final = "audited"
"""Name of the annotation at the first message of a tree that was audited, by who did it, whatever was found."""
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


def _of(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD: Final = re.compile(r"\w+(?:['\u2019]\w+)*")
_AGE: Final = re.compile(r"\b(?:i am|i'm|i\u2019m) (?:a )?(\d{2})(?=[ -]years?[ -]old\b|[.,;!]|$| and )", re.IGNORECASE)
_PROFILE_AGE: Final = re.compile(r"\b(\d{2})[ -]years?[ -]old\b|\bage[d:]? ?(\d{2})\b|\bI am (\d{2})\b", re.IGNORECASE)
_ASSENT: Final = _of(
    "ok okay thanks thank you thx ta cheers great nice cool good perfect alright wonderful awesome lovely brilliant "
    "sound hm hmm mhm i see got it that sounds makes sense so understood noted indeed oh ah well interesting agreed"
)
_YES_OR_NO: Final = _of("yes yeah yep no nope sure very much a lot fine right true exactly")
_AROUND_ASSENT: Final = _of(
    "a all and bro buddy dear dude for fair enough haha hehe just know madam man mate most much my ngl now on one "
    "really right sir tbf tbh that's this to very your advice help info tip tips"
)
"""Words that say nothing either, beside one of assent."""
_EMOJI: Final = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
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
_TERSE: Final = re.compile(
    r"\b(?:very short|(?:one|a) (?:line|word)|terse|curt|clipped|few words|as few words|telegram)\b", re.IGNORECASE
)
_LONG: Final = 40
"""Words of a message that nobody writes who is said to write very short ones."""
_NO_EMOJI: Final = re.compile(
    r"\b(?:no|never|without|not(?! mind)|hates?|dislikes?)\b[^.;]{0,25}\bemojis?\b", re.IGNORECASE
)
_SMALL_LETTERS: Final = re.compile(r"\blower[ -]?case\b|\bno capitals?\b", re.IGNORECASE)
_CAPITALISED: Final = re.compile(r"(?:\A|[.!?]\s+)[A-Z][a-z]")
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
    text = unquoted(node.text)
    found = marks_with_evidence(node.text, said, heard)
    person = read_person(persona.profile, persona.personality)
    more = {
        CONTRADICTS: "; ".join([*(contradictions(person, node.text) if person else []), *_other_age(persona, text)]),
        RECITES: "; ".join(_recited(persona, node.text, reply)),
        ANSWERS: candidate_sentence(node.text) or _advice(text),
        THIRD_PERSON: _tells_of_itself(persona, text),
        STALLS: node.text if heard and _says_nothing(node.text, reply) else "",
    }
    all_found = {**{kind: evidence for kind, evidence in more.items() if evidence}, **found}
    if REPEATS in all_found and (RECITES in all_found or _differs(node.text, all_found[REPEATS])):
        del all_found[REPEATS]  # two recitals are alike because each is one
    if person is None and not {REPEATS, RECITES} & all_found.keys() and (earlier := _said_before(node.text, said)):
        all_found[REPEATS] = earlier
    return all_found


def _differs(text: str, other: str) -> bool:
    """Whether a short message and one that is much like it differ in any word."""
    words = _words(text)
    return len(words) < _MANY_WORDS and words != _words(other)


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


def _recited(persona: Persona, text: str, reply: str) -> list[str]:
    """The facts stated in the profile's own words, where they are more than one and more than were asked for."""
    said = _words(text)
    stated = [fact for fact in persona.profile if _is_stated(_words(fact), said)]
    asked = max(1, reply.count("?"))
    of_style = _longest_run(_words(persona.personality), said)
    style = [] if len(of_style) < PASSAGE else [" ".join(of_style)]
    if len(stated) <= asked and not read_person(persona.profile, persona.personality):
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


def _words(text: str) -> list[str]:
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.lower())]


def _advice(text: str) -> str:
    """The advice in a message that gives some, asks nothing and does not speak of itself."""
    advice = _ADVICE.search(text)
    return advice[0].strip() if advice and "?" not in text and not _SELF.search(text) else ""


def _says_nothing(text: str, reply: str) -> bool:
    """Whether a message takes the talk nowhere: words of assent or thanks alone, where nothing was asked."""
    words = set(_words(text))
    if not words:
        return True
    assent = _ASSENT if "?" in reply else _ASSENT | _YES_OR_NO
    return "?" not in text and bool(words & assent) and words <= assent | _AROUND_ASSENT


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
    if person is not None:
        yield from _drifts_in_the_world(path, person.style)
        return
    yield from _against_the_personality(path, persona.personality)
    yield from _drifts_in_length(path)


def _against_the_personality(path: Sequence[Node], personality: str) -> Iterator[tuple[str, str]]:
    """What a personality says in so many words of length, small letters and emoji, and a message does not keep to."""
    for node in path:
        words = len(_words(node.text))
        if _TERSE.search(personality) and words > _LONG:
            yield node.id, f"{words} words of somebody terse"
        elif _NO_EMOJI.search(personality) and _EMOJI.search(node.text):
            yield node.id, "an emoji"
        elif _SMALL_LETTERS.search(personality) and len(_CAPITALISED.findall(node.text)) >= 2:
            yield node.id, "sentences with capitals"


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
    path = [node for node in path if not _says_nothing(node.text, "")]  # too short to have a style
    lengths = [len(_words(node.text)) for node in path]
    emoji = [bool(_EMOJI.search(node.text)) for node in path]
    for place, node in enumerate(path):
        if place < 3:
            continue
        usual = median(lengths[:place])
        if lengths[place] > 4 * max(usual, 12) or (lengths[place] < usual / 4 and usual >= 16):
            yield node.id, f"{lengths[place]} words, {usual:g} before"
        elif emoji[place] != emoji[place - 1] and len(set(emoji[:place])) == 1 and place >= 4:
            yield node.id, "the first emoji" if emoji[place] else "no emoji any more"
