"""The demo's base model: a tiny Llama that speaks the world's English, pre-trained here in about a minute.

It validates the pipeline and says nothing about language models at large. Its last talks hold good replies as a
minority, so that SFT and DPO have something to bring forward: docs/world.md says what that means for the figures.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import Field

from interalign.files import write_atomically
from interalign.models.world import deciding_exercise, long_talk, reading_exercise, short_talk, tokenize, vocabulary
from interalign.models.world.values import FACT_OF
from interalign.seeds import addressed_rng, addressed_seed
from interalign.training.library_output import quiet_libraries
from interalign.tree import Frozen, Message

PAD, END, USER, ASSISTANT, SYSTEM, UNKNOWN = SPECIALS = ("<pad>", "<end>", "<user>", "<assistant>", "<system>", "<unk>")
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ '<' + message.role + '>' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ ' ' + message.content + '<end>' }}{% endgeneration %}"
    "{% else %}{{ ' ' + message.content + '<end>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""The end of turn belongs to the generation block: a model that is never taught to stop never does.

A blank before every message, so that each word has one form, with its blank: then whatever words a model puts in a
row, the text it makes reads back as the same tokens, and no reply has a word that its own tokenizer does not know.
"""
_SPLIT: Final = r" ?[^ .,!?\n]+|[.,!?]|[ \n]"
"""As the world's `tokenize` splits a text (a test compares them on every sentence of the world)."""

_BUCKET: Final = 512
"""Talks sorted by length together: enough for little padding, few enough to keep a stage mixed."""

Talk = Sequence[Message]
Progress = Callable[[int, int, float], None]
"""Called after every step with the talks seen, all talks, and the loss of the step."""


class BaseRecipe(Frozen):
    """What the base model is made of. The defaults are the demo's; what was tried is in docs/world.md."""

    width: int = 128
    layers: int = 2
    heads: int = 4
    positions: int = 1024
    init_std: float = 0.08
    """Four times the usual: from 0.02 a model of this size does not learn to read the talk."""
    exercises: int = 1500
    """One turn, several facts told, all used: reading comes first."""
    decisions: int = 3000
    """One turn, the fact that matters is told or is not: use it, or ask for it?"""
    short_talks: int = 3000
    """Four to eight turns, every reply right: the same, but the fact was told a while ago."""
    long_talks: int = 500
    """Ten turns, of which `good` are answered well: what the model brings to SFT."""
    good: float = Field(default=0.4, ge=0, le=1)
    turns: int = 10
    batch_tokens: int = 1024
    """Tokens of one optimiser step, padding included. Many small steps read better than few large ones."""
    lr: float = 2.5e-3
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it falls along a cosine to a twentieth."""


class BaseCard(Frozen):
    """What came out, saved beside the weights as base.json."""

    seed: int
    recipe: BaseRecipe
    parameters: int
    tokens: int
    """Tokens read in training, without padding."""
    steps: int
    loss: float
    """Mean loss a reply token, nats, over the last tenth of the steps."""
    probe: float
    """Share of the fact words in right replies of unseen talks that the model predicts right, 0..1."""
    seconds: float


def make_base(
    out: Path, *, seed: int = 0, recipe: BaseRecipe | None = None, progress: Progress | None = None
) -> BaseCard:
    """Make, pre-train and save the tiny model: safetensors, tokenizer, chat template, base.json. One CPU thread.

    The same seed and recipe give the same weights on the same machine.
    """
    started, recipe = time.monotonic(), recipe or BaseRecipe()
    tokenizer = world_tokenizer(recipe.positions)
    with _one_thread_seeded(addressed_seed("base", seed)):
        model = new_model(tokenizer, recipe)
        losses, tokens = pretrain(model, list(_encoded(tokenizer, curriculum(recipe, seed))), recipe, progress)
        share = probe(model, tokenizer, seed=seed)
    tail = losses[-max(1, len(losses) // 10) :]
    card = BaseCard(
        seed=seed,
        recipe=recipe,
        parameters=model.num_parameters(),
        tokens=tokens,
        steps=len(losses),
        loss=sum(tail) / len(tail),
        probe=share,
        seconds=time.monotonic() - started,
    )
    _save(out, model, tokenizer, card)
    return card


def read_card(out: Path, *, seed: int = 0, recipe: BaseRecipe | None = None) -> BaseCard | None:
    """The card of the base model in this folder; None if there is none, or one of another seed or recipe."""
    try:
        card = BaseCard.model_validate_json((out / "base.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if card.seed == seed and card.recipe == (recipe or BaseRecipe()) else None


def _save(out: Path, model: Any, tokenizer: Any, card: BaseCard) -> None:
    with quiet_libraries():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    # Last, so that a folder with a card is a whole one.
    write_atomically(out / "base.json", [card.model_dump_json(indent=2), "\n"])


def world_tokenizer(positions: int = 1024, texts: Iterable[str] = ()) -> Any:
    """A word-level PreTrainedTokenizerFast over the world's vocabulary; what it decodes is the text again.

    `texts`: what else it has to read, such as the prompts of a user agent, wherever a word stands in them.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*map(_one_form, vocabulary()), *(token for text in texts for token in tokenize(f" {text}"))]
    ids = {token: place for place, token in enumerate(dict.fromkeys((*SPECIALS, " ", "\n", *words)))}
    splitter = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    splitter.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    splitter.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=splitter,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )


def _one_form(token: str) -> str:
    return token if token in ".,!? \n" else f" {token.lstrip()}"  # noqa: S105  (a word, no password)


