"""The demo's tiny base model: its words, its loss mask, its training."""

from pathlib import Path

import pytest

from interalign.models.world import long_talk, reading_exercise, short_talk, tokenize, vocabulary
from interalign.models.world.sentences import candidate_sentences, user_sentences
from interalign.seeds import addressed_rng
from interalign.tree import Message

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from interalign.training import world_base_model as base  # noqa: E402 - only where torch is

TINY = base.BaseRecipe(width=32, heads=2, exercises=200, short_talks=60, long_talks=10, lr=1e-2)


def talk(*texts: str) -> list[Message]:
    return [Message(role=("user", "assistant")[place % 2], content=text) for place, text in enumerate(texts)]


@pytest.fixture(scope="module")
def tokenizer():
    return base.world_tokenizer()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, base.BaseCard, list[float]]:
    """A much smaller base model, really trained: its folder, its card, the loss of every step."""
    out, losses = tmp_path_factory.mktemp("made") / "base", []
    card = base.make_base(out, seed=1, recipe=TINY, progress=lambda seen, total, loss: losses.append(loss))
    return out, card, losses


def test_every_sentence_of_the_world_is_split_as_the_world_splits_it_and_comes_back_unchanged(tokenizer) -> None:
    sentences = [*user_sentences(), *candidate_sentences()]
    assert len(sentences) > 500
    for sentence in sentences:
        ids = tokenizer(f" {sentence}").input_ids
        assert tokenizer.convert_ids_to_tokens(ids) == tokenize(f" {sentence}")
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == f" {sentence}"


def test_whole_talks_come_back_unchanged(tokenizer) -> None:
    for index in range(50):
        rng = addressed_rng("test talks", index)
        for message in (*reading_exercise(rng), *short_talk(rng), *long_talk(rng)):
            ids = tokenizer(f" {message.content}").input_ids
            assert tokenizer.decode(ids) == f" {message.content}"
            assert tokenizer.unk_token_id not in ids


def test_whatever_words_a_model_puts_in_a_row_their_text_reads_back_without_an_unknown_word(tokenizer) -> None:
    words = [place for place in range(len(tokenizer)) if place not in tokenizer.all_special_ids]
    for index in range(200):
        reply = tokenizer.decode(addressed_rng("any words", index).choices(words, k=12)).strip()
        ids = tokenizer.apply_chat_template([{"role": "assistant", "content": reply}], return_dict=False)
        assert tokenizer.unk_token_id not in ids


def test_the_vocabulary_is_six_specials_two_blanks_and_the_worlds_words_in_one_form_each(tokenizer) -> None:
    assert len(tokenizer) == 6 + 2 + len({token.strip() for token in vocabulary()})
    assert tokenizer.eos_token == "<end>"
    assert tokenizer("Hello Zanzibar").input_ids == [tokenizer.unk_token_id] * 2


def test_the_loss_falls_on_the_words_and_the_end_of_every_reply_and_on_nothing_else(tokenizer) -> None:
    encoded = base.encode(tokenizer, talk("I have a cat.", "Great!", "Hey!", "Great! Great!"))
    assert list(zip(tokenizer.convert_ids_to_tokens(encoded.ids), encoded.targets, strict=True)) == [
        ("<user>", False), (" I", False), (" have", False), (" a", False), (" cat", False), (".", False),
        ("<end>", False), ("<assistant>", False), (" Great", True), ("!", True), ("<end>", True),
        ("<user>", False), (" Hey", False), ("!", False), ("<end>", False),
        ("<assistant>", False), (" Great", True), ("!", True), (" Great", True), ("!", True), ("<end>", True),
    ]  # fmt: skip


def test_the_generation_prompt_continues_into_exactly_the_tokens_that_were_trained(tokenizer) -> None:
    messages = [message.model_dump() for message in talk("I have a cat.", "Great!")]
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    assert whole[: len(prompt)] == prompt
    assert tokenizer.convert_ids_to_tokens(whole[len(prompt) :]) == [" Great", "!", "<end>"]


