"""What the viewer's pages cost: `python bench/viewer.py [--trees 5000] [--turns 10]`

Writes an evaluation of that size by hand (two candidates, one judge's scores) and a simulation (two replies a turn,
compared in both orders), then asks for each page in this process: CPU milliseconds and bytes.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from starlette.testclient import TestClient

from interalign.eval.view import create_app
from interalign.personas import Persona
from interalign.records import TreeRecord
from interalign.store import Store
from interalign.tree import Node, Presentation, Score, Verdict

WORDS = (
    "tea", "bees", "garden", "harbour", "violin", "bread", "winter", "train", "letter", "river", "music", "market",
    "stone", "evening", "window", "paint", "mountain", "story", "coffee", "cat", "sister", "summer", "boat", "kitchen",
    "question", "answer", "short", "long", "kind", "honest", "plain", "warm", "quiet",
)  # fmt: skip
CPU_TREE, CPU_LIST, TREE_KB, LIST_KB = 25.0, 50.0, 120.0, 45.0
"""Goals: CPU ms and kB of a tree's page and of the list."""


class Cost(NamedTuple):
    """What one page took."""

    page: str
    cpu: float
    """Milliseconds, the least of several times."""
    kb: float
    most_cpu: float
    most_kb: float

    @property
    def holds(self) -> bool:
        """Both goals are met."""
        return self.cpu <= self.most_cpu and self.kb <= self.most_kb


def said(random_: random.Random, most: int = 24) -> str:
    """A message of some words."""
    return " ".join(random_.choices(WORDS, k=random_.randint(6, most))).capitalize() + "."


def turns(random_: random.Random, number: int, branch: int, by: str) -> Iterator[list[Node]]:
    """The turns of one tree; the conversation goes on with the first reply."""
    parent: str | None = None
    for turn in range(1, number + 1):
        asked = f"{parent}/u" if parent else "u"
        stem = f"{parent}/" if parent else ""
        user = Node(id=asked, parent=parent, turn=turn, role="user", text=said(random_), by="user")
        replies = [
            Node(id=f"{stem}{k}", parent=asked, turn=turn, role="assistant", text=said(random_, 60), by=by)
            for k in range(1, branch + 1)
        ]
        yield [user, *replies]
        parent = replies[0].id


def scored(random_: random.Random, node: str) -> Score:
    """A score by a judge who gives a reason."""
    value = random_.randint(1, 5)
    return Score(judge="judge", node=node, replies=(f"{said(random_)} Score: {value}",), value=value)


def compared(random_: random.Random, a: str, b: str) -> Verdict:
    """A verdict by a judge who gives a reason."""
    first, second = random_.choice(["A", "B"]), random_.choice(["A", "B"])
    orders = (
        Presentation(first=a, second=b, replies=(f"{said(random_)} Verdict: {first}",), value=first),
        Presentation(first=b, second=a, replies=(f"{said(random_)} Verdict: {second}",), value=second),
    )
    return Verdict(judge="judge", a=a, b=b, orders=orders)


async def fill(store: Store, records: Sequence[TreeRecord], number: int, branch: int) -> None:
    """Grow these trees."""
    random_ = random.Random(0)
    for record in records:
        saves = []
        for nodes in turns(random_, number, branch, record.candidate or "average"):
            replies = [node.id for node in nodes[1:]]
            verdicts = [compared(random_, *replies)] if branch == 2 else []
            scores = [scored(random_, node) for node in replies] if branch == 1 else []
            saves.append(store.save_turn(record.id, nodes, verdicts, scores))
        await asyncio.gather(*saves, store.finish_tree(record.id))


def make(path: Path, trees: int, number: int, kind: str) -> None:
    """A run file of this size."""
    branch = 1 if kind == "evaluation" else 2
    personas = [
        Persona(id=f"p{n}", profile=(f"I like {word}.", "I keep bees."), personality="I am plain.", source="file")
        for n, word in enumerate(WORDS)
    ]
    names = ("before", "after")
    records = [
        TreeRecord(
            id=f"{names[n % 2]}/c{n // 2:05}" if branch == 1 else f"t{n:05}",
            index=n,
            persona=personas[n // 2 % len(personas)].id,
            seed=n,
            candidate=names[n % 2] if branch == 1 else None,
            case=f"c{n // 2:05}" if branch == 1 else None,
        )
        for n in range(trees)
    ]
    with Store.create_or_open(path) as store:
        store.begin_run("bench", kind, {"seed": 7, "turns": number}, "0.1.0")  # type: ignore[arg-type]
        store.add_personas(personas)
        store.plan_trees(records)
        asyncio.run(fill(store, records, number, branch))


def cpu_ms(work: Callable[[], object], times: int = 5) -> float:
    """The least of several times."""
    took = []
    for _ in range(times):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return 1e3 * min(took)


def costs(path: Path, kind: str) -> Iterator[Cost]:
    """Each page of the run."""
    client = TestClient(create_app(path))
    tree = "before%2Fc00007" if kind == "evaluation" else "t00007"
    lists = ["/trees", "/trees?words=violin", "/trees?words=nowhere", "/trees?persona=p7", "/trees?orders=1"]
    lists += [f"/trees?sort={sort}" for sort in ("worst", "falling", "gap")]
    lists += ["/trees?sort=worst&words=violin&high=2", "/trees?sort=gap&words=violin"]
    for url in [f"/tree/{tree}", *lists]:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        most = (CPU_TREE, TREE_KB) if url.startswith("/tree/") else (CPU_LIST, LIST_KB)
        yield Cost(f"{kind} {url}", cpu_ms(lambda url=url: client.get(url)), len(answer.content) / 1e3, *most)  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="keep the run files here, and use those that are there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        holds = True
        for kind in ("evaluation", "simulation"):
            path = folder / f"{kind}-{asked.trees}x{asked.turns}.db"
            if not path.exists():
                make(path, asked.trees, asked.turns, kind)
            for cost in costs(path, kind):
                holds &= cost.holds
                print(f"{cost.page:60} {cost.cpu:7.1f} ms {cost.kb:7.1f} kB {'' if cost.holds else 'OVER'}")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
