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
    """The conversation as it is, after the run's system message if there is one: as exported rows show it.

    A hint is put before the last message only, in this request only: it never accumulates over turns, and hinted and
    plain requests share everything before it.
    """
    system = [] if ask.system is None else [Message(role="system", content=ask.system)]
    if ask.hint is None:
        return [*system, *ask.transcript]
    hinted = with_last(
        ask.transcript, prompts.render("candidate_hint", message=ask.transcript[-1].content, hint=ask.hint)
    )
    return [*system, *hinted]
