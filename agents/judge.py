"""The judge: persona + conversation + replies -> what suits this user. Asked in both orders, read strictly."""

import asyncio
from collections.abc import Sequence
from itertools import combinations

from interalign.agents.answers import parse_findings, parse_score, parse_verdict
from interalign.agents.protocols import (
    At,
    AuditOpinion,
    ChoiceOpinion,
    Comparison,
    Judge,
    ScoreOpinion,
    Scoring,
    UserAudit,
)
from interalign.agents.speaker import Speaker
from interalign.agents.transcripts import as_script, with_last
from interalign.personas import Persona
from interalign.seeds import addressed_seed
from interalign.tree import Message, Node, Presentation, Score, Verdict


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
            "judge_score", message=ask.transcript[-1].content, persona=ask.persona, reply=ask.reply
        )
        heard = await self._speaker.ask(ask.at, with_last(ask.transcript, prompt), parse_score, "again_score")
        return ScoreOpinion(value=heard.value, replies=heard.replies)

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
    judge: Judge,
    name: str,
    at: At,
    persona: Persona,
    transcript: Sequence[Message],
    replies: Sequence[Node],
    *,
    judged: int = 0,
) -> list[Verdict]:
    """A verdict for every pair of siblings, each asked in both orders so that no position is favoured.

    n replies take n (n - 1) judge calls; with more than two or three, scoring is cheaper. Pairs of the first `judged`
    siblings are left out: they have their verdicts.
    """

    async def one(first: Node, second: Node) -> Presentation:
        place = _at(at, f"{first.id}|{second.id}")
        ask = Comparison(at=place, persona=persona, transcript=tuple(transcript), first=first.text, second=second.text)
        opinion = await judge.compare(ask)
        return Presentation(first=first.id, second=second.id, replies=opinion.replies, value=opinion.value)

    known = set(combinations(range(judged), 2))
    pairs = [(replies[a], replies[b]) for a, b in combinations(range(len(replies)), 2) if (a, b) not in known]
    async with asyncio.TaskGroup() as group:
        asked = [(group.create_task(one(a, b)), group.create_task(one(b, a))) for a, b in pairs]
    return [
        Verdict(judge=name, a=a.id, b=b.id, orders=(forward.result(), backward.result()))
        for (a, b), (forward, backward) in zip(pairs, asked, strict=True)
    ]


async def score_siblings(
    judge: Judge, name: str, at: At, persona: Persona, transcript: Sequence[Message], replies: Sequence[Node]
) -> list[Score]:
    """A score for every sibling on its own: n replies take n judge calls."""

    async def one(reply: Node) -> Score:
        ask = Scoring(at=_at(at, reply.id), persona=persona, transcript=tuple(transcript), reply=reply.text)
        opinion = await judge.score(ask)
        return Score(judge=name, node=reply.id, replies=opinion.replies, value=opinion.value)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(reply)) for reply in replies]
    return [task.result() for task in tasks]


def _at(at: At, node: str) -> At:
    return at.model_copy(update={"node": node, "seed": addressed_seed(at.seed, node)})
