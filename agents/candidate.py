"""The candidate: turns so far -> one reply, with or without the inducer's notes."""

from interalign.agents.protocols import CandidateAsk, Said
from interalign.agents.speaker import Speaker, read_text
from interalign.agents.templates import PromptSet
from interalign.agents.transcripts import with_last
from interalign.errors import BadContentError
from interalign.tree import Message


class PromptedCandidate:
    """A chat model that answers the user."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    async def __call__(self, ask: CandidateAsk) -> Said:
        """One reply; BadContentError after the last unusable one."""
        heard = await self._speaker.ask(ask.at, candidate_messages(self._speaker.prompts, ask), read_text)
        if heard.value is None:
            raise BadContentError(f"the candidate replied nothing usable, {heard.unusable()}")
        return Said(text=heard.value, call=heard.call)


def candidate_messages(prompts: PromptSet, ask: CandidateAsk) -> list[Message]:
    """The conversation as it is: no system prompt, so what is generated is what is trained on.

    A hint is put before the last message only, in this request only: it never accumulates over turns, and hinted and
    plain requests share everything before it.
    """
    if ask.hint is None:
        return list(ask.transcript)
    return with_last(
        ask.transcript, prompts.render("candidate_hint", message=ask.transcript[-1].content, hint=ask.hint)
    )
