"""The inducer: turns so far -> what they reveal of the persona. It is never told the persona."""

from interalign.agents.protocols import InducerAsk, Said
from interalign.agents.speaker import Speaker, read_text
from interalign.agents.templates import PromptSet
from interalign.agents.transcripts import as_script, with_last
from interalign.errors import BadContentError
from interalign.tree import Message


class PromptedInducer:
    """A chat model that takes notes."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    async def __call__(self, ask: InducerAsk) -> Said:
        """The notes; BadContentError after the last unusable reply."""
        heard = await self._speaker.ask(ask.at, inducer_messages(self._speaker.prompts, ask), read_text)
        if heard.value is None:
            raise BadContentError(f"the inducer wrote nothing usable, {heard.unusable()}")
        return Said(text=heard.value, call=heard.call)


def inducer_messages(prompts: PromptSet, ask: InducerAsk) -> list[Message]:
    """One message that quotes the conversation, so that the model reads it and does not take part in it.

    A prompt that does not show `conversation` goes in place of the last message instead, as version 1 did.
    """
    if prompts.takes("inducer", "conversation"):
        content = prompts.render("inducer", conversation=as_script(ask.transcript), message=ask.transcript[-1].content)
        return [Message(role="user", content=content)]
    return with_last(ask.transcript, prompts.render("inducer", message=ask.transcript[-1].content))
