"""What `hf:` models keep between calls: the store by itself, then tiny models of several architectures."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interalign.errors import ConfigError, FailedTreeError, StopError
from interalign.models.base import Parameters
from interalign.models.local import LocalModel, hf_model
from interalign.models.local.prefix_cache import (
    PrefixCache,
    Span,
    covered_tokens,
    extract_row,
    left_padded_batch,
    next_to_prefill,
    slice_spans,
)
from interalign.records import Reply
from interalign.tree import Message

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BYTES_A_TOKEN = 48  # of the spans below: 2 layers x 1 head x (1 key + 2 values) x 8 bytes


def spans_of(*tokens: int) -> list[Span]:
    """One span in which the key at a place says which tokens stand up to there, as a model's would."""
    said = [float(hash(tokens[: place + 1]) % 10**9) for place in range(len(tokens))]
    keys = torch.tensor(said, dtype=torch.float64).reshape(1, 1, -1, 1)
    return [Span(keys.repeat(2, 1, 1, 1), keys.repeat(2, 1, 1, 2))]


def said_by(spans: list[Span]) -> list[float]:
    return [key for span in spans for key in span.keys[0, 0, :, 0].tolist()]


def kept_bytes(store: PrefixCache) -> int:
    """Memory that the store really holds, whatever it says."""
    return sum(part.untyped_storage().nbytes() for node in store._least_recent for part in node.span)


def test_the_longest_prefix_is_found_where_sequences_part() -> None:
    store = PrefixCache(10**6)
    store.add((1, 2, 3, 4), spans_of(1, 2, 3, 4))
    store.add((1, 2, 5), spans_of(1, 2, 5))
    for asked, known in [
        ((1, 2, 3, 4, 9), 4),
        ((1, 2, 5), 3),
        ((1, 2, 5, 3), 3),
        ((1, 2, 9), 2),
        ((2, 1), 0),
        ((), 0),
    ]:
        assert said_by(store.longest(asked)) == said_by(spans_of(*asked))[:known]


def test_what_siblings_share_is_held_once() -> None:
    store = PrefixCache(10**6)
    prompt = tuple(range(30))
    for sibling in (100, 200, 300):
        tokens = (*prompt, sibling, sibling + 1)
        store.add(tokens, spans_of(*tokens))
    assert store.nbytes == kept_bytes(store) == (30 + 3 * 2) * BYTES_A_TOKEN


def test_what_was_used_longest_ago_goes_first_and_a_prefix_never_before_what_follows_it() -> None:
    store = PrefixCache(7 * BYTES_A_TOKEN)
    store.add((1, 2), spans_of(1, 2))
    store.add((1, 2, 3), spans_of(1, 2, 3))
    store.add((7, 8), spans_of(7, 8))
    store.longest((1, 2, 3))
    store.add((9, 9, 9), spans_of(9, 9, 9))
    found = {tokens: covered_tokens(store.longest(tokens)) for tokens in [(1, 2, 3), (7, 8), (9, 9, 9)]}
    assert found == {(1, 2, 3): 3, (7, 8): 0, (9, 9, 9): 3}
    store.longest((9, 9, 9))
    store.add((5, 5), spans_of(5, 5))
    assert covered_tokens(store.longest((1, 2, 3))) == 2
    assert store.nbytes == kept_bytes(store) == 7 * BYTES_A_TOKEN


def test_tokens_behind_the_last_span_are_left_out() -> None:
    store = PrefixCache(10**6)
    store.add((1, 2, 3, 4), spans_of(1, 2, 3))
    assert covered_tokens(store.longest((1, 2, 3, 4))) == 3


def test_a_store_without_room_keeps_nothing() -> None:
    store = PrefixCache(0)
    store.add((1, 2), spans_of(1, 2))
    assert store.longest((1, 2)) == []
    assert store.nbytes == kept_bytes(store) == 0


few_tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)


