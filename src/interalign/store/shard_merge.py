"""Merging shards: a k-way merge of run files by the trees' places in the plan, a transaction for every few trees."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from heapq import merge as merged_in_order
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from interalign.errors import ConfigError
from interalign.records import RunPart, RunRecord, TreeRecord, simulated_tree
from interalign.shard import Shard
from interalign.store import run_file as runfile
from interalign.store.judged_trees import read_judged
from interalign.store.store import Store
from interalign.store.texts import encode_json, encode_text
from interalign.store.tree_copy import TreeCopier, copy_judges, count_calls
from interalign.tree import JudgedTree

_AT_ONCE = 32
"""Trees in one transaction."""
_NAMED = 5
"""Trees that are named at most of what is missing, failed or unfinished."""


class Named(NamedTuple):
    """How many trees there are of a kind, and the first of them."""

    trees: int
    first: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.trees > len(self.first) else ""
        return f"{self.trees:,} {'tree' if self.trees == 1 else 'trees'} ({', '.join(self.first)}{more})"


class Merged(NamedTuple):
    """What came of a merge."""

    run: Path
    files: int
    trees: int
    """Of the whole run."""
    done: int
    missing: dict[str, Named]
    """Trees that no file has, by the shard they belong to (`4/4`), or the empty text where it is not known."""
    unfinished: Named
    failed: Named
    shared: Named
    """Trees that several files have, and that were taken once."""

    @property
    def is_whole(self) -> bool:
        """Every tree of the run is done."""
        return self.done == self.trees


class _Copy(NamedTuple):
    """A tree in one of the files."""

    file: int
    """0: the target."""
    record: TreeRecord


def merge_runs(out: Path, inputs: Sequence[Path], tell: Callable[[int], object] = lambda trees: None) -> Merged:
    """Bring the trees of these files of one run into `out`, with everything that is on record of them.

    A run file that is at `out` already is extended; else it appears when all is in it, and until then lies beside it as
    `OUT.merging`, where the same merge goes on if it was stopped. `tell` gets the number of trees merged so far.
    Raises ConfigError for files that are not of one run, or that have a finished tree in two different versions.
    """
    out = out.absolute().resolve()
    runfile.refuse_unusable(out)
    with ExitStack() as files:
        sources = [files.enter_context(Store.open(path)) for path in inputs]
        run, numbered = _one_run(sources), dict(enumerate(sources, start=1))
        extends = out.exists() and out.stat().st_size > 0
        if extends:
            with Store.open(out) as there:
                _refuse_other_run(sources[0], there)
                _refuse_part_of_run(there)
                _refuse_versions({0: there, **numbered})
        else:
            _refuse_versions(numbered)
        target = out if extends else out.with_name(out.name + ".merging")
        if not extends:
            _discard_other_merge(target, _name_of(sources))
        with Store.create_or_open(target) as store:
            _begin(store, run, sources, run.name if extends else _name_of(sources))
            shared = _merge(store, sources, tell)
            _end(store, sources, None if extends else out.stem)
            found = _found(store, out, len(inputs), shared)
        target.replace(out)
        return found


def _one_run(sources: Sequence[Store]) -> RunRecord:
    """The run that all of these files hold a part of."""
    for store in sources:
        store.refuse_personas("merge")
        store.refuse_import("merge takes the shards of a simulation or an evaluation")
        if store.run is None:
            raise ConfigError(f"{store.path}: nothing was run in it yet; leave it out")
    for store in sources[1:]:
        _refuse_other_run(sources[0], store)
    run = sources[0].run
    assert run is not None
    return run.model_copy(update={"created": min(store.run.created for store in sources if store.run)})


def _refuse_other_run(first: Store, other: Store) -> None:
    one, two = first.run, other.run
    assert one is not None
    if two is None:
        raise ConfigError(f"{other.path}: nothing was run in it yet; remove it, or give another OUT.db")
    if one.kind != two.kind:
        raise ConfigError(
            f"{first.path} holds a {one.kind} and {other.path} a {two.kind}; merge takes files of one run"
        )
    if changes := first.differences(two.identity):
        raise ConfigError(
            f"{other.path} is of another run than {first.path} ({changes[0]}); merge takes files of one run"
        )


def _refuse_part_of_run(out: Store) -> None:
    if out.part is not None and out.part.shard is not None:
        raise ConfigError(
            f"{out.path} is a shard of the run and would be changed; give another OUT.db, and it as IN.db"
        )


def _groups(stores: Mapping[int, Store]) -> Iterator[list[_Copy]]:
    """Tree by tree, in the order of the plan, the files that have it."""

    def walk(number: int, store: Store) -> Iterator[_Copy]:
        return (_Copy(number, record) for record in store.walk_trees("planned", "failed", "done"))

    walks = [walk(number, store) for number, store in stores.items()]
    ordered = merged_in_order(*walks, key=_order)
    for _, group in groupby(ordered, key=_order):
        yield list(group)


def _order(copy: _Copy) -> tuple[int, str]:
    return copy.record.index, copy.record.id


def _refuse_versions(stores: Mapping[int, Store]) -> None:
    """ConfigError for the first tree that is finished in two files, and not the same."""
    for group in _groups(stores):
        done = [copy for copy in group if copy.record.status == "done"]
        for copy in done[1:]:
            first, other = stores[done[0].file], stores[copy.file]
            if what := _difference(_judged(first, copy.record), _judged(other, copy.record)):
                raise ConfigError(
                    f"tree {copy.record.id} is not the same in {first.path} and {other.path} ({what}); "
                    "leave one of the files out"
                )


def _judged(store: Store, record: TreeRecord) -> JudgedTree | None:
    with store.reading() as db:
        (number,) = db.execute("SELECT number FROM trees WHERE id = ?", (encode_text(record.id),)).fetchone()
        return read_judged(db, number, "")


def _difference(one: JudgedTree | None, other: JudgedTree | None) -> str:
    """What two versions of a tree have otherwise; empty if nothing. One may have more verdicts than the other."""
    if one is None or other is None:
        return "" if one is other else "its messages"
    if one.tree.nodes != other.tree.nodes:
        return "its messages"
    kinds: tuple[tuple[str, Callable[[JudgedTree], dict[Any, Any]]], ...] = (
        ("its verdicts", lambda tree: {(each.judge, each.a, each.b): each for each in tree.verdicts}),
        ("its scores", lambda tree: {(each.judge, each.node): each for each in tree.scores}),
        ("its annotations", lambda tree: {(each.node, each.name, each.by): each for each in tree.annotations}),
    )
    for what, by_key in kinds:
        first, second = by_key(one), by_key(other)
        if any(first[key] != second[key] for key in first.keys() & second.keys()):
            return what
    return ""


def _name_of(sources: Sequence[Store]) -> str:
    """What an unfinished merge is called: by the files that go into it."""
    paths = "\0".join(sorted(str(store.path) for store in sources))
    return f"merging {hashlib.sha256(paths.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def _discard_other_merge(target: Path, name: str) -> None:
    """Remove what was left of a merge of other files: all of it are copies."""
    if target.exists():
        with Store.create_or_open(target) as store:
            if store.run is None or store.run.name != name:
                store.discard()


def _begin(target: Store, run: RunRecord, sources: Sequence[Store], name: str) -> None:
    """The run's record, and its judges in their order."""
    row = (encode_text(name), run.kind, encode_json(run.identity), run.created, run.version)
    target.write(lambda db: db.execute("INSERT OR IGNORE INTO runs VALUES (1, ?, ?, ?, ?, ?)", row))
    for source in sources:
        with source.reading() as reader:
            target.write(lambda db, reader=reader: copy_judges(reader, db))  # type: ignore[misc]


