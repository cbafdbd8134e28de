"""How a simulated user's messages differ from those of real people: measured on words, no judge needed.

Messages of one conversation are not independent: intervals resample conversations, and the classifier is tested on
conversations that it has not seen.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from pydantic import JsonValue

from interalign.errors import ConfigError
from interalign.eval.intervals import Floats, Interval, bootstrap_interval, resampled_sums
from interalign.store import Store
from interalign.tree import JudgedTree

_FOLDS: Final = 5
_LEAST: Final = 10
"""Conversations on each side that the classifier needs."""
_EXAMPLES: Final = 3
_WORD: Final = re.compile(r"\w+(?:['\u2019]\w+)*")
_POLITE: Final = re.compile(r"\b(?:please|thanks|thank you|thx|sorry|could you|would you mind)\b", re.IGNORECASE)
_EMOJI: Final = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_STRETCHED: Final = re.compile(
    r"(\w)\1\1|\b(?:teh|recieve|definately|dont|cant|wont|im|ive|alot|u|ur|pls)\b", re.IGNORECASE
)

MEASURES: Final[Mapping[str, Callable[[str], float]]] = {
    "words": lambda text: len(_WORD.findall(text)),
    "asks": lambda text: "?" in text,
    "polite": lambda text: _POLITE.search(text) is not None,
    "exclaims": lambda text: "!" in text,
    "emoji": lambda text: _EMOJI.search(text) is not None,
    "of itself": lambda text: re.search(r"\b(?:i|i'm|i\u2019m|my|me)\b", text, re.IGNORECASE) is not None,
    "lower-case start": lambda text: text.lstrip()[:1].islower(),
    "no end mark": lambda text: bool(text.strip()) and text.rstrip()[-1].isalnum(),
    "slips": lambda text: _STRETCHED.search(text) is not None,
    "lines": lambda text: len(text.strip().splitlines()),
}
"""What is measured of a message: a number, or whether it is so. `slips`: common misspellings and stretched letters."""


class Difference(NamedTuple):
    """A measure of the messages of both sides: means, with 95 % intervals over conversations."""

    simulated: float
    simulated_ci: Interval | None
    real: float
    real_ci: Interval | None
    apart: bool
    """Whether the interval of the difference leaves out 0."""


class RecognisedMessage(NamedTuple):
    """A message that the classifier is sure of."""

    text: str
    simulated: float
    """The probability that it gives for a simulated one, from a classifier that has not seen the conversation."""


class Fidelity(NamedTuple):
    """Simulated user messages beside real ones."""

    conversations: tuple[int, int]
    """Simulated, real."""
    messages: tuple[int, int]
    measures: Mapping[str, Difference]
    vocabulary: tuple[float | None, float | None]
    """Distinct words in 1,000 words, the mean of draws of so many; None for a side with fewer words."""
    auc: float | None
    """Of a classifier on words and characters: 0.5 cannot tell them apart, 1 always can. None with too few talks."""
    auc_ci: Interval | None
    told_apart: tuple[RecognisedMessage, ...]
    """Simulated messages that the classifier recognises most surely."""
    taken_for_real: tuple[RecognisedMessage, ...]
    """Simulated messages that it takes for real ones."""


def fidelity(simulated: Store, real: Store) -> Fidelity:
    """Compare the user messages of two run files, each path's messages once; ConfigError if either has none."""
    sides = _talks(simulated), _talks(real)
    for store, talks in zip((simulated, real), sides, strict=True):
        if not any(talks):
            raise ConfigError(f"{store.path} has no user message; simulate, or `interalign import` conversations")
    measures = {name: _difference(measure, *sides) for name, measure in MEASURES.items()}
    auc, interval, scored = _classified(*sides)
    mine = sorted((each for each in scored if each[0]), key=lambda each: each[2])
    return Fidelity(
        conversations=(len(sides[0]), len(sides[1])),
        messages=(sum(map(len, sides[0])), sum(map(len, sides[1]))),
        measures=measures,
        vocabulary=(_vocabulary(sides[0]), _vocabulary(sides[1])),
        auc=auc,
        auc_ci=interval,
        told_apart=tuple(RecognisedMessage(text, share) for _, text, share in reversed(mine[-_EXAMPLES:])),
        taken_for_real=tuple(RecognisedMessage(text, share) for _, text, share in mine[:_EXAMPLES]),
    )


def _talks(store: Store) -> list[list[str]]:
    """The user's messages of each conversation."""
    talks = [_messages(judged) for judged in store.judged_trees()]
    return [talk for talk in talks if talk]


def _messages(judged: JudgedTree) -> list[str]:
    return [node.text for node in judged.tree.nodes if node.role == "user"]


def _difference(
    measure: Callable[[str], float], simulated: Sequence[list[str]], real: Sequence[list[str]]
) -> Difference:
    mine, theirs = (_resampled(measure, talks, seed) for seed, talks in enumerate((simulated, real)))
    both = bootstrap_interval(mine[1] - theirs[1], min(len(simulated), len(real)))
    return Difference(
        simulated=mine[0],
        simulated_ci=bootstrap_interval(mine[1], len(simulated)),
        real=theirs[0],
        real_ci=bootstrap_interval(theirs[1], len(real)),
        apart=both is not None and not both[0] <= 0 <= both[1],
    )


