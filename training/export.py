"""Trees to training rows, in the formats TRL reads. No torch in it.

Every message of a row comes from `Tree.transcript`, which holds what the user and the candidates said and nothing
else: hints, notes, personas and judges' answers have no way in. docs/data-format.md shows a row of each format.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from interalign.errors import ConfigError
from interalign.files import write_atomically
from interalign.preferences import Pair, PairMode, chosen_replies, pairs, rankings
from interalign.tree import JudgedTree, Node, Tree

Format = Literal["sft", "dpo", "kto", "rm", "listwise", "messages"]
Row = dict[str, Any]
"""One line of an exported file: JSON values only."""


def rows(judged_trees: Iterable[JudgedTree], fmt: Format, mode: PairMode = "best-worst") -> Iterator[Row]:
    """Training rows of trees, each of which holds what one judge said (`JudgedTree.by_judge`); trees in given order.

    `mode` is how preferences become pairs; `sft`, `listwise` and `messages` do not depend on it. Raises ConfigError
    for an unknown format or mode.
    """
    if fmt not in _ROWS:
        raise ConfigError(f"no export format {fmt!r}; choose one of {', '.join(_ROWS)}")
    if mode not in get_args(PairMode):
        raise ConfigError(f"no way {mode!r} to choose pairs; choose one of {', '.join(get_args(PairMode))}")
    for judged in judged_trees:
        for row in _ROWS[fmt](judged, mode):
            yield _without_lone_surrogates(row)


def _sft(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    # One row per chosen reply, and only its last message is trained on: each chosen reply is trained exactly once,
    # after the conversation as it really went up to there (PAPER.md, trap 6).
    for reply in chosen_replies(judged):
        yield {"messages": _messages(judged.tree, reply), "tree": judged.tree.id, "node": reply.id}


def _dpo(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    for pair in pairs(judged, mode):
        yield {
            "prompt": _messages(judged.tree, pair.prompt),
            "chosen": [_message(pair.chosen)],
            "rejected": [_message(pair.rejected)],
            **_place(judged.tree, pair.prompt),
            "persona": judged.tree.persona,
            "margin": pair.margin,
        }


def _rm(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    # No `margin` here: TRL's RewardTrainer would take a column of that name into its loss without being asked.
    for pair in pairs(judged, mode):
        yield {
            "chosen": _messages(judged.tree, pair.chosen),
            "rejected": _messages(judged.tree, pair.rejected),
            **_place(judged.tree, pair.prompt),
        }


def _kto(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    for node, label in _labels(pairs(judged, mode)):
        prompt = judged.tree.node(str(node.parent))
        yield {
            "prompt": _messages(judged.tree, prompt),
            "completion": [_message(node)],
            "label": label,
            **_place(judged.tree, node),
        }


def _labels(found: Iterable[Pair]) -> Iterator[tuple[Node, bool]]:
    """Each reply of the pairs once: True if it was only ever chosen, False if only ever rejected, else left out."""
    labels: dict[str, tuple[Node, set[bool]]] = {}
    for pair in found:
        labels.setdefault(pair.chosen.id, (pair.chosen, set()))[1].add(True)
        labels.setdefault(pair.rejected.id, (pair.rejected, set()))[1].add(False)
    for node, said in labels.values():
        if len(said) == 1:
            yield node, said.pop()


def _listwise(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    for ranking in rankings(judged):
        yield {
            "prompt": _messages(judged.tree, ranking.prompt),
            "completions": [[_message(reply)] for reply in ranking.replies],
            "scores": list(ranking.values),
            **_place(judged.tree, ranking.prompt),
        }


def _leaves(judged: JudgedTree, mode: PairMode) -> Iterator[Row]:
    for leaf in judged.tree.leaves():
        yield {"messages": _messages(judged.tree, leaf), "tree": judged.tree.id, "node": leaf.id}


_ROWS: Mapping[str, Callable[[JudgedTree, PairMode], Iterator[Row]]] = {
    "sft": _sft,
    "dpo": _dpo,
    "kto": _kto,
    "rm": _rm,
    "listwise": _listwise,
    "messages": _leaves,
}


def _place(tree: Tree, node: Node) -> Row:
    return {"tree": tree.id, "node": node.id, "turn": node.turn}


def _messages(tree: Tree, node: Node) -> list[dict[str, str]]:
    """The conversation down to this node, as chat templates take it."""
    return [{"role": message.role, "content": message.content} for message in tree.transcript(node.id)]


def _message(node: Node) -> dict[str, str]:
    return {"role": node.role, "content": node.text}


def _without_lone_surrogates(value: Any) -> Any:
    """The same JSON value with U+FFFD for every half of a surrogate pair that stands alone (UTF-8 cannot hold it)."""
    if isinstance(value, str):
        # UTF-16 is where surrogates come from: two matching halves become one character, a lone one is replaced.
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_lone_surrogates(item) for key, item in value.items()}
    return value


def write_jsonl(found: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write one JSON object a line, UTF-8, and return their number; the file appears whole or not at all.

    Raises ConfigError if the path cannot be written.
    """
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in found:
            count += 1
            yield json.dumps(row, ensure_ascii=False) + "\n"

    write_atomically(path, lines())
    return count