def _merge(target: Store, sources: Sequence[Store], tell: Callable[[int], object]) -> Named:
    """Copy what the target has not; which trees several of the sources have."""
    return _merge_groups(target, sources, _groups({0: target, **dict(enumerate(sources, start=1))}), tell)


def _merge_groups(
    target: Store,
    sources: Sequence[Store],
    groups: Iterator[list[_Copy]],
    tell: Callable[[int], object] = lambda trees: None,
) -> Named:
    """The same with these copies of trees, each list those of one tree."""
    merged, shared, first = 0, 0, list[str]()
    while some := list(islice(groups, _AT_ONCE)):
        target.write(lambda db, some=some: _take(TreeCopier(db), db, sources, some))  # type: ignore[misc]
        merged += len(some)
        tell(merged)
        several = [group[0].record.id for group in some if sum(copy.file > 0 for copy in group) > 1]
        shared += len(several)
        first += several[: _NAMED - len(first)]
    return Named(shared, tuple(first))


def _take(copier: TreeCopier, target: Any, sources: Sequence[Store], groups: Sequence[list[_Copy]]) -> None:
    for group in groups:
        _take_tree(copier, target, sources, group)


def _take_tree(copier: TreeCopier, target: Any, sources: Sequence[Store], copies: Sequence[_Copy]) -> None:
    """Bring one tree into the target: a finished version, else the one with most calls on record.

    From further files that have it finished comes what is not there, such as another judge's verdicts.
    """
    tree = copies[0].record.id

    def progress(copy: _Copy) -> tuple[bool, int]:
        if copy.file == 0:
            return copy.record.status == "done", count_calls(target, tree)
        with sources[copy.file - 1].reading() as db:
            return copy.record.status == "done", count_calls(db, tree)

    best = copies[0] if len(copies) == 1 else max(copies, key=lambda copy: (*progress(copy), -copy.file))
    done = [copy for copy in copies if copy.record.status == "done"]
    if best in done:
        best = done[0]
    if best.file > 0:
        if copies[0].file == 0:
            copier.remove(tree)
        with sources[best.file - 1].reading() as db:
            copier.copy(db, tree)
    for other in done:
        if other is not best:
            with sources[other.file - 1].reading() as db:
                copier.add_missing(db, tree)


