"""A hook: it looks at a finished turn and notes something about its nodes."""

from collections.abc import Mapping

from pydantic import JsonValue

from interalign import HookView


async def reply_length(view: HookView) -> Mapping[str, Mapping[str, JsonValue]]:
    """Note the length in words of every reply, and how far it is from the user's own."""
    own = len(view.user.text.split())
    lengths = {reply.id: len(reply.text.split()) for reply in view.replies}
    return {node: {"words": words, "words more than the user": words - own} for node, words in lengths.items()}
