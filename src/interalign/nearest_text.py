"""Maximum-similarity filtering of texts that come batch by batch: each is compared with all that were kept before.

The same measure as `similarity.embedded`, but incremental: TF-IDF is fitted anew for each batch on what is kept and
the batch (only counts are stored), and a sentence is embedded once.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from interalign.similarity import EPSILON, TFIDF, sentence_encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORD: Final = re.compile(r"\b\w+\b")


def cosines_by_words(texts: Sequence[str]) -> "NDArray[Any]":
    """The cosine of each text to each other one by TF-IDF of words; 0 throughout for a text without a word."""
    rows = _WordCounts()
    rows.add(texts)
    return rows.cosines(len(texts))


class NearestNeighbour(NamedTuple):
    """The text most like a new one."""

    cosine: float
    """0 if there is none."""
    text: str | None = None
    """None if nothing is held."""


class _Rows(Protocol):
    """The texts held, as something that new ones can be compared with."""

    def add(self, texts: Sequence[str]) -> None: ...

    def drop_last(self, count: int) -> None: ...

    def cosines(self, count: int) -> "NDArray[Any]":
        """Of each of the last `count` texts to every text, itself included."""
        ...


class NearestText:
    """Texts that are all different enough from one another, and the nearest one of each that is offered."""

    def __init__(self, texts: Sequence[str], threshold: float, embedding: str = TFIDF) -> None:
        """Begin with these texts, however alike; ConfigError for an embedding that cannot be used."""
        self._limit = threshold + EPSILON
        self._rows: _Rows = _WordCounts() if embedding == TFIDF else _Vectors(sentence_encoder(embedding))
        self._rows.add(texts)
        self._held = list(texts)

    def offer(self, texts: Sequence[str], most: int) -> list[tuple[bool, NearestNeighbour]]:
        """For each text, in order: whether it is kept, and the nearest of those held before it.

        A text is kept if its cosine to each one held is at most the threshold; then it is held, too. Ends when `most`
        are kept: of the texts after that nothing is said.
        """
        if not texts:
            return []
        self._rows.add(texts)
        cosines = self._rows.cosines(len(texts))
        self._rows.drop_last(len(texts))
        held, found = list(range(len(self._held))), list[tuple[bool, NearestNeighbour]]()
        every, kept = [*self._held, *texts], list[str]()
        for row, text in enumerate(texts):
            if len(kept) == most:
                break
            near = _nearest(cosines[row], held, every)
            is_kept = near.cosine <= self._limit
            if is_kept:
                held.append(len(self._held) + row)
                kept.append(text)
            found.append((is_kept, near))
        self._rows.add(kept)
        self._held += kept
        return found


def _nearest(cosines: "NDArray[Any]", held: Sequence[int], texts: Sequence[str]) -> NearestNeighbour:
    """`held`: the rows that count."""
    if not held:
        return NearestNeighbour(0.0)
    best = held[int(cosines[held].argmax())]
    return NearestNeighbour(round(float(cosines[best]), 6), texts[best])


class _WordCounts:
    """Word counts, row by row; the weights of scikit-learn's TfidfVectorizer are put on when they are needed."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._documents = array("d")
        """By word: in how many texts it stands."""
        self._column, self._count, self._end = array("l"), array("d"), array("l", [0])

    def add(self, texts: Sequence[str]) -> None:
        for text in texts:
            for word, count in Counter(_WORD.findall(text.lower())).items():
                column = self._words.setdefault(word, len(self._words))
                if column == len(self._documents):
                    self._documents.append(0.0)
                self._documents[column] += 1
                self._column.append(column)
                self._count.append(count)
            self._end.append(len(self._column))

    def drop_last(self, count: int) -> None:
        start = self._end[-1 - count]
        for column in self._column[start:]:
            self._documents[column] -= 1
        del self._column[start:], self._count[start:], self._end[len(self._end) - count :]

    def cosines(self, count: int) -> "NDArray[Any]":
        import numpy as np
        from scipy.sparse import csr_matrix

        rows = len(self._end) - 1
        documents, columns = np.array(self._documents), np.array(self._column, dtype=np.int64)
        weights = np.array(self._count) * (np.log((1 + rows) / (1 + documents)) + 1)[columns]
        shape = (rows, len(self._documents))
        weighted = csr_matrix((weights, columns, np.array(self._end, dtype=np.int64)), shape)
        lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        lengths[lengths == 0] = 1.0
        products = np.asarray((weighted[rows - count :] @ weighted.T).toarray())
        return np.asarray(products / lengths[None, :] / lengths[rows - count :, None])


class _Vectors:
    """Vectors of length 1, each worked out once."""

    def __init__(self, encode: Callable[[Sequence[str]], Any]) -> None:
        self._encode = encode
        self._known: dict[str, Any] = {}
        self._rows: list[Any] = []

    def add(self, texts: Sequence[str]) -> None:
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known.update(zip(new, self._encode(new), strict=True))
        self._rows += [self._known[text] for text in texts]

    def drop_last(self, count: int) -> None:
        del self._rows[len(self._rows) - count :]

    def cosines(self, count: int) -> "NDArray[Any]":
        import numpy as np

        rows = np.asarray(self._rows)
        return np.asarray(rows[len(rows) - count :] @ rows.T)