@given(
    steps=st.lists(st.tuples(st.booleans(), few_tokens), max_size=40), kept=st.sampled_from([0, 5, 20, 10**6]), cut=...
)
def test_whatever_is_added_asked_and_dropped_a_span_is_that_of_its_tokens(
    steps: list[tuple[bool, tuple[int, ...]]], kept: int, cut: int
) -> None:
    store, added = PrefixCache(kept * BYTES_A_TOKEN), [()]
    for add, tokens in steps:
        whole = spans_of(*tokens)
        if add:
            middle = cut % (len(tokens) + 1)
            store.add(tokens, list(slice_spans(whole, 0, middle)) + list(slice_spans(whole, middle, len(tokens))))
            added.append(tokens)
        found = said_by(store.longest(tokens))
        assert found == said_by(whole)[: len(found)]
        if kept == 10**6:
            assert len(found) == max(common(tokens, other) for other in added)
        assert store.nbytes == kept_bytes(store) <= store.max_bytes


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return max(n for n in range(len(one) + 1) if one[:n] == other[:n])


def test_rows_are_laid_out_to_the_right_and_lifted_again() -> None:
    rows = [spans_of(1, 2, 3), [], [*spans_of(4), *spans_of(5)]]
    keys, values = left_padded_batch(rows)
    assert tuple(keys.shape) == (2, 3, 1, 3, 1)
    assert tuple(values.shape) == (2, 3, 1, 3, 2)
    one, two, three = said_by(rows[0])
    four, five = said_by(rows[2])
    assert keys[1, :, 0, :, 0].tolist() == [[one, two, three], [0, 0, 0], [0, four, five]]
    layers = [Span(*both) for both in zip(keys, values, strict=True)]
    assert said_by([extract_row(layers, 2, 1, 3)]) == [four, five]


def test_rows_join_a_pass_while_they_read_little_in_vain_and_wait_for_a_beginning_that_is_long_enough() -> None:
    long, short = tuple(range(100)), tuple(range(200, 210))
    assert next_to_prefill([(long, 0), (short, 0)], 64) == [long]
    assert next_to_prefill([(long, 70), (short, 0)], 64) == [long, short]
    twin = (*long, 7)
    assert next_to_prefill([(long, 0), (twin, 0)], 64) == [long]
    assert next_to_prefill([(long, 90), (twin, 90)], 64) == [twin, long]
    assert next_to_prefill([], 64) == []


# From here on: models.

WORDS = [
    "hello",
    "you",
    "like",
    "tea",
    "coffee",
    "dogs",
    "cats",
    "and",
    "the",
    "park",
    "what",
    "shall",
    "we",
    "do",
    "today",
]
SPECIALS = ["<pad>", "<end>", "<user>", "<assistant>", "<unk>"]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SIZES = {"vocab_size": len(SPECIALS + WORDS), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
LLAMA_LIKE = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA_LIKE))


def gpt_neox():
    """Rotates a quarter of each head, and adds attention and the rest side by side."""
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**LLAMA_LIKE))


def deepseek():
    """Keys wider than values, and experts."""
    sizes = {
        "moe_intermediate_size": 32,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
    }
    sizes |= {"first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 16}
    sizes |= {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12, "num_key_value_heads": 4}
    return transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**{**LLAMA_LIKE, **sizes}))


def gpt2():
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.3}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, **sizes))


def sliding():
    """Two layers that see 200 tokens back: further than one could try out on every model."""
    return transformers.MistralForCausalLM(transformers.MistralConfig(**LLAMA_LIKE, sliding_window=200))


def half_sliding():
    """One layer that sees 8 tokens back, one that sees all."""
    sizes = {**LLAMA_LIKE, "head_dim": 8, "sliding_window": 8}
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**sizes))


def recurrent():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.3}
    return transformers.MambaForCausalLM(transformers.MambaConfig(**SIZES, **sizes))


def without_positions():
    sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    return transformers.BloomForCausalLM(transformers.BloomConfig(**SIZES, **sizes))


def positions_by_length():
    """Rotations change for all tokens, old ones too, once there are more than 16."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    rope |= {"factor": 16.0, "original_max_position_embeddings": 16}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA_LIKE, rope_parameters=rope))


KEEPING = [llama, gpt2, gpt_neox]
READING_ANEW = [sliding, half_sliding, recurrent, without_positions, positions_by_length]
Make = Callable[[], object]
Folders = Callable[[Make], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The folder of a tiny random model of a given architecture; what it says is babble."""
    made: dict[Make, Path] = {}

    def folder(make: Make) -> Path:
        if make not in made:
            made[make] = tmp_path_factory.mktemp(make.__name__)
            torch.manual_seed(0)
            make().save_pretrained(made[make])
            tokenizer().save_pretrained(made[make])
        return made[make]

    return folder


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(SPECIALS + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=TEMPLATE,
        model_max_length=256,
    )