def test_the_loss_of_a_batch_is_the_mean_over_its_reply_tokens_whatever_the_padding(tokenizer) -> None:
    torch.manual_seed(0)
    model = base.new_model(tokenizer, TINY)
    talks = [base.encode(tokenizer, talk("Hey!", "Great!")), base.encode(tokenizer, long_talk(addressed_rng("pad", 0)))]
    alone = [base.reply_loss(model, [one]).item() for one in talks]
    counts = [sum(one.targets) for one in talks]
    mean = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    assert base.reply_loss(model, talks).item() == pytest.approx(mean, rel=1e-5)
    # By the library's own loss, with the prompt masked out:
    ids = torch.tensor([talks[1].ids])
    labels = torch.where(torch.tensor([talks[1].targets]), ids, -100)
    assert alone[1] == pytest.approx(model(input_ids=ids, labels=labels).loss.item(), rel=1e-5)


def test_batches_hold_every_talk_once_and_keep_to_their_size() -> None:
    talks = [base.Encoded([place] * (1 + place % 50), [True] * (1 + place % 50)) for place in range(700)]
    batches = base._batches(talks, 100)
    assert sorted(one.ids[0] for batch in batches for one in batch) == list(range(700))
    assert all(len(batch) * max(len(one.ids) for one in batch) <= 100 for batch in batches)


def test_heads_start_by_writing_back_what_they_read(tokenizer) -> None:
    model = base.new_model(tokenizer, base.BaseRecipe())
    for layer in model.model.layers:
        assert torch.equal(layer.self_attn.o_proj.weight, layer.self_attn.v_proj.weight.T)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.train
def test_pretraining_lowers_the_loss_and_says_so_in_the_card(made) -> None:
    _, card, losses = made
    assert card.steps == len(losses) > 10
    assert card.loss < 0.8 * sum(losses[:3]) / 3
    assert 0 <= card.probe <= 1
    assert card.tokens > 5000


@pytest.mark.train
def test_what_is_saved_is_safetensors_tokenizer_template_and_card(made) -> None:
    out, card, _ = made
    assert sorted(path.name for path in out.iterdir()) == [
        "base.json", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert transformers.AutoTokenizer.from_pretrained(out).chat_template == base.CHAT_TEMPLATE
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert model.num_parameters() == card.parameters
    assert model.generation_config.max_new_tokens == 64


@pytest.mark.train
def test_a_card_is_found_again_only_for_its_own_seed_and_recipe(made, tmp_path: Path) -> None:
    out, card, _ = made
    assert base.read_card(out, seed=1, recipe=TINY) == card
    assert base.read_card(out, seed=2, recipe=TINY) is None
    assert base.read_card(out, seed=1) is None
    assert base.read_card(tmp_path, seed=1, recipe=TINY) is None


@pytest.mark.train
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(made, tmp_path: Path) -> None:
    out, _, _ = made
    torch.manual_seed(99)  # what torch was doing before must not matter
    base.make_base(tmp_path / "again", seed=1, recipe=TINY)
    base.make_base(tmp_path / "other", seed=2, recipe=TINY)
    first, again, other = (
        (path / "model.safetensors").read_bytes() for path in (out, tmp_path / "again", tmp_path / "other")
    )
    assert first == again
    assert first != other


@pytest.mark.train
def test_frozen_embeddings_stay_while_the_rest_learns(made) -> None:
    out, _, _ = made
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    base.freeze_embeddings(model)
    rows = [base.encode(tokenizer, short_talk(addressed_rng("frozen", index))) for index in range(8)]
    base.pretrain(model, [rows], TINY)
    same = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert same == {"model.embed_tokens.weight"}


@pytest.mark.train
def test_the_probe_is_1_for_a_model_that_knows_the_answers_and_near_0_for_one_that_does_not_read(
    made, tokenizer
) -> None:
    out, _, _ = made
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert base.probe(model, tokenizer, talks=8) < 0.3

    class Oracle:
        """Says for every place the token that really comes next."""

        def __call__(self, input_ids):
            texts = [
                base.encode(tokenizer, long_talk(addressed_rng("probe", 0, index), good=1.0)).ids for index in range(8)
            ]
            ids = next(ids for ids in texts if ids[:-1] == input_ids[0].tolist())
            logits = torch.nn.functional.one_hot(torch.tensor([ids[1:]]), len(tokenizer)).float()
            return transformers.modeling_outputs.CausalLMOutput(logits=logits)

    assert base.probe(Oracle(), tokenizer, talks=8) == 1.0
