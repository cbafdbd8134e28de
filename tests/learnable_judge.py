"""A judge for tests of rounds: what it likes can be learnt in a round or two."""

import interalign as ia


class Letters:
    """A judge: the more of the reply is letters, the better."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        """1 to 5, by the share of letters."""
        share = sum(sign.isascii() and sign.isalpha() for sign in ask.reply) / len(ask.reply)
        return ia.ScoreOpinion(value=min(5, 1 + int(10 * share)), replies=(f"{share:.2f}",))


async def user(ask: ia.UserAsk) -> ia.Said:
    """A user with one question a turn."""
    return ia.Said(text=f"Question {ask.turn}?")