def talk(*texts: str) -> list[Message]:
    return [Message(role=("user", "assistant")[place % 2], content=text) for place, text in enumerate(texts)]


SAMPLING = Parameters(temperature=1.0, max_tokens=6)
LOOSE = Parameters(temperature=3.0, max_tokens=9)
GREEDY = Parameters(temperature=0.0, max_tokens=9)
Call = tuple[list[Message], Parameters, int]


def ask_all(model: LocalModel, calls: list[Call]) -> list[str]:
    """The text of every reply; of an empty one or another failure, the name of the error."""

    async def at_once() -> list[Reply | BaseException]:
        return await asyncio.gather(*(model(*call) for call in calls), return_exceptions=True)

    return [answer.text if isinstance(answer, Reply) else type(answer).__name__ for answer in asyncio.run(at_once())]


def tokens_read(model: LocalModel) -> list[tuple[int, int]]:
    """(rows, columns) of every forward pass that reads prompts, as they happen."""
    model.load()
    passes: list[tuple[int, int]] = []

    def note(_module, _args, kwargs) -> None:
        if kwargs["input_ids"].shape[1] > 1:
            passes.append(tuple(kwargs["input_ids"].shape))

    model._queues[0].engine.weights.model.register_forward_pre_hook(note, with_kwargs=True)
    return passes


def clean_seed(model: LocalModel, prompt: list[Message]) -> int:
    """The seed of a reply of three words or more that ends by itself, and whose text is all its tokens but the end."""

    async def sample() -> list[Reply | BaseException]:
        return await asyncio.gather(*(model(prompt, LOOSE, seed) for seed in range(100)), return_exceptions=True)

    for seed, answer in enumerate(asyncio.run(sample())):
        ended = isinstance(answer, Reply) and answer.finish_reason == "stop"
        if ended and len(answer.text.split()) == answer.completion_tokens - 1 > 2:
            return seed
    raise AssertionError("no seed gives one")


@pytest.mark.parametrize("make", [*KEEPING, deepseek])
def test_the_next_turn_reads_only_what_is_new(folders: Folders, make: Make) -> None:
    seed = clean_seed(hf_model(f"hf:{folders(make)}"), talk("hello you"))
    model = hf_model(f"hf:{folders(make)}")
    passes = tokens_read(model)
    [reply] = ask_all(model, [(talk("hello you"), LOOSE, seed)])
    assert passes == [(1, 4)]  # <user> hello you <end>; the model goes on from <assistant>
    ask_all(model, [(talk("hello you", reply, "the park today"), SAMPLING, 0)])
    assert passes[1:] == [(1, 6)]  # <end> <user> the park today <end>


@pytest.mark.parametrize("make", READING_ANEW)
def test_models_that_cannot_be_read_in_parts_read_every_prompt_anew(folders: Folders, make: Make) -> None:
    model = hf_model(f"hf:{folders(make)}?dtype=float64")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folders(make), dtype="float64")
    words, texts, lengths = tokenizer(), ["hello you"], []
    passes = tokens_read(model)
    for _ in range(3):
        prompt = words.apply_chat_template(
            [m.model_dump() for m in talk(*texts)], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        lengths.append(prompt["input_ids"].shape[1])
        out = plain.generate(**prompt, do_sample=False, max_new_tokens=9)[0, lengths[-1] :]
        text = words.decode(out, skip_special_tokens=True).strip()
        assert ask_all(model, [(talk(*texts), GREEDY, 0)]) == [text or "BadContentError"]
        texts += [text or "and", "what shall we do today and the dogs"]
    assert passes == [(1, length) for length in lengths]


def test_siblings_go_on_from_one_prompt_whoever_is_continued(folders: Folders) -> None:
    model = hf_model(f"hf:{folders(llama)}")
    passes = tokens_read(model)
    prompt = talk("what shall we do today")
    ask_all(model, [(prompt, SAMPLING, seed) for seed in range(4)])
    assert passes == [(1, 7)]  # <user>, five words, <end>
    hinted = talk("what shall we do today like dogs")
    ask_all(model, [(hinted, SAMPLING, 0)])
    assert passes[1:] == [(1, 3)]  # like dogs <end>
    ask_all(model, [(prompt, SAMPLING, 9), (hinted, SAMPLING, 9)])
    assert passes[2:] == []


def test_a_long_beginning_that_prompts_of_a_batch_share_is_read_once(folders: Folders) -> None:
    model = hf_model(f"hf:{folders(llama)}")
    passes = tokens_read(model)
    rules = "tea and coffee " * 30
    ask_all(model, [(talk(f"{rules}{word}"), SAMPLING, 0) for word in ("hello", "dogs", "cats")])
    assert passes == [(1, 93), (2, 2)]  # <user>, 91 words, <end>; then the last word and <end> of the two others


def test_without_cache_every_call_reads_its_whole_prompt(folders: Folders) -> None:
    model = hf_model(f"hf:{folders(llama)}?cache_mb=0")
    passes = tokens_read(model)
    for _ in range(2):
        ask_all(model, [(talk("hello you"), SAMPLING, 0)])
    assert passes == [(1, 5), (1, 5)]
    assert model._queues[0].engine.prefixes.nbytes == 0
    with pytest.raises(ConfigError, match="cache_mb"):
        hf_model("hf:x?cache_mb=-1")


Turn = list[tuple[int, int, bool, float]]
"""What is asked at once: conversation, siblings, whether the first of them has a hint, temperature."""

turns = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans(), st.sampled_from([0.0, 1.0])), min_size=1, max_size=4
)


