"""What worker processes give `hf:` models: `python bench/local_workers.py [--model demo|larger] [--workers 1 2]`.

The conversations of local_cache.py are grown by the model in process and by 1 and 2 workers, which take turns; every
repeat has conversations of its own. Without a GPU a worker more than there are free cores can give nothing.

One line a run: calls a second, and how many times as many as in process in the same repeat; then the medians.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from local_cache import SHAPES, TURNS, Cost, conversation, save_model

from interalign.models.local import LocalModel, hf_model


def calls_a_second(model: LocalModel, kind: str, repeat: int) -> float:
    shape = SHAPES[kind]

    async def grow() -> None:
        trees = range(repeat * shape.trees, (repeat + 1) * shape.trees)
        await asyncio.gather(*(conversation(model, tree, shape, Cost()) for tree in trees))

    started = time.perf_counter()
    asyncio.run(grow())
    return shape.trees * TURNS * 2 / (time.perf_counter() - started)


def compare(kind: str, workers: list[int], repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"{kind}: {save_model(kind, Path(folder)) / 1e6:.1f} M weights, {SHAPES[kind].trees} conversations")
        models = {"in process": hf_model(f"hf:{folder}")}
        models |= {f"{count} workers": hf_model(f"hf:{folder}?workers={count}") for count in workers}
        for model in models.values():
            model.load()
        ratios: dict[str, list[float]] = {name: [] for name in models}
        for repeat in range(repeats):
            found = {name: calls_a_second(model, kind, repeat) for name, model in models.items()}
            for name, rate in found.items():
                ratios[name].append(rate / found["in process"])
                print(f"  {name:11} {rate:7.1f} calls/s  {ratios[name][-1]:5.2f}", flush=True)
        for model in models.values():
            model.close()
    del ratios["in process"]
    for name, values in ratios.items():
        print(f"  {name} / in process, calls/s: median {median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="demo")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    compare(arguments.model, arguments.workers, arguments.repeats)
