"""What a stateful agent remembers: kept with each of its calls, and found again by the path that a turn continues."""

import hashlib
import itertools
import json
import zlib
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from interalign.agents.asking import Invocation
from interalign.tree import Message

_LONGEST_RESULT = 500
"""Characters of a tool's result that are noted."""


def paths(node: str, messages: Sequence[Message]) -> list[tuple[str, bytes]]:
    """Where an agent that makes `node` after these messages was asked: here first, then in earlier turns of the path.

    Each is a node's id and a digest of the messages before it, which grow by two every turn. Calls of other settings
    may be in the same file (after a fork): they are at the same node, but not after the same messages.
    """
    *turns, last = node.split("/")
    ends = ["u"] if last == "u" else []
    numbers = turns if ends else [*turns, last]
    found = []
    for back in range(len(numbers) + len(ends)):
        at = "/".join([*numbers[: len(numbers) - back], *ends])
        found.append((at, _digest(messages[: len(messages) - 2 * back])))
    return found


def _digest(messages: Sequence[Message]) -> bytes:
    said = json.dumps([(message.role, message.content) for message in messages])
    return hashlib.sha256(said.encode()).digest()[:16]


def remembered(invocation: Invocation, name: str, before: Sequence[tuple[str, bytes]]) -> tuple[int, bytes] | None:
    """How many turns ago this agent was asked last on this path, and the state it had then; None if it never was."""
    found = invocation.ledger.find_state(invocation.at.tree, invocation.role, name, before[1:])
    return None if found is None else (found[0] + 1, zlib.decompress(found[1]))


def packed(state: bytes) -> bytes:
    """The state as it is kept."""
    return zlib.compress(state)


async def ask_graph(
    graph: Any, messages: list[Any], config: dict[str, Any], state: bytes | None
) -> tuple[dict[str, Any], bytes]:
    """The answer of a graph that was compiled with a checkpointer to these messages (LangChain's), begun from this
    state, and the state it ends in. Where it had interrupted itself, the last message is what it waited for.

    The graph's own checkpointer is not used: it has one thread, and not one for each branch of a tree.
    """
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.types import Command

    serializer = JsonPlusSerializer(pickle_fallback=False)
    saver = InMemorySaver(serde=serializer)
    thread = {"thread_id": config["configurable"]["thread_id"]}
    waits = False
    for space, checkpoint, metadata, *pending in [] if state is None else serializer.loads_typed(("msgpack", state)):
        at: Any = {"configurable": {**thread, "checkpoint_ns": space}}
        stored = await saver.aput(at, checkpoint, metadata, checkpoint["channel_versions"])
        for task, channel, value in itertools.chain(*pending):
            waits = True
            await saver.aput_writes(stored, [(channel, value)], task)
    given: Any = Command(resume=messages[-1].text) if waits else {"messages": messages}
    answer = await graph.copy(update={"checkpointer": saver}).ainvoke(given, config)
    kept: dict[str, Any] = {}
    async for saved in saver.alist({"configurable": thread}):  # the newest first, of subgraphs too
        space = saved.config["configurable"]["checkpoint_ns"]
        # A graph that ran to its end has no pending writes; one that waits has them, its interrupt among them.
        pending = [saved.pending_writes] if "__interrupt__" in answer and saved.pending_writes else []
        kept.setdefault(space, (space, saved.checkpoint, saved.metadata, *pending))
    kind, written = serializer.dumps_typed(list(kept.values()))
    assert kind == "msgpack", kind
    return answer, written


def interrupt_of(answer: Any) -> str | None:
    """What a graph that interrupted itself asks, if it can be put to the user: one question, and it is a text."""
    interrupts = answer.get("__interrupt__", ()) if isinstance(answer, dict) else ()
    asked = [interrupt.value for interrupt in interrupts]
    return asked[0] if len(asked) == 1 and isinstance(asked[0], str) and asked[0].strip() else None


def tools_used(answer: Any) -> list[JsonValue]:
    """The tools that a graph called for its answer, each with its arguments and its result, shortened."""
    messages = answer.get("messages") if isinstance(answer, dict) else None
    used: dict[str, dict[str, JsonValue]] = {}
    for message in reversed(messages or []):
        if message.type == "human":
            break
        if message.type == "tool":
            used.setdefault(message.tool_call_id, {})["result"] = str(message.text)[:_LONGEST_RESULT]
        for call in reversed(getattr(message, "tool_calls", None) or []):
            arguments = json.loads(json.dumps(call["args"], default=str))
            used.setdefault(call["id"] or call["name"], {}).update(tool=call["name"], arguments=arguments)
    return [dict(sorted(each.items(), reverse=True)) for each in reversed(used.values()) if "tool" in each]
