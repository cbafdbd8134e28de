"""The judge: persona + conversation + replies -> what suits this user. Asked in both orders, read strictly."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

from interalign.agents.answers import (
    parse_findings,
    parse_ranking,
    parse_score,
    parse_score_with_aspects,
    parse_verdict,
)
from interalign.agents.protocols import (
    At,
    AuditOpinion,
    ChoiceOpinion,
    Comparison,
    Judge,
    Listing,
    ListJudge,
    RankingOpinion,
    ScoreOpinion,
    Scoring,
    UserAudit,
)
from interalign.agents.speaker import Speaker
from interalign.agents.transcripts import as_script, with_last
from interalign.personas import Persona
from interalign.seeds import addressed_rng, addressed_seed
from interalign.tree import Choice, Message, Node, Presentation, Score, Verdict


class PromptedJudge:
    """A chat model that judges."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    async def compare(self, ask: Comparison) -> ChoiceOpinion:
        """The parsed verdict of one presentation; value None if no reply could be read."""
        values = {"persona": ask.persona, "first": ask.first, "second": ask.second}
        prompt = self._speaker.prompts.render("judge_compare", message=ask.transcript[-1].content, **values)
        heard = await self._speaker.ask(ask.at, with_last(ask.transcript, prompt), parse_verdict, "again_compare")
        return ChoiceOpinion(value=heard.value, replies=heard.replies)

    async def score(self, ask: Scoring) -> ScoreOpinion:
        """The parsed score of one reply; value None if no reply could be read."""
        prompt = self._speaker.prompts.render(
            "judge_aspects" if ask.aspects else "judge_score",
            message=ask.transcript[-1].content,
            persona=ask.persona,
            reply=ask.reply,
        )
        messages = with_last(ask.transcript, prompt)
        if not ask.aspects:
            heard = await self._speaker.ask(ask.at, messages, parse_score, "again_score")
            return ScoreOpinion(value=heard.value, replies=heard.replies)
        said = await self._speaker.ask(ask.at, messages, parse_score_with_aspects, "again_aspects")
        value, aspects = said.value or (None, {})
        return ScoreOpinion(value=value, replies=said.replies, aspects=aspects)

    async def rank(self, ask: Listing) -> RankingOpinion:
        """The parsed ranking of all replies in the order shown; value None if no reply could be read."""
        prompt = self._speaker.prompts.render(
            "judge_list", message=ask.transcript[-1].content, persona=ask.persona, replies=ask.ranked
        )
        read = partial(parse_ranking, count=len(ask.ranked))
        heard = await self._speaker.ask(ask.at, with_last(ask.transcript, prompt), read, "again_list")
        return RankingOpinion(value=heard.value, replies=heard.replies)

    async def audit(self, ask: UserAudit) -> AuditOpinion:
        """What is wrong with a user's message; value None if no reply could be read."""
        *before, last = ask.transcript
        prompt = self._speaker.prompts.render(
            "audit_user", persona=ask.persona, conversation=as_script(before), message=last.content
        )
        messages = [Message(role="user", content=prompt)]
        heard = await self._speaker.ask(ask.at, messages, parse_findings, "again_form")
        return AuditOpinion(value=heard.value, replies=heard.replies)


async def compare_siblings(
    judge: Judge, name: str, at: At, persona: Persona, transcript: Sequence[Message], replies: Sequence[Node]
) -> list[Verdict]:
    """A verdict for every pair of siblings, each asked in both orders so that no position is favoured.

    n replies take n (n - 1) judge calls; with more than two or three, scoring is cheaper.
    """

    async def one(first: Node, second: Node) -> Presentation:
        place = _at(at, f"{first.id}|{second.id}")
        ask = Comparison(at=place, persona=persona, transcript=tuple(transcript), first=first.text, second=second.text)
        opinion = await judge.compare(ask)
        return Presentation(first=first.id, second=second.id, replies=opinion.replies, value=opinion.value)

    pairs = list(combinations(replies, 2))
    async with asyncio.TaskGroup() as group:
        asked = [(group.create_task(one(a, b)), group.create_task(one(b, a))) for a, b in pairs]
    return [
        Verdict(judge=name, a=a.id, b=b.id, orders=(forward.result(), backward.result()))
        for (a, b), (forward, backward) in zip(pairs, asked, strict=True)
    ]


async def rank_siblings(
    judge: ListJudge, name: str, at: At, persona: Persona, transcript: Sequence[Message], replies: Sequence[Node]
) -> list[Verdict]:
    """A verdict for every pair of siblings, from two rankings of all of them: two judge calls, however many there are.

    The first order is drawn by the address, the second is its reverse. So each reply of a pair is once shown before the
    other, and a preference is what both rankings agree on, as in `compare_siblings`. One reply alone needs no call.
    """

    async def one(shown: Sequence[Node]) -> RankingOpinion:
        place, texts = _at(at, "|".join(node.id for node in shown)), tuple(node.text for node in shown)
        ask = Listing(at=place, persona=persona, transcript=tuple(transcript), ranked=texts)
        return await judge.rank(ask)

    if len(replies) < 2:
        return []
    shown = list(replies)
    addressed_rng(at.seed, at.node, "order").shuffle(shown)
    lists = (shown, shown[::-1])
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one(each)) for each in lists]
    seen = [(each, _place_of(task.result())) for each, task in zip(lists, asked, strict=True)]
    return [Verdict(judge=name, a=a.id, b=b.id, orders=_both_orders(a, b, seen)) for a, b in combinations(replies, 2)]


class _PlaceOf(NamedTuple):
    """One ranking: for each reply in the order shown its place, 0 for the best; None if there is no ranking."""

    places: Mapping[int, int] | None
    replies: tuple[str, ...]


def _place_of(opinion: RankingOpinion) -> _PlaceOf:
    value = opinion.value
    return _PlaceOf(None if value is None else {shown: place for place, shown in enumerate(value)}, opinion.replies)


def _both_orders(
    a: Node, b: Node, seen: Sequence[tuple[Sequence[Node], _PlaceOf]]
) -> tuple[Presentation, Presentation]:
    """What both rankings say of two replies, first the one in which `a` was shown before `b`."""
    orders = {}
    for shown, ranking in seen:
        first, second = sorted((a, b), key=shown.index)
        value: Choice | None = None
        if ranking.places is not None:
            value = "A" if ranking.places[shown.index(first)] < ranking.places[shown.index(second)] else "B"
        orders[first.id] = Presentation(first=first.id, second=second.id, replies=ranking.replies, value=value)
    return orders[a.id], orders[b.id]


async def score_siblings(
    judge: Judge,
    name: str,
    at: At,
    persona: Persona,
    transcript: Sequence[Message],
    replies: Sequence[Node],
    *,
    aspects: bool = False,
) -> list[Score]:
    """A score for every sibling on its own, with its aspects if asked: n replies take n judge calls."""

    async def one(reply: Node) -> Score:
        place, talk = _at(at, reply.id), tuple(transcript)
        ask = Scoring(at=place, persona=persona, transcript=talk, reply=reply.text, aspects=aspects)
        opinion = await judge.score(ask)
        found = opinion.aspects if opinion.value is not None else {}
        return Score(judge=name, node=reply.id, replies=opinion.replies, value=opinion.value, aspects=found)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(reply)) for reply in replies]
    return [task.result() for task in tasks]


def _at(at: At, node: str) -> At:
    return at.model_copy(update={"node": node, "seed": addressed_seed(at.seed, node)})
