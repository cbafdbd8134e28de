"""What a model has to produce after the generation prompt it is served with: a reply and the token that ends its turn.

Chat templates rewrite turns: some write an empty block of reasoning into the last reply, or into the generation prompt,
or leave reasoning out of earlier turns. A row's prompt is therefore always the prompt that serving writes, and its
completion is what the template writes from there to the first token at which the model stops.
"""

import re
from collections.abc import Sequence, Set
from typing import Any, Final, NamedTuple

from interalign.models.local.chat_template import KWARGS, ChatTemplate
from interalign.models.local.control_tokens import ConversationRefusedError, Rendered
from interalign.training.rows import TokenRow, TrainingRow
from interalign.tree import Message

_NO_REASONING: Final = re.compile(
    r"\s*(?:[<\[]\|?think(?:ing)?\|?[>\]]\s*)?[<\[]\|?/think(?:ing)?\|?[>\]]\s*", re.IGNORECASE
)
"""A block of reasoning with nothing in it, or the end of one."""
_AT_THE_END: Final = re.compile(f"(?:{_NO_REASONING.pattern})\\Z", re.IGNORECASE)
_NEXT: Final = Message(role="user", content="Thank you.")
_LEFT_OUT: Final = (
    "the chat template leaves a part of the reply out, or writes it in another way, so it would not be learnt; write "
    "the reply as the template does, or give another template (chat_template: FILE)"
)


class Prompt(NamedTuple):
    """A conversation up to where the assistant begins to speak."""

    messages: Sequence[Message]
    written: Rendered
    ids: list[int]


def prompt_and_replies(chat: ChatTemplate, row: TrainingRow, stops: Set[int]) -> TokenRow:
    """The row as token ids: the prompt that serving writes, and what the model has to say after it for each reply.

    Raises ConversationRefusedError as `completion` does.
    """
    prompt = prompt_of(chat, row.prompt)
    return TokenRow(prompt.ids, tuple(completion(chat, prompt, reply, stops) for reply in row.completions))


def whole_conversation(chat: ChatTemplate, messages: Sequence[Message], reply: Message) -> list[int]:
    """Token ids of a conversation that ends with this reply; ConversationRefusedError if the template drops of it."""
    whole = chat.render([*messages, reply])
    if _plain(reply.content) not in _plain(whole.text):
        raise ConversationRefusedError(_LEFT_OUT)
    return chat.control.encode(whole)


def prompt_of(chat: ChatTemplate, messages: Sequence[Message]) -> Prompt:
    """The prompt that serving writes for this conversation; ConversationRefusedError if it cannot."""
    written = chat.render(messages, generation_prompt=True)
    return Prompt(messages, written, chat.control.encode(written))


def completion(chat: ChatTemplate, prompt: Prompt, reply: Message, stops: Set[int]) -> list[int]:
    """Token ids of the reply as it follows the prompt, up to and including the first token in `stops`.

    Raises ConversationRefusedError, with what would help, where the template does not tell what follows the prompt, or
    where nothing ends the reply at which the model stops.
    """
    whole = chat.render([*prompt.messages, reply])
    start = _start(chat, prompt, whole, reply)
    if start is None:
        raise ConversationRefusedError(_another_context(chat, prompt, reply))
    if _plain(reply.content) not in _plain(whole.text[start:]):
        raise ConversationRefusedError(_LEFT_OUT)
    ids = _ids_from(chat, prompt, whole, start)
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    if end is None:
        return [*ids, _next_turn(chat, prompt, whole, reply, stops)]
    if _says(chat, ids[end + 1 :]):
        raise ConversationRefusedError(
            f"the reply goes on after {chat.tokenizer.decode(ids[end : end + 1])!r}, at which the model stops; shorten "
            "it, or take that token out of eos_token_id in the model's generation_config.json"
        )
    return ids[: end + 1]


def _plain(text: str) -> str:
    """The text without blanks and case, which templates may change."""
    return "".join(text.split()).casefold()


def _says(chat: ChatTemplate, ids: Sequence[int]) -> bool:
    """Whether there is more in the token ids than control tokens and blanks."""
    control = set(chat.control.ids.values())
    return bool(chat.tokenizer.decode([token for token in ids if token not in control]).strip())


