"""Auditing the user's messages of stored trees with a judge: nothing is generated anew."""

import asyncio

from interalign.agents.findings import Finding, judged_findings
from interalign.agents.protocols import UserAudit
from interalign.agents.watched_judge import WatchedJudge
from interalign.graphs.many_trees import unwrapped
from interalign.graphs.turn import Conversation
from interalign.tree import Node, Tree


async def audit_users(tree: Tree, conversation: Conversation, judge: WatchedJudge) -> tuple[list[Finding], int]:
    """The judge's findings about every user message of a finished tree, and how many of its answers were unreadable."""

    async def one(node: Node) -> list[Finding] | None:
        at = conversation.at(node.id, node.id, "audit")
        ask = UserAudit(at=at, persona=conversation.persona, transcript=tuple(tree.transcript(node.id)))
        opinion = await judge.audit(ask)
        return None if opinion.value is None else judged_findings(node, opinion.value, opinion.replies[-1])

    async with unwrapped(), asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(node)) for node in tree.nodes if node.role == "user"]
    found = [task.result() for task in tasks]
    return [each for findings in found for each in findings or ()], found.count(None)
