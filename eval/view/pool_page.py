"""The items of a generated persona pool: what was kept or dropped, why, and what it was nearest to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from interalign.eval.view.links import ServedLinks
from interalign.eval.view.pool_map import MapItem, PoolMap, draw_maps
from interalign.eval.view.queries import NotThereError
from interalign.eval.view.tree_page import Link
from interalign.store import Store

PAGE = 40
"""Items on one page."""
_ITEMS = ("items", "filter")
"""Name and author of the annotation that the persona graph leaves at a reply with items."""
_ALIKE = "is too much like another one"
"""The verdict of the filter on a near-duplicate."""


class Item(NamedTuple):
    """One profile or personality that a model wrote."""

    text: str
    kept: bool
    reason: str
    """Why it was dropped; empty if it was kept."""
    cosine: float | None
    """Similarity to the nearest of the seeds and of what was kept before; None where nothing was compared."""
    nearest: str
    href: str
    """The call that it came from."""
    kind: str
    """`profile` or `personality`."""
    number: int
    """Its place in the pool, from 0."""

    @property
    def anchor(self) -> str:
        """The id of its element."""
        return f"i{self.number}"


@dataclass(frozen=True)
class PoolPage:
    """Everything the page shows."""

    items: Sequence[Item]
    verdicts: tuple[Link, ...]
    """How many items were kept, and dropped for which reason."""
    first: int
    last: int
    total: int
    before: str | None
    after: str | None
    maps: tuple[PoolMap, ...]
    """What lies near what, on the pages of all items; empty where only some are listed."""


def find_pool(store: Store, query: Mapping[str, str], links: ServedLinks) -> PoolPage:
    """One page of the items, `why` of one reason only. NotThereError for a reason or page that does not exist."""
    items = _items(store, links)
    counts, why = Counter(_why(item) for item in items), query.get("why")
    if why is not None and why not in counts:
        raise NotThereError(f"No item of this pool was {why!r}.")
    wanted = [item for item in items if why in (None, _why(item))]
    pages = max(1, -(-len(wanted) // PAGE))
    text = query.get("page", "1")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 1 <= number <= pages:
        raise NotThereError(f"There is no page {text!r}; the list has {pages}.")
    first = (number - 1) * PAGE
    return PoolPage(
        items=wanted[first : first + PAGE],
        verdicts=_verdicts(counts, why, links),
        first=min(first + 1, len(wanted)),
        last=min(first + PAGE, len(wanted)),
        total=len(wanted),
        before=_address(links, why, number - 1) if number > 1 else None,
        after=_address(links, why, number + 1) if number < pages else None,
        maps=draw_maps([_on_map(item, links) for item in items]) if why is None else (),
    )


def _address(links: ServedLinks, why: str | None, page: int) -> str:
    return links.page("/personas", why=why, page=str(page))


def _verdicts(counts: Mapping[str, int], why: str | None, links: ServedLinks) -> tuple[Link, ...]:
    """A link to all items and one for each verdict."""
    each = [Link(f"{count:,} {name}", links.page("/personas", why=name), name == why) for name, count in counts.items()]
    return (Link(f"{sum(counts.values()):,} in all", links.page("/personas"), why is None), *each)


def _why(item: Item) -> str:
    return "kept" if item.kept else f"dropped: {item.reason}"


def _on_map(item: Item, links: ServedLinks) -> MapItem:
    """The item with the address of its place in the list."""
    href = f"{_address(links, None, item.number // PAGE + 1)}#{item.anchor}"
    return MapItem(item.text, item.kind, item.kept, item.nearest if item.reason == _ALIKE else "", href)


def _items(store: Store, links: ServedLinks) -> list[Item]:
    noted = [
        (judged.tree.id, each)
        for judged in store.judged_trees(None)
        for note in judged.annotations
        if (note.name, note.by) == _ITEMS and isinstance(note.value, list)
        for each in note.value
        if isinstance(each, dict)
    ]
    return [_item(each, tree, number, links) for number, (tree, each) in enumerate(noted)]


def _item(found: Mapping[str, Any], tree: str, number: int, links: ServedLinks) -> Item:
    return Item(
        text=str(found.get("text", "")),
        kept=bool(found.get("kept")),
        reason=str(found.get("reason", "")),
        cosine=found.get("cosine"),
        nearest=str(found.get("nearest", "")),
        href=links.tree(tree),
        kind=tree.rpartition("-")[0],
        number=number,
    )
