"""The inducer: turns so far -> what they reveal of the persona. It is never told the persona."""

from interalign.agents.protocols import InducerAsk, Said
from interalign.agents.speaker import Speaker, read_text
from interalign.agents.transcripts import with_last
from interalign.errors import BadContentError


class PromptedInducer:
    """A chat model that takes notes."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    async def __call__(self, ask: InducerAsk) -> Said:
        """The notes; BadContentError after the last unusable reply."""
        messages = with_last(
            ask.transcript, self._speaker.prompts.render("inducer", message=ask.transcript[-1].content)
        )
        heard = await self._speaker.ask(ask.at, messages, read_text)
        if heard.value is None:
            raise BadContentError(f"the inducer wrote nothing usable, {heard.unusable()}")
        return Said(text=heard.value, call=heard.call)
