"""Control tokens that a message spells out are text: only those that the chat template writes become tokens.

The defence against special-token injection. As long as no message spells one out, the tokenizer is used as it is. Else
a copy of it is, in which every control token has another spelling that no text can have, and the template's own
occurrences are respelt likewise: so the rest of the text is split and merged exactly as the tokenizer does it.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

_NONCE = str(secrets.randbits(62))
"""Part of the spellings that no text can have; digits alone, which no template changes."""
_START, _END = f"\ue000{_NONCE}\ue002", f"\ue003{_NONCE}\ue001"
_MARKS = re.compile(f"{_START}|{_END}")
_SPLIT = f"\ue004{_NONCE}\ue005"


class ConversationRefusedError(Exception):
    """A conversation that cannot become tokens; the message says why, in one line."""


class Rendered(NamedTuple):
    """A conversation as the chat template writes it."""

    text: str
    spelt_out: frozenset[int] = frozenset()
    """Where, in `text`, control tokens begin that a message spells out: they are no tokens."""


class ControlTokens:
    """The control tokens of a tokenizer, and text to token ids without those that messages spell out."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        """`template`: what the chat template can write; added tokens in it count, beside all special ones."""
        self._tokenizer = tokenizer
        self.ids: Mapping[str, int] = {
            token.content: number
            for number, token in tokenizer.added_tokens_decoder.items()
            # Some have `!` for padding: a single sign stays the text that it also is.
            if (token.special and len(token.content) > 1) or (token.content in template and _is_mark(token.content))
        }
        """Spelling and id of every control token."""
        spellings = "|".join(map(re.escape, sorted(self.ids, key=len, reverse=True))) or "(?!)"
        self._exactly = re.compile(spellings)
        # Templates and tokenizers may change case.
        self._in_any_case = re.compile(spellings, re.IGNORECASE)
        lower = [spelling.lower() for spelling in self.ids]
        self._roots = {spelling[:length] for spelling in lower for length in range(1, len(spelling))}
        self._endings = {spelling[-length:] for spelling in lower for length in range(1, len(spelling))}
        self._longest = max(map(len, lower), default=0)
        self._marked = re.compile(f"{_START}({spellings}){_END}|({spellings})|{_START}|{_END}")

    def are_in(self, texts: Iterable[str]) -> bool:
        """Whether one of the texts spells a control token out, or might with what a template writes next to it."""
        return any(self._in_any_case.search(text) or any(self._is_cut(text)) for text in texts)

    def mark(self, text: str) -> str:
        """The text with every control token in it between marks, and a mark beside one that is cut off at its edge."""
        begins, ends = self._is_cut(text)
        marked = self._in_any_case.sub(lambda match: f"{_START}{match[0]}{_END}", text)
        return f"{_START if begins else ''}{marked}{_END if ends else ''}"

    def _is_cut(self, text: str) -> tuple[bool, bool]:
        """Whether the text begins with the rest of a control token, and whether it ends with the beginning of one."""
        edges = text.strip().lower()
        lengths = range(1, min(len(edges) + 1, self._longest))
        return (
            any(edges[:length] in self._endings for length in lengths),
            any(edges[-length:] in self._roots for length in lengths),
        )

    def locate(self, text: str, marked: str) -> Rendered:
        """What a template wrote, given the same conversation as it wrote it from texts with marks.

        Raises ConversationRefusedError if the marks made the template write something else.
        """
        found = [match for match in self._marked.finditer(marked) if match[1] or match[2]]
        here = list(self._exactly.finditer(text))
        same = [match[1] or match[2] for match in found] == [match[0] for match in here]
        # A template that trims a text may leave a blank beside a mark.
        if not same or _without_blanks(_MARKS.sub("", marked)) != _without_blanks(text):
            raise ConversationRefusedError(
                "a message spells out a control token, and the chat template treats that message in another way, so "
                "that it cannot be kept apart from the template's own; reword the message"
            )
        return Rendered(text, frozenset(at.start() for at, match in zip(here, found, strict=True) if match[1]))

    def encode(self, rendered: Rendered) -> list[int]:
        """Token ids: those of the tokenizer itself, but for control tokens that a message spells out."""
        if not rendered.spelt_out:
            ids: list[int] = self._tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
            if self._has_no_others(ids, self._exactly.findall(rendered.text)):
                return ids
        return self._as_respelt(rendered, None)[0]

    def encode_from(self, rendered: Rendered, start: int) -> list[int]:
        """Token ids of the text from `start` on, as what follows the text before it and merges with nothing of it."""
        return self._as_respelt(rendered, start)[1]

    def _as_respelt(self, rendered: Rendered, split: int | None) -> tuple[list[int], list[int]]:
        """Token ids before and from `split` on, by the copy."""
        own = [at for at in self._exactly.finditer(rendered.text) if at.start() not in rendered.spelt_out]
        try:
            ids, rest = self._respelt.encode(rendered.text, own, split)
        except _NoCopyError as error:
            what = "a message spells out a control token" if split is None else "the reply merges with its prompt"
            raise ConversationRefusedError(
                f"{what}, and this tokenizer cannot keep the two apart ({error}); reword the message"
            ) from None
        # Neither more, nor fewer: the other spelling of one that is not recognized would be read as text.
        wanted = [self.ids[match[0]] for match in own if self.ids[match[0]] in self._checked]
        if [token for token in (*ids, *rest) if token in self._checked] != wanted:
            raise ConversationRefusedError(
                "a message spells out a control token that this tokenizer cannot read as text; reword the message"
            )
        return ids, rest

    def _has_no_others(self, ids: Sequence[int], written: Iterable[str]) -> bool:
        """Whether no control token is among the ids more often than it was written."""
        counted = Counter(token for token in ids if token in self._checked)
        return not counted or counted <= Counter(self.ids[spelling] for spelling in written)

    @cached_property
    def _checked(self) -> frozenset[int]:
        """Ids of the control tokens; without the one that stands for any unknown word."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        unknown = getattr(getattr(backend, "model", None), "unk_token", self._tokenizer.unk_token)
        return frozenset(number for spelling, number in self.ids.items() if spelling != unknown)

    @cached_property
    def _respelt(self) -> "_Respelt":
        return _Respelt(self._tokenizer, self.ids)


