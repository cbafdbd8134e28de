"""Judging stored trees again with another judge: nothing is generated anew."""

import asyncio
from typing import cast

from interalign.agents.judge import compare_siblings, rank_siblings, score_siblings
from interalign.agents.protocols import Judge, ListJudge
from interalign.config import Judging
from interalign.graphs.many_trees import unwrapped
from interalign.graphs.turn import Conversation
from interalign.tree import Score, Tree, Verdict


async def judge_tree(
    tree: Tree, conversation: Conversation, judge: Judge, name: str, judging: Judging | None, *, aspects: bool = False
) -> tuple[tuple[Verdict, ...], tuple[Score, ...]]:
    """What this judge says about every turn of a finished tree.

    `judging` None: the replies of a turn are compared where there are several, and scored where there is one.
    """

    async def one(node_id: str) -> tuple[list[Verdict], list[Score]]:
        at = conversation.at(node_id, node_id, "judge")
        siblings = (at, conversation.persona, tree.transcript(node_id), tree.children(node_id))
        compares = judging == "compare" or (judging is None and len(tree.children(node_id)) > 1)
        if compares:
            return await compare_siblings(judge, name, *siblings), []
        if judging == "list":
            return await rank_siblings(cast(ListJudge, judge), name, *siblings), []
        return [], await score_siblings(judge, name, *siblings, aspects=aspects)

    async with unwrapped(), asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(node.id)) for node in tree.turns()]
    verdicts = tuple(verdict for task in tasks for verdict in task.result()[0])
    return verdicts, tuple(score for task in tasks for score in task.result()[1])
