"""The user: plays a persona, and sees the conversation from the other side."""

from collections.abc import Sequence

from interalign.agents.ending import without_mark
from interalign.agents.protocols import Said, UserAsk
from interalign.agents.speaker import Speaker, read_text
from interalign.agents.templates import PromptSet
from interalign.errors import BadContentError
from interalign.personas import Persona
from interalign.tree import Message


class PromptedUser:
    """A chat model that plays the persona."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    async def __call__(self, ask: UserAsk) -> Said:
        """The user's next message, its end mark included; BadContentError after the last unusable reply."""

        def read(reply: str) -> str:
            text = read_text(reply)
            if ask.turn == 1 and not without_mark(text, ask.end_mark).text:
                raise BadContentError("the user ended the talk before its first message", reply)
            return text

        heard = await self._speaker.ask(ask.at, user_messages(self._speaker.prompts, ask), read)
        if heard.value is None:
            raise BadContentError(f"the user said nothing usable in turn {ask.turn}, {heard.unusable()}")
        return Said(text=heard.value, call=heard.call)


def user_messages(prompts: PromptSet, ask: UserAsk) -> list[Message]:
    """The persona's prompt and the conversation with sides exchanged: what the user said, this model said.

    The persona comes anew from its own values in every turn; nothing of an earlier prompt is reused.
    """
    return user_prompt(prompts, ask.persona, ask.end_mark, ask.transcript)


def user_prompt(
    prompts: PromptSet, persona: Persona, end_mark: str | None, transcript: Sequence[Message]
) -> list[Message]:
    """The same for a persona, the end mark of the run and a conversation: what a trained user's rows show, too."""
    begin = Message(role="assistant", content=prompts.render("user_begin"))
    system = prompts.render("user", persona=persona)
    if end_mark is not None:
        system += "\n" + prompts.render("user_end", end_mark=end_mark)
    return [Message(role="system", content=system), *map(_flipped, (begin, *transcript))]


def _flipped(message: Message) -> Message:
    return Message(role="assistant" if message.role == "user" else "user", content=message.content)
