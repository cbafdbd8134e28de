"""Cosine similarity of many texts in little memory: blocks of rows, and prefix filtering where only close pairs count.

Prefix filtering (Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search, 2007): the columns are ordered from rare
to frequent, and a kept row is indexed without the frequent columns at its end, as long as what is left out is too
short for a cosine above the threshold. Pairs that meet in the index are compared in full.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from interalign.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TFIDF: Final = "tfidf"
_BLOCK: Final = 256
"""Rows that are compared at a time."""
_CHUNK: Final = 4096
"""Kept rows that they are compared with at a time."""
_PAIRS: Final = 100_000
"""Pairs that are compared in full at a time."""
_LEFT_OUT: Final = 0.8
"""Length left out of the index, as a share of the threshold: more of it is less to multiply, but more to compare."""
EPSILON: Final = 1e-6
"""Two vectors that differ by rounding only are no closer than the threshold."""


class Embedded(NamedTuple):
    """Texts as vectors of length 1."""

    name: str
    """The embedding, with its version: no figure is told without it."""
    rows: Any
    """An array, or a sparse matrix whose columns are ordered from rare to frequent; one row a text."""


def embedded(texts: Sequence[str], embedding: str = TFIDF) -> Embedded:
    """The texts by `tfidf` (words, fitted on these texts) or `st:NAME_OR_FOLDER` (sentence-transformers).

    Raises ConfigError for another name, and for a model that cannot be loaded.
    """
    if embedding == TFIDF:
        return _by_tfidf(texts)
    rows = sentence_encoder(embedding)(texts)
    return Embedded(embedding_name(embedding), rows)


def _by_tfidf(texts: Sequence[str]) -> Embedded:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", dtype=np.float32)  # noqa: S106  (a pattern, no password)
    try:
        rows = vectorizer.fit_transform(texts)
    except ValueError:
        raise ConfigError("the profiles hold no words, so TF-IDF cannot compare them; use --embedding st:...") from None
    return Embedded(embedding_name(TFIDF), rows[:, np.argsort(-vectorizer.idf_, kind="stable")].tocsr())


def sentence_encoder(embedding: str) -> "Callable[[Sequence[str]], NDArray[Any]]":
    """What turns texts into vectors of length 1 by `st:NAME_OR_FOLDER`; ConfigError as `embedded`."""
    encoder = _sentence_transformer(_model_of(embedding))

    def encode(texts: Sequence[str]) -> "NDArray[Any]":
        rows: NDArray[Any] = encoder.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return rows

    return encode


def embedding_name(embedding: str) -> str:
    """The embedding with its version: no figure is told without it."""
    if embedding == TFIDF:
        return f"TF-IDF of words (scikit-learn {version('scikit-learn')})"
    return f"{Path(_model_of(embedding)).name} (sentence-transformers {version('sentence-transformers')})"


def _model_of(embedding: str) -> str:
    kind, _, model = embedding.partition(":")
    if kind == "st" and model:
        return model
    raise ConfigError(
        f"--embedding {embedding}: expected `tfidf` or `st:NAME_OR_FOLDER` of a sentence-transformers model"
    )


@cache
def _sentence_transformer(model: str) -> Any:
    if find_spec("sentence_transformers") is None:
        raise ConfigError("--embedding st:... needs sentence-transformers; pip install 'interalign[embed]'")
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(model)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--embedding st:{model}: cannot be loaded ({reason}); give the model's folder or id"
        ) from error


def greedily_kept(vectors: Embedded, threshold: float, held: int = 0) -> list[int]:
    """Rows, in order, whose cosine to every row kept before is at most `threshold`.

    The first `held` rows are kept as they are: they are not compared with each other.
    """
    import numpy as np

    search = _search(vectors.rows, threshold)
    kept = list(range(held))
    columns = [_transposed(search.index[kept[start : start + _CHUNK]]) for start in range(0, held, _CHUNK)]
    for block in _blocks(range(held, vectors.rows.shape[0])):
        close = np.zeros(len(block), dtype=bool)
        for start, index in zip(range(0, len(kept), _CHUNK), columns, strict=True):
            free = np.flatnonzero(~close)
            close[free] = search.has_close(np.asarray(block)[free], np.asarray(kept[start : start + _CHUNK]), index)
        kept += search.distinct([row for row, is_close in zip(block, close, strict=True) if not is_close])
        del columns[max(len(columns) - 1, 0) :]  # the last one was not full
        starts = range(len(columns) * _CHUNK, len(kept), _CHUNK)
        columns += [_transposed(search.index[kept[start : start + _CHUNK]]) for start in starts]
    return kept


def nearest(vectors: Embedded, rows: Sequence[int], others: Sequence[int]) -> "tuple[NDArray[Any], NDArray[Any]]":
    """For each of `rows` its highest cosine to one of `others` other than itself, and which row that is.

    A cosine of -1 where there is no other one.
    """
    import numpy as np

    highest, number = np.full(len(rows), -1.0), np.zeros(len(rows), dtype=int)
    among = np.asarray(others, dtype=int)
    if not len(among):
        return highest, number
    columns = _transposed(vectors.rows[among])
    for start, block in zip(range(0, len(rows), _BLOCK), _blocks(rows), strict=True):
        cosines = _dense(vectors.rows[block] @ columns)
        cosines[among[None, :] == np.asarray(block)[:, None]] = -1
        best = cosines.argmax(axis=1)
        highest[start : start + len(block)] = cosines[np.arange(len(block)), best]
        number[start : start + len(block)] = among[best]
    return highest, number


class _Search(NamedTuple):
    """Finds pairs of rows with a cosine above the limit."""

    rows: Any
    index: Any
    """What is looked at first: the rows without their frequent columns, or the rows themselves."""
    left_out: "NDArray[Any]"
    """The length of what each row has outside of the index: a cosine is at most this more than the index says."""
    limit: float

    def has_close(self, mine: "NDArray[Any]", others: "NDArray[Any]", columns: Any) -> "NDArray[Any]":
        """For each row of `mine` whether one of `others`, whose index is `columns`, is close to it."""
        import numpy as np

        found = self.index[mine] @ columns
        if isinstance(found, np.ndarray):
            return np.asarray((found > self.limit).any(axis=1))
        pairs = found.tocoo()
        # Of two rows, the one with fewer columns in the index says how much the others can add.
        most = pairs.data + np.maximum(self.left_out[mine][pairs.row], self.left_out[others][pairs.col])
        one, other = pairs.row[most > self.limit], others[pairs.col[most > self.limit]]
        close = np.zeros(len(mine), dtype=bool)
        for start in range(0, len(one), _PAIRS):
            part = slice(start, start + _PAIRS)
            products = self.rows[mine[one[part]]].multiply(self.rows[other[part]])
            close[one[part][np.asarray(products.sum(axis=1)).ravel() > self.limit]] = True
        return close

    def distinct(self, free: list[int]) -> list[int]:
        """Those of `free` that are not close to one another, the first of each pair kept."""
        cosines = _dense(self.rows[free] @ self.rows[free].T)
        new: list[int] = []
        for place in range(len(free)):
            if (cosines[place, new] <= self.limit).all():
                new.append(place)
        return [free[place] for place in new]


def _search(rows: Any, threshold: float) -> _Search:
    import numpy as np

    limit = threshold + EPSILON
    if isinstance(rows, np.ndarray):
        return _Search(rows, rows, np.zeros(len(rows)), limit)
    index = rows.copy()
    index.sort_indices()
    # The squares are summed from the end of each row, where the frequent columns are.
    row_of = np.repeat(np.arange(rows.shape[0]), np.diff(index.indptr))
    sums = np.cumsum(index.data.astype(float)[::-1] ** 2)[::-1]
    after_row = np.append(sums, 0.0)[index.indptr[1:]]
    dropped = sums - after_row[row_of] < (_LEFT_OUT * threshold) ** 2
    squares = np.where(dropped, index.data.astype(float) ** 2, 0)
    index.data[dropped] = 0
    index.eliminate_zeros()
    return _Search(rows, index, np.sqrt(np.bincount(row_of, squares, rows.shape[0])), limit)


def _blocks(rows: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(rows), _BLOCK):
        yield list(rows[start : start + _BLOCK])


def _dense(matrix: Any) -> "NDArray[Any]":
    import numpy as np

    return matrix if isinstance(matrix, np.ndarray) else np.asarray(matrix.toarray())


def _transposed(rows: Any) -> Any:
    """Columns for a product; a sparse matrix by rows, as scipy multiplies them."""
    return rows.T.tocsr() if hasattr(rows, "tocsr") else rows.T
