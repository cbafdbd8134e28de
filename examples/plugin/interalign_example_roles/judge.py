"""A judge that is a rule: no model, no prompt, just the persona and the texts."""

import re

from interalign import ChoiceOpinion, Comparison, Persona, ScoreOpinion, Scoring

_SHORTEST = 4
"""Letters of the shortest word that counts; `the` and `and` are in every profile."""


class ProfileWords:
    """Prefers the reply that takes up more words of the persona's profile."""

    async def compare(self, ask: Comparison) -> ChoiceOpinion:
        """A, B or a tie, by the number of words taken up."""
        first, second = (len(taken_up(ask.persona, reply)) for reply in (ask.first, ask.second))
        value = "tie" if first == second else "A" if first > second else "B"
        return ChoiceOpinion(value=value, replies=(f"A takes up {first} words of the profile, B {second}.",))

    async def score(self, ask: Scoring) -> ScoreOpinion:
        """1 for no word, one point more for each, 5 at most."""
        words = taken_up(ask.persona, ask.reply)
        return ScoreOpinion(
            value=min(5, 1 + len(words)), replies=(f"It takes up {', '.join(sorted(words)) or 'none'}.",)
        )


def taken_up(persona: Persona, reply: str) -> set[str]:
    """The longer words of the profile that the reply uses."""
    return _words(" ".join(persona.profile)) & _words(reply)


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) >= _SHORTEST}
