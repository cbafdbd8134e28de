"""Tokenizers of the kinds that chat models have, made here from a few lines of text."""

from typing import Any

CORPUS = ["Hello, how are you today? I like green tea, and I think that dogs are fine.\n\nWell, then: tea it is."] * 4
CONTROL = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _wrapped(raw: Any, template: str, *, end: str = "<|im_end|>", **more: Any):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=end, chat_template=template, clean_up_tokenization_spaces=False, **more
    )


def _special(raw: Any, tokens: list[str], *, normalized: bool = False, **flags: bool):
    from tokenizers import AddedToken

    raw.add_special_tokens([AddedToken(token, normalized=normalized, special=True, **flags) for token in tokens])
    return raw


def byte_level(
    template: str = CHATML, *, special: tuple[str, ...] = (), added: tuple[str, ...] = (), end: str = "<|im_end|>"
):
    """As GPT, Llama 3 and Qwen: byte-level BPE; `added` tokens are not special, as Qwen's `<think>`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    # Newlines in a row are one token, as theirs are.
    split = pre_tokenizers.Split(Regex(r"\s*[\r\n]+|\s?\w+|\s?[^\s\w]+|\s+"), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(use_regex=False, add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    _special(raw, [*CONTROL, *special])
    raw.add_tokens([AddedToken(token, normalized=False, special=False) for token in added])
    return _wrapped(raw, template, end=end)


def _pieces() -> list[str]:
    signs = sorted({sign for text in CORPUS for sign in text} | set("<|>/_simtarendpOby."))
    return ["<unk>", "<s>", "</s>", *CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *signs]


def sentencepiece_bpe(
    template: str = CHATML, *, prepend: str = "first", legacy: bool = False, normalized: bool = False
):
    """As Llama 2, Mistral and Gemma: BPE over `▁`, byte fallback, and control tokens in the vocabulary itself."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    words = ["▁te", "▁tea", "te", "tea", "en", "im", "▁H", "el", "<s"]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys([*_pieces(), *words]))}
    # One control token could be put together from signs.
    merges = [
        ("<", "s"),
        ("<s", ">"),
        ("t", "e"),
        ("te", "a"),
        ("▁", "te"),
        ("▁", "tea"),
        ("e", "n"),
        ("i", "m"),
        ("▁", "H"),
        ("e", "l"),
    ]
    raw = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if legacy:
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=False)
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _wrapped(_special(raw, ["<s>", "</s>", *CONTROL], normalized=normalized), template, unk_token="<unk>")


def unigram(template: str = CHATML):
    """A Unigram model; its control tokens lie in the vocabulary with the best score of all, as SentencePiece has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = [(piece, 0.0 if len(piece) > 1 else -5.0) for piece in _pieces()]
    raw = Tokenizer(models.Unigram([*vocab, ("▁tea", -4.0)], unk_id=0, byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _wrapped(_special(raw, ["<s>", "</s>", *CONTROL]), template, unk_token="<unk>")


def lower_case(template: str = CHATML):
    """Byte-level BPE behind a normalizer that makes everything lower case and plain, control tokens too."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return _wrapped(_special(raw, CONTROL, normalized=True), template)


def stripping(template: str = CHATML):
    """As Phi 3: control tokens take the blanks beside them with them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return _wrapped(_special(raw, CONTROL, lstrip=True, rstrip=True), template)


def word_level(template: str = CHATML):
    """Whole words, as the tiny models of these tests have them; control tokens are words of the vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", *CONTROL, "user", "assistant", "system", "Hello", "tea", "<", "|", ">", "im_end", "im_start"]
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrapped(_special(raw, CONTROL), template, unk_token="<unk>")