def _resampled(measure: Callable[[str], float], talks: Sequence[list[str]], seed: int) -> tuple[float, Floats]:
    """The mean over all messages, and over resamples of whole conversations."""
    sums = np.array([[sum(map(measure, talk)), len(talk)] for talk in talks], float)
    drawn = resampled_sums(sums, seed=seed)
    return float(sums[:, 0].sum() / sums[:, 1].sum()), drawn[:, 0] / drawn[:, 1]


def _vocabulary(talks: Sequence[list[str]], size: int = 1000) -> float | None:
    """Mean number of distinct words in `size` words, whole conversations in random order."""
    words = [[word.lower() for text in talk for word in _WORD.findall(text)] for talk in talks]
    if sum(map(len, words)) < size:
        return None
    generator = np.random.default_rng(0)
    counts = []
    for _ in range(20):
        order = generator.permutation(len(words))
        stream = [word for place in order for word in words[place]]
        counts.append(len(set(stream[:size])))
    return float(np.mean(counts))


def _classified(
    simulated: Sequence[list[str]], real: Sequence[list[str]]
) -> tuple[float | None, Interval | None, list[tuple[bool, str, float]]]:
    """AUC with its interval, and every message with its side and the probability of being simulated."""
    if min(len(simulated), len(real)) < _LEAST:
        return None, None, []
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline, make_union

    talks = [*((True, talk) for talk in simulated), *((False, talk) for talk in real)]
    texts = [text for _, talk in talks for text in talk]
    sides = np.array([is_simulated for is_simulated, talk in talks for _ in talk])
    groups = np.array([number for number, (_, talk) in enumerate(talks) for _ in talk])
    shares = np.full(len(texts), np.nan)
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True),
    )
    model = make_pipeline(features, LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(texts, sides, groups):
        model.fit([texts[place] for place in train], sides[train])
        shares[test] = model.predict_proba([texts[place] for place in test])[:, 1]
    scored = list(zip(sides.tolist(), texts, shares.tolist(), strict=True))
    return float(roc_auc_score(sides, shares)), _auc_interval(sides, shares, groups), scored


def _auc_interval(
    sides: "np.ndarray[tuple[int], np.dtype[np.bool_]]", shares: Floats, groups: Floats
) -> Interval | None:
    """Over conversations, each side resampled on its own. The classifiers stay as they are."""
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    by_talk = {number: np.flatnonzero(groups == number) for number in np.unique(groups)}
    mine = [number for number, places in by_talk.items() if sides[places[0]]]
    theirs = [number for number, places in by_talk.items() if not sides[places[0]]]
    values = []
    for _ in range(200):
        drawn = [*generator.choice(mine, len(mine)), *generator.choice(theirs, len(theirs))]
        places = np.concatenate([by_talk[number] for number in drawn])
        values.append(roc_auc_score(sides[places], shares[places]))
    return bootstrap_interval(np.array(values), min(len(mine), len(theirs)))


def as_json(found: Fidelity) -> dict[str, JsonValue]:
    """What `interalign fidelity --json` prints."""
    measures: dict[str, JsonValue] = {
        name: {
            "simulated": one.simulated,
            "simulated_ci": list(one.simulated_ci) if one.simulated_ci else None,
            "real": one.real,
            "real_ci": list(one.real_ci) if one.real_ci else None,
            "apart": one.apart,
        }
        for name, one in found.measures.items()
    }
    return {
        "schema": 1,
        "conversations": dict(zip(("simulated", "real"), found.conversations, strict=True)),
        "messages": dict(zip(("simulated", "real"), found.messages, strict=True)),
        "measures": measures,
        "vocabulary": dict(zip(("simulated", "real"), found.vocabulary, strict=True)),
        "auc": found.auc,
        "auc_ci": list(found.auc_ci) if found.auc_ci else None,
        "told_apart": [each._asdict() for each in found.told_apart],
        "taken_for_real": [each._asdict() for each in found.taken_for_real],
    }


def fidelity_lines(found: Fidelity) -> Iterator[str]:
    """What `interalign fidelity` prints."""
    mine, theirs = found.messages
    yield (
        f"{mine:,} simulated user messages of {found.conversations[0]:,} conversations, {theirs:,} real ones of "
        f"{found.conversations[1]:,}"
    )
    yield f"  {'a message':18}{'simulated':>22}{'real':>22}"
    for name, one in found.measures.items():
        mark = "  apart" if one.apart else ""
        yield f"  {name:18}{_value(one.simulated, one.simulated_ci):>22}{_value(one.real, one.real_ci):>22}{mark}"
    words = ["-" if value is None else f"{value:.0f}" for value in found.vocabulary]
    yield f"  {'words of 1,000':18}{words[0]:>22}{words[1]:>22}"
    if found.auc is None:
        yield f"  told apart by a classifier: not tried with fewer than {_LEAST} conversations on either side"
        return
    interval = f" [{found.auc_ci[0]:.2f}, {found.auc_ci[1]:.2f}]" if found.auc_ci else ""
    yield f"  told apart by a classifier: AUC {found.auc:.2f}{interval}; 0.5 cannot, 1 always can"
    for title, examples in (("most surely simulated", found.told_apart), ("taken for real", found.taken_for_real)):
        for each in examples:
            yield f"    {title} ({each.simulated:.2f}): {' '.join(each.text.split())[:90]!r}"


def _value(value: float, interval: Interval | None) -> str:
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
