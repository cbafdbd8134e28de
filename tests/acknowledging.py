"""A process for the kill tests: it makes calls through a ledger and prints each as soon as it is acknowledged.

    python acknowledging.py RUN.db TREES CONCURRENCY

Lines: `asked TREE NODE` when the model is asked, `done KEY TEXT` when a call returned, `turn TREE` when one is saved.
"""

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from interalign.config import Parameters
from interalign.ledger import Ledger
from interalign.records import Place, Reply, TreeRecord
from interalign.store import Store
from interalign.tree import Message, Node

TURNS = 4


def say(line: str) -> None:
    """One write per line: what was said before a kill is out."""
    os.write(1, f"{line}\n".encode())


class Counting:
    """A model that takes a moment and says which request it was."""

    name = "test:counting"

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        say(f"asked {messages[-1].content}")
        await asyncio.sleep(random.Random(seed).uniform(0, 0.004))
        return Reply(text=f"Reply to {messages[-1].content}.", model=self.name)


async def grow(store: Store, ledger: Ledger, tree: str) -> None:
    """A conversation of TURNS turns, two calls each."""
    model, parent, seed = Counting(), None, int(tree[1:]) * 100
    for turn in range(1, TURNS + 1):
        ids = (f"{turn}.u", f"{turn}.1")
        texts = []
        for node in ids:
            seed += 1
            asked = [Message(role="user", content=f"{tree} {node}")]
            call = await ledger.call(Place(tree, node, "user", 0), model, asked, Parameters(), seed)
            say(f"done {call.key} {call.reply.text}")
            texts.append(call.reply.text)
        user = Node(id=ids[0], parent=parent, turn=turn, role="user", text=texts[0], by="user")
        reply = Node(id=ids[1], parent=ids[0], turn=turn, role="assistant", text=texts[1], by="plain")
        await store.save_turn(tree, [user, reply], (), (), ())
        say(f"turn {tree}")
        parent = ids[1]
    await store.finish_tree(tree)


async def main(path: Path, trees: int, concurrency: int) -> None:
    """Plan the trees and grow those that are not done."""
    with Store.create_or_open(path) as store:
        store.begin_run("run", "simulation", {}, "0.1.0")
        names = [f"t{number}" for number in range(trees)]
        store.plan_trees(TreeRecord(id=n, index=i, persona="p", seed=0) for i, n in enumerate(names))
        ledger = Ledger(store, concurrency=concurrency)
        async with asyncio.TaskGroup() as group:
            for record in store.trees():
                if record.status != "done":
                    group.create_task(grow(store, ledger, record.id))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