def _is_mark(spelling: str) -> bool:
    """Whether an added token looks like a mark; words, punctuation and runs of blanks are added tokens too, of some."""
    visible = spelling.strip(" \t\r\n▁")
    return len(visible) > 2 and not visible.isalnum()


def _without_blanks(text: str) -> str:
    return "".join(text.split())


class _NoCopyError(Exception):
    """A tokenizer cannot be copied with other spellings; the message says why."""


class _Respelt:
    """A copy of a tokenizer in which control tokens have spellings that no text can have."""

    def __init__(self, tokenizer: Any, control: Mapping[str, int]) -> None:
        from tokenizers import AddedToken, Tokenizer

        self._new = {spelling: f"{_START}{number}{_END}" for spelling, number in control.items()}
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise _NoCopyError("it is none of the tokenizers library")
        try:
            self._copy = Tokenizer.from_str(json.dumps(self._respell(json.loads(tokenizer.backend_tokenizer.to_str()))))
        except Exception as error:  # noqa: BLE001 - whatever the library says of it, there is no copy
            raise _NoCopyError(str(error)) from None
        if any(self._copy.token_to_id(new) != control[spelling] for spelling, new in self._new.items()):
            raise _NoCopyError("its control tokens get other ids")
        self._copy.add_special_tokens([AddedToken(_SPLIT, normalized=False, special=True)])
        self._split: int = self._copy.token_to_id(_SPLIT)  # type: ignore[assignment]  # it was added just now

    def encode(self, text: str, own: Sequence[re.Match[str]], split: int | None) -> tuple[list[int], list[int]]:
        """Token ids before and from `split` on; of the control tokens in the text only `own` ones are tokens."""
        parts, at = [], 0
        for match in own:
            parts += [_cut(text, at, match.start(), split), self._new[match[0]]]
            at = match.end()
        parts.append(_cut(text, at, len(text), split))
        ids: list[int] = self._copy.encode("".join(parts), add_special_tokens=False).ids
        if split is None:
            return ids, []
        place = ids.index(self._split)
        return ids[:place], ids[place + 1 :]

    def _respell(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state of a tokenizer, as the library writes it, with the other spellings."""
        for token in state["added_tokens"]:
            token["content"] = self._new.get(token["content"], token["content"])
        # What is in the model's own vocabulary could be reached from text, too.
        model = state["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {self._new.get(piece, piece): number for piece, number in model["vocab"].items()}
        else:
            model["vocab"] = [[self._new.get(piece, piece), score] for piece, score in model["vocab"]]
        if "merges" in model:
            model["merges"] = [pair for pair in model["merges"] if self._new.keys().isdisjoint(_results(pair))]
        if model.get("unk_token") is not None:
            model["unk_token"] = self._new.get(model["unk_token"], model["unk_token"])
        return {**state, "truncation": None, "padding": None}


def _cut(text: str, start: int, end: int, split: int | None) -> str:
    """The text from `start` to `end`, with the split in it if it lies in it or at one of its ends."""
    if split is None or not start <= split <= end:
        return text[start:end]
    return f"{text[start:split]}{_SPLIT}{text[split:end]}"


def _results(pair: Sequence[str] | str) -> set[str]:
    """The pieces that a merge takes and makes."""
    parts = pair.split(" ") if isinstance(pair, str) else list(pair)
    return {*parts, "".join(parts)}
