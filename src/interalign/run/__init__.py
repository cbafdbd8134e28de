"""Carrying a run out: plan its trees, grow or judge the unfinished ones, say beforehand what it will take."""

from interalign.run.dry_run import Estimate, estimate_evaluation, estimate_simulation
from interalign.run.execute import run_evaluation, run_simulation
from interalign.run.judge import run_judging
from interalign.run.session import refuse_unknown_prices

__all__ = [
    "Estimate",
    "estimate_evaluation",
    "estimate_simulation",
    "refuse_unknown_prices",
    "run_evaluation",
    "run_judging",
    "run_simulation",
]
