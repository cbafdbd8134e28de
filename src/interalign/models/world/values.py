"""What there is in the world: six slots of twelve values, twelve topics, three features of style. Tables only."""

from typing import Final, NamedTuple


class Slot(NamedTuple):
    """One kind of fact about a person, and the words that tell it and ask for it."""

    noun: str
    tell: str
    """How a person says it of themselves, before the value: `I have a cat`."""
    own: str
    """How an assistant says it of the user: `you have a cat`."""
    other: str
    """How it is said of somebody else: `my sister has a cat`."""
    tail: str
    """What follows the value, with its blank; empty for most."""
    question: str
    """How an assistant asks for it."""
    ask_words: frozenset[str]
    """Words that show that a question to the user (`you`, `your`) asks for this slot."""
    values: tuple[str, ...]
    """Twelve naming words; the last HELDOUT of them occur only in held-out personas."""


class Fact(NamedTuple):
    """One value of one slot."""

    slot: int
    """Index into SLOTS."""
    value: str


class Topic(NamedTuple):
    """Something to ask about. Exactly one slot matters for it."""

    slot: int
    phrase: str
    words: frozenset[str]
    """Words that show that a text is about this topic."""


class Style(NamedTuple):
    """How a person writes, and likes to be written to."""

    long: bool
    emoji: bool
    lively: bool


HELDOUT: Final = 3
"""So many values at the end of every slot never occur in training personas."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SLOTS: Final = (
    Slot(
        "hobby", "I am into", "you are into", "is into", "", "you are into which hobby these days?",
        _words("hobby hobbies pastime interests"),
        ("chess", "pottery", "climbing", "painting", "surfing", "gardening", "origami", "archery", "knitting",
         "juggling", "sailing", "fencing"),
    ),
    Slot(
        "pet", "I have a", "you have a", "has a", "", "you have which pet these days?",
        _words("pet pets animal animals"),
        ("cat", "dog", "parrot", "rabbit", "hamster", "turtle", "goldfish", "ferret", "pony",
         "gecko", "canary", "hedgehog"),
    ),
    Slot(
        "diet", "I eat", "you eat", "eats", " food", "you eat which food these days?",
        _words("diet diets dietary eat food foods"),
        ("vegan", "vegetarian", "kosher", "halal", "keto", "paleo", "pescatarian", "flexitarian", "ayurvedic",
         "macrobiotic", "fruitarian", "carnivore"),
    ),
    Slot(
        "job", "I work as a", "you work as a", "works as a", "", "you work as what these days?",
        _words("job jobs work profession occupation"),
        ("nurse", "teacher", "plumber", "baker", "lawyer", "pilot", "farmer", "dentist", "tailor",
         "carpenter", "librarian", "welder"),
    ),
    Slot(
        "city", "I live in", "you live in", "lives in", "", "you live in which city these days?",
        _words("city cities town live located"),
        ("Paris", "Oslo", "Lisbon", "Cairo", "Tokyo", "Dublin", "Prague", "Vienna", "Lima",
         "Athens", "Nairobi", "Seoul"),
    ),
    Slot(
        "music", "I listen to", "you listen to", "listens to", "", "you listen to which music these days?",
        _words("music listen genre genres"),
        ("jazz", "opera", "reggae", "techno", "bluegrass", "blues", "disco", "gospel", "punk",
         "flamenco", "grunge", "polka"),
    ),
)  # fmt: skip

TOPICS: Final = (
    Topic(0, "the weekend", _words("weekend weekends saturday sunday")),
    Topic(0, "a gift", _words("gift gifts present presents")),
    Topic(1, "the walk", _words("walk walks walking stroll")),
    Topic(1, "a new sofa", _words("sofa sofas couch couches")),
    Topic(2, "dinner", _words("dinner dinners supper")),
    Topic(2, "the picnic", _words("picnic picnics")),
    Topic(3, "new shoes", _words("shoes shoe boots sneakers footwear")),
    Topic(3, "a course", _words("course courses class classes")),
    Topic(4, "the trip", _words("trip trips journey travel")),
    Topic(4, "the museum", _words("museum museums")),
    Topic(5, "the party", _words("party parties")),
    Topic(5, "the drive", _words("drive drives driving road")),
)

_BOTH: Final = (False, True)
STYLES: Final = tuple(Style(long, emoji, lively) for long in _BOTH for emoji in _BOTH for lively in _BOTH)
"""All eight styles."""


def values_of(slot: int, split: str) -> tuple[str, ...]:
    """The values of a slot that personas of this split (`train` or `heldout`) have."""
    values = SLOTS[slot].values
    return values[-HELDOUT:] if split == "heldout" else values[:-HELDOUT]


def split_of(fact: Fact) -> str:
    """Whether a fact's value is a `train` or a `heldout` one."""
    return "heldout" if fact.value in SLOTS[fact.slot].values[-HELDOUT:] else "train"


def _spellings(fact: Fact) -> list[str]:
    """The value in lower case, and its plural where a thing can be counted (pets and jobs)."""
    word = fact.value.lower()
    if SLOTS[fact.slot].noun not in {"pet", "job"}:
        return [word]
    return [word, word.removesuffix("y") + "ies" if word.endswith("y") else word + "s"]


FACT_OF: Final = {
    spelling: fact
    for index, slot in enumerate(SLOTS)
    for fact in (Fact(index, value) for value in slot.values)
    for spelling in _spellings(fact)
}
"""A word in lower case to the fact it names."""

TOPIC_OF: Final = {word: index for index, topic in enumerate(TOPICS) for word in topic.words}
"""A word in lower case to the index of the topic it shows."""
