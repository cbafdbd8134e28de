"""The whole chain on the embedded world, step by step. Each step resumes by itself when the demo is run again."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from interalign import api
from interalign.config import Runtime
from interalign.files import refuse_folder, refuse_outputs
from interalign.records import RunSummary
from interalign.steps import Advance, Step, calls_made, growing, training

if TYPE_CHECKING:
    from interalign.training.world_base_model import BaseRecipe

SCRIPTED = ("blind=world:blind", "attentive=world:attentive", "oracle=world:oracle")
_WRITTEN = ("personas-train.jsonl", "personas-heldout.jsonl", "sft.jsonl", "dpo.jsonl", "report.html")
IN_PROCESS = Runtime(concurrency=64)
"""Local weights answer in batches of up to this many calls."""

# A 416,000-parameter model learns at a far higher rate than the paper's 7 to 8 billion parameters do; its tied
# embeddings stay as pre-training left them, or words seen only there would be forgotten.
SFT_CONFIG: Mapping[str, Any] = {
    "learning_rate": 1e-3,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "lr_scheduler_type": "cosine",
    "freeze_embeddings": True,
    "share_prefixes": True,
}
DPO_CONFIG: Mapping[str, Any] = {
    "learning_rate": 5e-4,
    "num_train_epochs": 1,
    "beta": 0.1,
    "per_device_train_batch_size": 1,  # tree, of some 7 pairs
    "gradient_accumulation_steps": 8,
    "lr_scheduler_type": "cosine",
    "freeze_embeddings": True,
}


class Scale(NamedTuple):
    """How much of everything. The defaults are the demo; its test runs the same chain on less."""

    sft_trees: int = 200
    round_trees: int = 64
    cases: int = 60
    """Evaluation cases: 12 held-out profiles x 5 personalities."""
    turns: int = 10
    recipe: "BaseRecipe | None" = None
    """None: the base model's own defaults."""


class Demo:
    """The demo in one folder."""

    def __init__(self, out: Path, *, train: bool = True, seed: int = 0, scale: Scale | None = None) -> None:
        self.out = out
        self.train = train
        self.seed = seed
        self.scale = scale or Scale()

    def steps(self) -> Iterator[Step]:
        """All steps in order; without training, those that need no torch. ConfigError if the folder cannot be used."""
        refuse_folder(self.out)
        if self.out.is_dir():
            refuse_outputs(self.out / name for name in _WRITTEN)
        yield Step("personas of the world", self.personas)
        yield Step("conversation trees, judged", self.trees)
        yield Step("preference data", self.preferences)
        if self.train:
            yield Step("a tiny base model, made and pre-trained here", self.base)
            yield Step("SFT on the replies the judge preferred", self.sft)
            yield Step("trees grown by that model itself", self.own_trees)
            yield Step("DPO on the model's own replies", self.dpo)
        yield Step("ALOE evaluation on held-out personas", self.evaluation)
        yield Step("report", self.report)

    def personas(self, advance: Advance) -> str:
        """Two files that share no value of any fact."""
        self.out.mkdir(parents=True, exist_ok=True)
        counts = [
            api.personas_generate(self.out / f"personas-{split}.jsonl", n=n, heldout=split == "heldout", seed=self.seed)
            for split, n in (("train", self.scale.sft_trees), ("heldout", self.scale.cases))
        ]
        return f"{counts[0]} to train on, {counts[1]} held out, made of values that training never shows"

    def trees(self, advance: Advance) -> str:
        """The paper's shape: one path with a hinted and a plain reply at every turn."""
        run = self._simulate(
            "run.db", advance, trees=self.scale.sft_trees, personas=str(self.out / "personas-train.jsonl"),
            candidate="attentive=world:attentive",
        )  # fmt: skip
        return f"{run.done} trees of {self.scale.turns} turns in run.db, by {calls_made(run)}"

    def preferences(self, advance: Advance) -> str:
        """What the judge preferred, as training rows."""
        sft = api.export(self.out / "run.db", self.out / "sft.jsonl", format="sft")
        if self.train:
            return f"{sft} SFT rows in sft.jsonl"
        dpo = api.export(self.out / "run.db", self.out / "dpo.jsonl", format="dpo")
        return f"{sft} SFT rows in sft.jsonl, {dpo} preference pairs in dpo.jsonl"

    def base(self, advance: Advance) -> str:
        """`world:base`: a language model that can read and write the world's English, well and badly mixed."""
        from interalign.training.world_base_model import make_base, read_card

        settings: dict[str, Any] = {"seed": self.seed, "recipe": self.scale.recipe}
        card = read_card(self.out / "base", **settings) or make_base(
            self.out / "base", **settings, progress=lambda done, total, loss: advance(done / total)
        )
        size = f"{card.parameters:,} parameters in base/, {card.tokens:,} tokens read"
        return f"{size}; predicts {card.probe:.0%} of the fact words in good replies"

    def sft(self, advance: Advance) -> str:
        """TRL's SFTTrainer."""
        from interalign.training.sft import train_sft

        result = train_sft(
            str(self.out / "base"), self.out / "sft.jsonl", self.out / "sft",
            config={**SFT_CONFIG, "seed": self.seed}, run_name="run", progress=training(advance),
        )  # fmt: skip
        return str(result)

    def own_trees(self, advance: Advance) -> str:
        """Four samples a turn from the model itself, each scored; the best one goes on."""
        run = self._simulate(
            "round1.db", advance, trees=self.scale.round_trees, personas=str(self.out / "personas-train.jsonl"),
            candidate=f"sft=hf:{self.out / 'sft'}", branch=4, policy="beam:1", judging="score", inducer="none",
        )  # fmt: skip
        pairs = api.export(self.out / "round1.db", self.out / "dpo.jsonl", format="dpo")
        return f"{run.done} trees in round1.db, {pairs} preference pairs in dpo.jsonl, by {calls_made(run)}"

    def dpo(self, advance: Advance) -> str:
        """TRL's DPOTrainer, from the SFT model, which is also the reference."""
        from interalign.training.dpo import train_dpo

        result = train_dpo(
            str(self.out / "sft"), self.out / "dpo.jsonl", self.out / "dpo",
            config={**DPO_CONFIG, "seed": self.seed}, run_name="round1", progress=training(advance),
        )  # fmt: skip
        return str(result)

    def evaluation(self, advance: Advance) -> str:
        """Every candidate meets the same cases; the models sample at temperature 1."""
        models = [f"{name}=hf:{self.out / name}" for name in ("base", "sft", "dpo")] if self.train else []
        run = api.evaluate(
            self.out / "eval.db", candidate=[*SCRIPTED, *models], cases=str(self.out / "personas-heldout.jsonl"),
            turns=self.scale.turns, seed=self.seed, runtime=IN_PROCESS, progress=growing(advance),
        )  # fmt: skip
        return f"{run.done} conversations in eval.db, by {calls_made(run)}"

    def report(self, advance: Advance) -> str:
        """The figures, as a page."""
        api.write_report_html(api.report(self.out / "eval.db"), self.out / "report.html")
        return f"{self.out / 'report.html'}"

    def _simulate(self, name: str, advance: Advance, **settings: Any) -> RunSummary:
        return api.simulate(
            self.out / name,
            seed=self.seed,
            turns=self.scale.turns,
            runtime=IN_PROCESS,
            progress=growing(advance),
            **settings,
        )