def replies_to(model: LocalModel, schedule: list[Turn], seed: int) -> list[list[str]]:
    """Play the schedule; every conversation goes on from one of its replies."""
    said: dict[int, list[str]] = {}
    heard = []
    for number, turn in enumerate(schedule):
        calls: list[Call] = []
        for conversation, siblings, hint, temperature in turn:
            words = random.Random(f"{seed} {conversation} {len(said.get(conversation, []))}").choices(WORDS, k=14)
            transcript = [*said.get(conversation, []), " ".join(words[: 1 + len(words[0]) * number])]
            prompts = [talk(*transcript)] * siblings
            if hint:
                prompts[0] = talk(*transcript[:-1], transcript[-1] + " and the dogs like tea")
            parameters = Parameters(temperature=temperature, max_tokens=6)
            calls += [(prompt, parameters, seed + 10 * number + n) for n, prompt in enumerate(prompts)]
            said[conversation] = [*transcript, ""]
        heard.append(ask_all(model, calls))
        for (prompt, _, _), text in zip(calls, heard[-1], strict=True):
            for transcript in said.values():
                if transcript[:-1] == [message.content for message in prompt]:
                    transcript[-1] = text
    return heard


@pytest.fixture(scope="module")
def keeping_and_not(folders: Folders) -> Callable[[Make], tuple[LocalModel, LocalModel]]:
    made: dict[Make, tuple[LocalModel, LocalModel]] = {}

    def pair(make: Make) -> tuple[LocalModel, LocalModel]:
        name = f"hf:{folders(make)}?dtype=float64"
        return made.setdefault(make, (hf_model(name), hf_model(f"{name}&cache_mb=0")))

    return pair


@pytest.mark.parametrize("make", KEEPING)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    schedule=st.lists(turns, min_size=2, max_size=5), kibibytes=st.sampled_from([4, 40, 1024]), seed=st.integers(0, 99)
)
def test_replies_are_equal_with_and_without_cache(
    keeping_and_not: Callable[[Make], tuple[LocalModel, LocalModel]],
    make: Make,
    schedule: list[Turn],
    kibibytes: int,
    seed: int,
) -> None:
    keeping, not_keeping = keeping_and_not(make)
    # Whatever earlier examples left in it stays, as far as there is room: replies must not depend on that either.
    keeping._queues[0].engine.prefixes.max_bytes = kibibytes << 10
    assert replies_to(keeping, schedule, seed) == replies_to(not_keeping, schedule, seed)
    assert (
        keeping._queues[0].engine.prefixes.nbytes == kept_bytes(keeping._queues[0].engine.prefixes) <= kibibytes << 10
    )
    assert keeping._queues[0].engine.weights.chunked


def test_a_process_that_starts_anew_gives_the_same_replies(folders: Folders) -> None:
    schedule: list[Turn] = [[(0, 2, True, 1.0), (1, 2, False, 1.0)]] * 5
    name = f"hf:{folders(llama)}?dtype=float64"
    model = hf_model(name)
    unbroken = replies_to(model, schedule, 1)
    assert replies_to(hf_model(name), schedule, 1) == unbroken
    assert replies_to(model, schedule, 1) == unbroken