def _end(target: Store, sources: Sequence[Store], name: str | None) -> None:
    """Note how many trees the whole run has, and name the run as its file."""
    parts = [store.part or RunPart(None, None, _size(store)) for store in (target, *sources)]
    trees = max(part.trees for part in parts)
    shards = {part.of for part in parts if part.of}
    of = shards.pop() if len(shards) == 1 else None
    target.write(lambda db: db.execute("INSERT OR REPLACE INTO shard VALUES (1, NULL, ?, ?)", (of, trees)))
    if name is not None:
        target.write(lambda db: db.execute("UPDATE runs SET name = ?", (encode_text(name),)))


def _size(store: Store) -> int:
    """Trees of a run that was never sharded; of one with gaps up to the last."""
    last = store.last_tree()
    return 0 if last is None else last.index + 1


def _found(store: Store, out: Path, files: int, shared: Named) -> Merged:
    assert store.part is not None
    count = store.count_trees()
    return Merged(
        run=out,
        files=files,
        trees=store.part.trees,
        done=count.get("done", 0),
        missing=_missing(store, store.part.trees),
        unfinished=Named(count.get("planned", 0), _first(store, "planned")),
        failed=Named(count.get("failed", 0), _first(store, "failed")),
        shared=shared,
    )


def _first(store: Store, status: Any) -> tuple[str, ...]:
    return tuple(record.id for record in islice(store.walk_trees(status), _NAMED))