def _start(chat: ChatTemplate, prompt: Prompt, whole: Rendered, reply: Message) -> int | None:
    """Where, in the whole conversation, what follows the prompt begins; None if the template does not tell."""
    if whole.text.startswith(prompt.written.text):
        return len(prompt.written.text)
    header = _generation_prompt(chat, prompt)
    block = _AT_THE_END.search(header)
    return _after_header(whole.text, header[: block.start()] if block else header, reply, skip=block is not None)


def _generation_prompt(chat: ChatTemplate, prompt: Prompt) -> str:
    """What the template writes only where the assistant is to speak."""
    asked, told = prompt.written.text, chat.render(prompt.messages).text
    differs = next((at for at, (one, other) in enumerate(zip(asked, told, strict=False)) if one != other), len(told))
    return asked[differs:]


def _after_header(text: str, header: str, reply: Message, *, skip: bool) -> int | None:
    """Where the reply begins behind the last `header` before it; `skip`: without a block of no reasoning."""
    said = reply.content.strip()
    place = text.rfind(header) if header.strip() else -1
    while place >= 0:
        start = place + len(header)
        block = _NO_REASONING.match(text, start)
        reads = block.end() if block else start
        if text[reads:].lstrip().startswith(said):
            return reads + len(text[reads:]) - len(text[reads:].lstrip()) if skip else start
        place = text.rfind(header, 0, place)
    return None


def _ids_from(chat: ChatTemplate, prompt: Prompt, whole: Rendered, start: int) -> list[int]:
    """What the model has to say after the prompt's tokens, which serving gives it as they are."""
    ids = chat.control.encode(whole)
    if start == len(prompt.written.text) and ids[: len(prompt.ids)] == prompt.ids:
        return ids[len(prompt.ids) :]
    return chat.control.encode_from(whole, start)


def _next_turn(chat: ChatTemplate, prompt: Prompt, whole: Rendered, reply: Message, stops: Set[int]) -> int:
    """The token that begins the next turn, if the model stops at it: so some templates end a reply."""
    further = chat.render([*prompt.messages, reply, _NEXT])
    end = whole.text[max(0, whole.text.rfind(reply.content.strip())) :]
    place = further.text.rfind(end, 0, further.text.rfind(_NEXT.content))
    if place >= 0:
        begins = chat.control.encode_from(further, place + len(end))
        if begins[0] in stops:
            return begins[0]
    raise ConversationRefusedError(_never_stops(chat, whole, stops))


def _never_stops(chat: ChatTemplate, whole: Rendered, stops: Set[int]) -> str:
    ids = chat.control.encode(whole)
    known = {number: spelling for spelling, number in chat.control.ids.items()}
    last = next((token for token in reversed(ids) if not chat.tokenizer.decode([token]).isspace()), None)
    at = ", ".join(sorted(repr(chat.tokenizer.decode([token])) for token in stops))
    if last not in known:
        return (
            "the chat template ends the reply with none of the tokens the model stops at, so it would never learn to "
            f"stop; write one of {at} behind the reply in a template of your own (chat_template: FILE)"
        )
    return (
        f"the chat template ends the reply with {known[last]!r}, and the model stops at {at}, so it would never learn "
        f"to stop; add {last} to eos_token_id in the model's generation_config.json"
    )


def _another_context(chat: ChatTemplate, prompt: Prompt, reply: Message) -> str:
    """Why it is not told what follows the prompt, and what would help."""
    header = _generation_prompt(chat, prompt)
    what = (
        "the chat template renders the conversation differently once the reply is there, so the model would learn in a "
        f"context it never sees in use: the generation prompt {header!r} is not what it writes before a reply"
    )
    for name, value in _candidates(chat):
        if _would_do(chat, prompt, reply, name, value):
            return f"{what}; set {KWARGS}: {{{name}: {str(value).lower()}}}"
    return f"{what}; give a template whose generation prompt is (chat_template: FILE)"


def _candidates(chat: ChatTemplate) -> list[tuple[str, bool]]:
    """Switches of the template that could help: those of reasoning, under whatever name."""
    names = sorted(name for name in chat.variables() if re.search("think|reason", name, re.IGNORECASE))
    return [(name, value) for name in names for value in (False, True)]


def _would_do(chat: ChatTemplate, prompt: Prompt, reply: Message, name: str, value: Any) -> bool:
    other = ChatTemplate(chat.tokenizer, {**chat.kwargs, name: value})
    try:
        asked = prompt_of(other, prompt.messages)
        return _start(other, asked, other.render([*prompt.messages, reply]), reply) is not None
    except ConversationRefusedError:
        return False