def layer_of(model: LocalModel):
    """The second layer of a Llama, where a test can have a pass fail midway."""
    return model._queues[0].engine.weights.model.model.layers[1]


def test_a_failed_batch_is_told_to_every_caller_and_leaves_nothing_wrong_behind(folders: Folders) -> None:
    model = hf_model(f"hf:{folders(llama)}?dtype=float64")
    calls: list[Call] = [(talk("hello you", "tea", word), SAMPLING, 0) for word in WORDS]
    steps: list[int] = []

    def fall_over(*_) -> None:
        steps.append(0)
        if len(steps) > 2:
            raise RuntimeError("CUDA error: device-side assert triggered")

    ask_all(model, calls[:5])
    hook = layer_of(model).register_forward_pre_hook(fall_over)
    # The prompts are read and the first token is written; with the second, it fails.
    assert ask_all(model, calls) == ["StopError"] * len(calls)
    with pytest.raises(StopError, match=r"failed on a batch of 1 \(RuntimeError: CUDA error: device-side assert"):
        asyncio.run(model(*calls[0]))
    hook.remove()
    assert ask_all(model, calls) == ask_all(hf_model(model.name), calls)


def rows_at_most(model: LocalModel, most: int, error: Exception) -> list[int]:
    """Have memory run out in every pass of more rows than `most`; returns the rows of all passes, as they happen."""
    rows: list[int] = []

    def run_out(_module, args) -> None:
        rows.append(len(args[0]))
        if rows[-1] > most:
            raise error

    layer_of(model).register_forward_pre_hook(run_out)
    return rows


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_a_batch_for_which_there_is_not_enough_memory_is_answered_in_halves(folders: Folders, error, caplog) -> None:
    model = hf_model(f"hf:{folders(llama)}?dtype=float64")
    calls: list[Call] = [(talk("hello you", "tea", word), SAMPLING, 0) for word in WORDS]
    undisturbed = ask_all(model, calls)
    rows = rows_at_most(model, 4, error)
    assert ask_all(model, calls) == undisturbed
    assert [count for count in rows if count > 4] == [15, 8, 7]  # and 4 + 4, 4 + 3
    assert ask_all(model, calls) == undisturbed
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "ran out of memory on a batch of 15" in said


def test_a_call_for_which_there_is_not_enough_memory_alone_fails_its_tree_and_no_other(folders: Folders) -> None:
    model = hf_model(f"hf:{folders(llama)}?dtype=float64")
    calls: list[Call] = [(talk(word), GREEDY, 0) for word in WORDS[:4]]
    calls.insert(2, (talk("tea and coffee " * 20), GREEDY, 0))
    undisturbed = ask_all(model, calls)

    def run_out(_module, args) -> None:
        if args[0].shape[1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model = hf_model(model.name)
    model.load()
    hook = layer_of(model).register_forward_pre_hook(run_out)
    assert ask_all(model, calls) == [*undisturbed[:2], "FailedTreeError", *undisturbed[3:]]
    with pytest.raises(FailedTreeError, match=r"one call alone, a prompt of 63 tokens .*CUDA out of memory"):
        asyncio.run(model(*calls[2]))
    hook.remove()
    assert ask_all(model, calls) == undisturbed


def test_what_was_kept_is_given_up_before_a_call_fails(folders: Folders) -> None:
    model = hf_model(f"hf:{folders(llama)}?dtype=float64")
    calls: list[Call] = [(talk("hello you", "tea", word), SAMPLING, 0) for word in WORDS]
    undisturbed = ask_all(model, calls)
    engine = model._queues[0].engine

    def kept_of_last() -> int:
        return covered_tokens(engine.prefixes.longest(engine._encode(calls[14][0], {})[:-1]))

    def run_out(*_) -> None:
        if kept_of_last() == 10:
            raise MemoryError

    layer_of(model).register_forward_pre_hook(run_out)
    assert kept_of_last() == 10
    # As long as that is kept there is no memory for the first call.
    assert ask_all(model, calls[:1]) == undisturbed[:1]
    assert kept_of_last() < 10


def test_a_closed_model_forgets_what_it_read(folders: Folders) -> None:
    model = hf_model(f"hf:{folders(llama)}")
    ask_all(model, [(talk("hello you"), SAMPLING, 0)])
    assert model._queues[0].engine.prefixes.nbytes > 0
    kept = weakref.ref(model._queues[0].engine.prefixes)
    model.close()
    gc.collect()
    assert kept() is None
