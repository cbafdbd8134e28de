"""Judges whose scores can be worked out by hand: `reward_judges:NAME`."""

import interalign as ia


class Length:
    """A judge: one point a character, at most 5; of a reply with an `x` it says nothing."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        if "x" in ask.reply:
            return ia.ScoreOpinion(value=None, replies=("I cannot say.",))
        return ia.ScoreOpinion(value=min(5, len(ask.reply)), replies=("By its length.",))


class Half:
    """A judge that says something of replies that end with an even code only: 1 to 5, by the code of the first sign."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        value = 1 + ord(ask.reply[0]) % 5
        return ia.ScoreOpinion(value=None if ord(ask.reply[-1]) % 2 else value, replies=("By its signs.",))


class Three:
    """A judge that likes all replies alike."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        return ia.ScoreOpinion(value=3, replies=(f"{ask.persona.id}: {ask.transcript[-1].content}",))


class Fails:
    """A judge that cannot be asked about a reply with a `z`."""

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        if "z" in ask.reply:
            raise ia.FailedTreeError("not about z")
        return ia.ScoreOpinion(value=4, replies=("Fine.",))


class Echo:
    """A user: says how many messages there were, and what the last one was."""

    async def __call__(self, ask: ia.UserAsk) -> ia.Said:
        if "x" in ask.transcript[-1].content:
            raise ia.FailedTreeError("not about x")
        return ia.Said(
            text=f"{ask.persona.id}, turn {ask.turn}, {len(ask.transcript)} said: {ask.transcript[-1].content}"
        )
