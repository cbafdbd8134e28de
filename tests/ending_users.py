"""User agents that end the talk, `ending_users:NAME` on the command line. The mark is `[END]`."""

from collections.abc import Sequence

import interalign as ia
from interalign.records import Reply


class Says:
    """A chat model that says what stands for the turn it is in, the last text for ever."""

    def __init__(self, *texts: str) -> None:
        self.name = "says"
        self._texts = texts

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        turn = sum(message.role == "assistant" for message in messages) + 1
        return Reply(text=self._texts[min(turn, len(self._texts)) - 1], model=self.name)


leaves_in_turn_3 = Says("Hello.", "And then?", "[END]")
"""Nothing but the mark in its third message."""
thanks_in_turn_2 = Says("Hello.", "Thanks, that is all I wanted. [END]")
never_begins = Says("[END]")


class Second(Says):
    """Says nothing but the mark at first, and a message when it is asked again."""

    async def __call__(self, messages: Sequence[ia.Message], parameters: ia.Parameters, seed: int) -> Reply:
        again = "[asked again]" in messages[-1].content
        return Reply(text="Hello. [END]" if again else "[END]", model=self.name)


begins_when_asked_again = Second()


async def by_persona(ask: ia.UserAsk) -> ia.Said:
    """A plug-in user: two personas in three end the talk, after turn 2 or in turn 4."""
    kind = sum(map(ord, ask.persona.id)) % 3
    assert ask.end_mark == "[END]"
    if kind == 0 and ask.turn == 2:
        return ia.Said(text="That will do. [END]")
    return ia.Said(text="[END]" if kind == 1 and ask.turn == 4 else f"What next, in turn {ask.turn}?")


async def leaves_after_the_first_reply(ask: ia.UserAsk) -> ia.Said:
    """Ends the paths that go on from a first reply, and no other."""
    return ia.Said(text="[END]" if ask.at.node == "1/u" else f"What next, in turn {ask.turn}?")


async def asks_nothing_of_a_mark(ask: ia.UserAsk) -> ia.Said:
    """A user that was written before there were end marks."""
    assert "end_mark" not in ask.model_dump()
    return ia.Said(text=f"What next, in turn {ask.turn}?")
