"""One seat's way to its model: through the ledger, and asked again for what cannot be used."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from interalign.agents.protocols import At
from interalign.agents.reply_text import Speaks, clean_reply
from interalign.agents.templates import PromptSet
from interalign.agents.transcripts import with_last
from interalign.errors import BadContentError
from interalign.ledger import Calls
from interalign.models.base import ChatModel, Parameters
from interalign.records import Place
from interalign.seeds import addressed_seed
from interalign.tree import Message

T = TypeVar("T")


class Heard(NamedTuple, Generic[T]):
    """What came of asking: the parsed value (None: nothing could be used), all raw replies, the last call's key."""

    value: T | None
    replies: tuple[str, ...]
    call: str | None
    why: str = ""
    """Why the last reply could not be used, where none could."""

    def unusable(self) -> str:
        """How often it was asked and why in vain, for a message."""
        return f"asked {len(self.replies)} times" + (f", last: {self.why}" if self.why else "")


class Speaker:
    """A model in one seat."""

    def __init__(self, role: str, model: ChatModel, parameters: Parameters, ledger: Calls, prompts: PromptSet) -> None:
        if check := getattr(model, "check", None):
            check(parameters)  # before the run is begun: its settings must not be fixed with what is refused
        self.role = role
        self.model = model
        self.parameters = parameters
        self.ledger = ledger
        self.prompts = prompts
        self._speaks: Speaks = "user" if role == "user" else "assistant"
        self._reseeded: dict[int, Parameters] = {0: parameters}

    async def ask(
        self, at: At, messages: Sequence[Message], read: Callable[[str], T], again: str = "again_text"
    ) -> Heard[T]:
        """Ask until `read` accepts what a reply says, at most `at.samples` times, each with its own place and seed.

        A model at temperature 0 would say the same again. So where a reply had no text, or a text that `read` refused,
        the next request ends with the prompt `again`, which says what is wanted; the refused reply is never shown.
        Where a server refused or broke off, the form was not at fault, and the same request is sent again.
        """
        replies: list[str] = []
        why, noted = "", False
        for sample in range(at.samples):
            seed = addressed_seed(at.seed, self.role, sample)
            place = Place(at.tree, at.node, self.role, sample)
            asked = self._asked_again(messages, again) if noted else messages
            try:
                call = await self.ledger.call(place, self.model, asked, self._parameters(sample), seed)
                replies.append(call.reply.text)
                return Heard(read(clean_reply(call.reply.text, self._speaks)), tuple(replies), call.key)
            except BadContentError as error:
                why = str(error)
                was_read = len(replies) > sample
                if not was_read:
                    replies.append(error.reply)
                noted = was_read or not error.reply.strip()
        return Heard(None, tuple(replies), None, why)

    def _parameters(self, sample: int) -> Parameters:
        """Those of the seat; a provider's seed that is fixed is another one for every sample."""
        if sample not in self._reseeded:
            fixed = self.parameters.seed
            changed = {"seed": fixed + sample} if isinstance(fixed, int) else {}
            self._reseeded[sample] = self.parameters.model_copy(update=changed) if changed else self.parameters
        return self._reseeded[sample]

    def _asked_again(self, messages: Sequence[Message], again: str) -> list[Message]:
        return with_last(messages, self.prompts.render(again, message=messages[-1].content))


def read_text(reply: str) -> str:
    """The reply as a message: outer white space removed; BadContentError if nothing is left."""
    text = reply.strip()
    if not text:
        raise BadContentError("an empty reply", reply)
    return text
