"""Does training move the levels, over several seeds? The demo's chain for each seed, with the two controls.

    python bench/chain.py --out FOLDER [--seeds 0 1 2]

Everything is sampled at temperature 1, on personas made of held-out values. Prints every seed's figures, then all seeds
together: differences are paired by case, and their intervals come from resampling profiles within seeds. Run again with
the same folder, it only reads. Figures from the embedded world validate the pipeline; they say nothing about how good a
language model is.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from interalign import api
from interalign.cli.demo import Demo
from interalign.config import Runtime
from interalign.eval.results import CandidateScores, candidate_result, candidate_scores, comparisons
from interalign.eval.run_report import scored_cases
from interalign.store import Store

BATCHED = Runtime(concurrency=64)
TURNS = 10
NAMES = {"sft-last": "sft, last turn only", "sft-silent": "sft, user never answers"}
SHOWN = [("sft", "base"), ("dpo", "sft"), ("dpo", "base"), *((control, "sft") for control in NAMES.values())]
"""The differences that the method promises, and the two controls, which must lower the level."""


def grown(out: Path, seed: int) -> None:
    """The demo of this seed, step by step."""
    for step in Demo(out, seed=seed).steps():
        began = time.monotonic()
        said = step.run(lambda share: None)
        print(f"seed {seed}: {step.title}: {said} [{time.monotonic() - began:.0f} s]", flush=True)


def controls(out: Path, seed: int) -> None:
    """The SFT model with its history cut off, and with a user who never answers what is asked."""
    model, cases = f"hf:{out / 'sft'}", str(out / "personas-heldout.jsonl")
    shared = {"cases": cases, "seed": seed, "runtime": BATCHED}
    api.evaluate(out / "history.db", candidate=[f"sft-last=hf:{out / 'sft'}?history=1"], **shared)
    api.evaluate(out / "silent.db", candidate=[f"sft-silent={model}"], user="world:user?answers=0", **shared)


def scores_of(out: Path, seed: int) -> list[CandidateScores]:
    """The scores of all candidates of one seed; cases and profiles carry the seed's name."""
    found: list[CandidateScores] = []
    for file in ("eval.db", "history.db", "silent.db"):
        with Store.open(out / file) as store:
            found += candidate_scores(scored_cases(store), TURNS)
    return [_of_seed(candidate, seed) for candidate in found]


def _of_seed(candidate: CandidateScores, seed: int) -> CandidateScores:
    return CandidateScores(
        name=NAMES.get(candidate.name, candidate.name),
        scores={f"{seed}/{case}": row for case, row in candidate.scores.items()},
        profile_of={f"{seed}/{case}": f"{seed}/{key}" for case, key in candidate.profile_of.items()},
    )


def pooled(seeds: Iterable[Sequence[CandidateScores]]) -> list[CandidateScores]:
    """The same candidates over all seeds."""
    together: dict[str, CandidateScores] = {}
    for candidates in seeds:
        for one in candidates:
            before = together.get(one.name, CandidateScores(name=one.name, scores={}, profile_of={}))
            together[one.name] = CandidateScores(
                name=one.name,
                scores={**before.scores, **one.scores},
                profile_of={**before.profile_of, **one.profile_of},
            )
    return list(together.values())


def show(title: str, candidates: Sequence[CandidateScores]) -> None:
    """Levels, then the differences."""
    print(f"\n{title}\n| candidate | AL(1) | AL(10) | mean AL [95 %] | IR [95 %] | n |\n|---|---|---|---|---|---|")
    for result in map(candidate_result, candidates):
        assert result.al_ci
        assert result.ir_ci
        print(
            f"| {result.name} | {result.al[0]:.2f} | {result.al[-1]:.2f} "
            f"| {result.al_mean:.2f} [{result.al_ci[0]:.2f}, {result.al_ci[1]:.2f}] "
            f"| {result.ir:+.3f} [{result.ir_ci[0]:+.3f}, {result.ir_ci[1]:+.3f}] | {result.n_cases} |"
        )
    by_name = {candidate.name: candidate for candidate in candidates}
    print("\n| difference | mean AL [95 %] | IR [95 %] | p |\n|---|---|---|---|")
    for a, b in SHOWN:
        [found] = comparisons([by_name[a], by_name[b]])
        assert found.ci
        assert found.delta_ir_ci
        print(
            f"| {a} - {b} | {found.delta_al:+.2f} [{found.ci[0]:+.2f}, {found.ci[1]:+.2f}] "
            f"| {found.delta_ir:+.3f} [{found.delta_ir_ci[0]:+.3f}, {found.delta_ir_ci[1]:+.3f}] | {found.p:.4f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    seeds = []
    for seed in asked.seeds:
        out = asked.out / f"seed-{seed}"
        grown(out, seed)
        controls(out, seed)
        seeds.append(scores_of(out, seed))
        show(f"Seed {seed}", seeds[-1])
    show(f"All {len(seeds)} seeds, temperature 1", pooled(seeds))


if __name__ == "__main__":
    main()