def new_model(tokenizer: Any, recipe: BaseRecipe) -> Any:
    """A LlamaForCausalLM with tied embeddings, not trained yet; its weights come from torch's global generator."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.width * 8 // 3,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        initializer_range=recipe.init_std,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        # What a head reads it writes back unchanged: attention copies words from the first step on.
        layer.self_attn.o_proj.weight.data.copy_(layer.self_attn.v_proj.weight.data.T)
    model.generation_config = GenerationConfig(
        max_new_tokens=64, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return model


def freeze_embeddings(model: Any) -> None:
    """Keep the (tied) word embeddings as they are in further training.

    Else SFT pulls the reading of all words towards the values that occur in training personas.
    """
    for weight in (*model.get_input_embeddings().parameters(), *model.get_output_embeddings().parameters()):
        weight.requires_grad_(False)


def curriculum(recipe: BaseRecipe, seed: int) -> Iterator[list[Talk]]:
    """The training talks, stage by stage: reading, then deciding, then behaving as a base model should."""
    yield [reading_exercise(addressed_rng("exercise", seed, index)) for index in range(recipe.exercises)]
    yield [deciding_exercise(addressed_rng("decision", seed, index)) for index in range(recipe.decisions)]
    yield [short_talk(addressed_rng("short talk", seed, index)) for index in range(recipe.short_talks)]
    yield [
        long_talk(addressed_rng("long talk", seed, index), good=recipe.good, turns=recipe.turns)
        for index in range(recipe.long_talks)
    ]


class Encoded(NamedTuple):
    """A talk as the model sees it."""

    ids: list[int]
    targets: list[bool]
    """Whether the token is one the model must learn to say: a reply's words and its end of turn."""


def encode(tokenizer: Any, talk: Talk) -> Encoded:
    """Token ids and loss mask of a talk, as the chat template's generation blocks say."""
    rows = tokenizer.apply_chat_template(
        [message.model_dump() for message in talk], return_dict=True, return_assistant_tokens_mask=True
    )
    return Encoded(rows["input_ids"], [bool(flag) for flag in rows["assistant_masks"]])


def _encoded(tokenizer: Any, stages: Iterator[list[Talk]]) -> Iterator[list[Encoded]]:
    for talks in stages:
        yield [encode(tokenizer, talk) for talk in talks]


def pretrain(
    model: Any, stages: Sequence[Sequence[Encoded]], recipe: BaseRecipe, progress: Progress | None = None
) -> tuple[list[float], int]:
    """Train in place, one pass over each stage in turn; the loss of every step and the number of tokens read."""
    import torch

    batches = [batch for stage in stages for batch in _batches(stage, recipe.batch_tokens)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01)
    losses: list[float] = []
    seen, total = 0, sum(map(len, batches))
    model.train()
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule(step, len(batches), recipe.warmup)
        loss = reply_loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seen += len(batch)
        if progress:
            progress(seen, total, losses[-1])
    model.eval()
    return losses, sum(len(talk.ids) for batch in batches for talk in batch)


def _batches(talks: Sequence[Encoded], batch_tokens: int) -> list[list[Encoded]]:
    """Talks of like length together, at most `batch_tokens` tokens each with padding, in the order of the talks."""
    batches: list[list[Encoded]] = []
    for start in range(0, len(talks), _BUCKET):
        batch: list[Encoded] = []
        made: list[list[Encoded]] = []
        for talk in sorted(talks[start : start + _BUCKET], key=lambda talk: len(talk.ids)):
            if batch and len(talk.ids) * (len(batch) + 1) > batch_tokens:
                made.append(batch)
                batch = []
            batch.append(talk)
        # Sorted batches would teach short talks first; every third and so on mixes them without another seed.
        made.append(batch)
        batches += [made[place] for offset in range(3) for place in range(offset, len(made), 3)]
    return batches


def reply_loss(model: Any, batch: Sequence[Encoded]) -> Any:
    """Mean cross-entropy, nats, over the reply tokens of the batch."""
    import torch

    ids, targets = _padded(batch)
    wanted = targets[:, 1:]
    # Padding stands on the right: with causal attention no real token sees it, so no mask is needed.
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[wanted]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][wanted])


def _padded(batch: Sequence[Encoded]) -> tuple[Any, Any]:
    """Ids and targets, both [talks, longest]."""
    import torch

    longest = max(len(talk.ids) for talk in batch)
    ids = [talk.ids + [0] * (longest - len(talk.ids)) for talk in batch]
    targets = [talk.targets + [False] * (longest - len(talk.ids)) for talk in batch]
    return torch.tensor(ids), torch.tensor(targets)


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at this step: up in a line, down along a cosine to a twentieth."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.05 + 0.475 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def probe(model: Any, tokenizer: Any, *, seed: int = 0, talks: int = 64) -> float:
    """Share of the fact words in right replies of `talks` unseen ten-turn talks that the model predicts right, 0..1.

    The loss hides it: fact words are few, and a model that does not read the talk speaks as well as one that does.
    """
    import torch

    facts = torch.tensor(
        [token.strip().lower() in FACT_OF for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    )
    right = total = 0
    with torch.inference_mode():
        for index in range(talks):
            talk = encode(tokenizer, long_talk(addressed_rng("probe", seed, index), good=1.0))
            ids, targets = _padded([talk])
            asked = targets[0, 1:] & facts[ids[0, 1:]]
            said = model(input_ids=ids[:, :-1]).logits[0].argmax(-1)
            right += int((said == ids[0, 1:])[asked].sum())
            total += int(asked.sum())
    return right / max(1, total)


@contextmanager
def _one_thread_seeded(seed: int) -> Iterator[None]:
    """Torch on one thread (a second one costs more than it gives here), its generator seeded; both restored after."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