def _missing(store: Store, trees: int) -> dict[str, Named]:
    """The places of the plan at which there is no tree, by shard."""
    assert store.run is not None
    count, first = Counter[str](), dict[str, list[str]]()
    begun = store.run.begun_with
    of_a_case = len(begun.candidate) * begun.repeats * max(1, len(begun.users)) if store.run.kind == "evaluation" else 1
    of = store.part.of if store.part else None
    for place in _gaps(store, trees):
        shard = str(Shard(place // of_a_case % of + 1, of)) if of else ""
        count[shard] += 1
        if count[shard] <= _NAMED:
            name = simulated_tree(place) if store.run.kind == "simulation" else f"number {place + 1}"
            first.setdefault(shard, []).append(name)
    return {shard: Named(count[shard], tuple(first[shard])) for shard in sorted(count, key=lambda one: count[one])}


def _gaps(store: Store, trees: int) -> Iterator[int]:
    expected = 0
    for record in store.walk_trees("planned", "failed", "done"):
        yield from range(expected, record.index)
        expected = record.index + 1
    yield from range(expected, trees)


def split_off(run: Store, parts: Sequence[Path]) -> None:
    """Make a file of the same run for each of these paths, with every N-th unfinished tree of `run`.

    A tree with calls on record is moved, so that they are in one file only; of the others `run` keeps the plan.
    """
    for number, path in enumerate(parts):
        _make_part(run, path, islice(run.walk_trees("planned", "failed"), number, None, len(parts)), TreeCopier.copy)
    _move(run, run.walk_trees("planned", "failed"))


def split_batch(run: Store, path: Path, trees: Sequence[TreeRecord]) -> None:
    """Make one such file, with these trees."""
    _make_part(run, path, iter(trees), TreeCopier.copy)
    _move(run, iter(trees))


def copy_to_judge(run: Store, path: Path, trees: Iterator[TreeRecord]) -> None:
    """Make a file of the same run with these finished trees, for somebody to judge; `run` keeps all of them."""
    _make_part(run, path, trees, TreeCopier.copy_for_judges)


def _make_part(
    run: Store, path: Path, trees: Iterator[TreeRecord], copy: Callable[[TreeCopier, sqlite3.Connection, str], None]
) -> None:
    assert run.run is not None
    with Store.create_or_open(path) as store:
        _begin(store, run.run, [run], run.run.name)
        _in_transactions(store, trees, lambda copier, record: _copy_from(run, record, partial(copy, copier)))


def _move(run: Store, trees: Iterator[TreeRecord]) -> None:
    """Remove from `run` those of these trees that have calls on record: they were copied."""
    moved = (record for record in trees if run.has_calls(record.id))
    _in_transactions(run, moved, lambda copier, record: copier.remove(record.id))


def bring_back(run: Store, parts: Sequence[Path]) -> None:
    """Bring the trees of these files into `run`. A file in which nothing was begun is passed over."""
    for path in parts:
        with Store.create_or_open(path) as part:
            if part.run is not None:
                _bring_back(run, part)


def _bring_back(run: Store, part: Store) -> None:
    """Only the part's trees are looked at, so that many small parts of a large run cost no more than few large ones."""
    _refuse_other_run(run, part)
    with part.reading() as reader:
        run.write(lambda db: copy_judges(reader, db))
    _in_transactions(run, _done_in_both(run, part), lambda copier, record: _copy_from(part, record, copier.renew))
    grown = _to_be_grown(run, part)
    _merge_groups(run, [part], ([*([_Copy(0, own)] if own else []), _Copy(1, record)] for own, record in grown))


def _done_in_both(run: Store, part: Store) -> Iterator[TreeRecord]:
    """Trees that the part had to be judged."""
    for record in part.walk_trees("done"):
        own = run.tree_record(record.id)
        if own is not None and own.status == "done":
            yield record


def _to_be_grown(run: Store, part: Store) -> Iterator[tuple[TreeRecord | None, TreeRecord]]:
    """The part's other trees, each behind what the run has of it."""
    for record in part.walk_trees("planned", "failed", "done"):
        own = run.tree_record(record.id)
        if own is None or (own.status, record.status) != ("done", "done"):
            yield own, record


def _copy_from(run: Store, record: TreeRecord, copy: Callable[[sqlite3.Connection, str], None]) -> None:
    with run.reading() as db:
        copy(db, record.id)


def _in_transactions(
    store: Store, records: Iterator[TreeRecord], work: Callable[[TreeCopier, TreeRecord], None]
) -> None:
    while some := list(islice(records, _AT_ONCE)):

        def do(db: sqlite3.Connection, some: Sequence[TreeRecord] = some) -> None:
            copier = TreeCopier(db)
            for record in some:
                work(copier, record)

        store.write(do)
