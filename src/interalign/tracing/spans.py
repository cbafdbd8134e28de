"""From records of a run to spans: a trace a tree, in it a span a turn, in it a span a call.

Attributes are those of OpenInference, which Phoenix and Langfuse, among others, read; what it has no name for begins
with `interalign.`. Only what has a time becomes a span: calls of version 0.1.0 and imported conversations have none.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from interalign.records import CallRecord, RunRecord, TreeRecord
from interalign.tracing.ids import SpanIds, call_ids, run_ids, tree_ids, turn_ids
from interalign.tree import JudgedTree, Message, Node, Score

Value = str | int | float
SpanKind = Literal["CHAIN", "LLM", "AGENT"]


class Extent(NamedTuple):
    """From when to when, UTC."""

    began: datetime
    ended: datetime

    def around(self, other: "Extent") -> "Extent":
        """From the earlier beginning to the later end."""
        return Extent(min(self.began, other.began), max(self.ended, other.ended))


class TraceSpan(NamedTuple):
    """One span as it is sent."""

    ids: SpanIds
    parent: str | None
    """Id of the span it is part of, in the same trace."""
    name: str
    kind: SpanKind
    extent: Extent
    attributes: Mapping[str, Value]
    error: str | None = None
    """Why it failed."""
    link: SpanIds | None = None
    """A span of another trace that it belongs to."""


def spans_of_tree(
    run: RunRecord, tree: TreeRecord, judged: JudgedTree | None, calls: Sequence[CallRecord]
) -> list[TraceSpan]:
    """The tree's span, then turn by turn the turn's span and its calls; nothing if no call has a time.

    `calls` are all calls of the tree, the one that it failed on among them; `judged` is None while it has no node.
    """
    timed = [call for call in calls if call.began is not None]
    if not timed:
        return []
    ids, common, scores = tree_ids(run, tree.id), _common(run, tree), _scores(judged)
    about = {**common, **_about_tree(tree, judged)}
    found = [TraceSpan(ids, None, f"tree {tree.id}", "CHAIN", _extent(timed), about, tree.reason, run_ids(run))]
    for user_node, members in _by_turn(timed, judged).items():
        turn = turn_ids(run, tree.id, user_node)
        said, name = _about_turn(user_node, judged)
        found.append(TraceSpan(turn, ids.span, name, "CHAIN", _extent(members), {**common, **said}))
        found += [_call_span(run, call, turn, common, scores) for call in members]
    return found


def run_span(run: RunRecord, extent: Extent, trees: int) -> TraceSpan:
    """The span that the trees' spans link to, over all the time in which `trees` of them grew."""
    attributes = {"session.id": run.name, "interalign.run": run.name, "interalign.kind": run.kind}
    identity: dict[str, Value] = {
        "metadata": _json(run.identity),
        "interalign.trees": trees,
        "interalign.version": run.version,
    }
    return TraceSpan(run_ids(run), None, f"run {run.name}", "CHAIN", extent, {**attributes, **identity})


def _common(run: RunRecord, tree: TreeRecord) -> dict[str, Value]:
    """What every span of a tree says: the session is the run, the user is the persona."""
    return {"session.id": run.name, "user.id": tree.persona, "interalign.run": run.name, "interalign.tree": tree.id}


def _about_tree(tree: TreeRecord, judged: JudgedTree | None) -> dict[str, Value]:
    told = {"persona": tree.persona, "candidate": tree.candidate, "case": tree.case, "status": tree.status}
    about: dict[str, Value] = {"metadata": _json({name: value for name, value in told.items() if value is not None})}
    if judged is not None:
        about |= _in_out(judged.tree.root.text, judged.tree.nodes[-1].text)
    return about


def _about_turn(user_node: str, judged: JudgedTree | None) -> tuple[dict[str, Value], str]:
    """What was said in it, and the span's name. A turn that was never finished has only the id of its message."""
    place: dict[str, Value] = {"interalign.node": user_node}
    nodes = {} if judged is None else {node.id: node for node in judged.tree.nodes}
    if judged is None or user_node not in nodes:
        return place, f"turn {user_node}"
    node, replies = nodes[user_node], judged.tree.children(user_node)
    taken = next((reply for reply in replies if judged.tree.children(reply.id)), next(iter(replies), None))
    said = _in_out(node.text, "" if taken is None else taken.text)
    return {**place, "interalign.turn": node.turn, **said}, f"turn {node.turn}"


def _call_span(
    run: RunRecord,
    call: CallRecord,
    turn: SpanIds,
    common: Mapping[str, Value],
    scores: Mapping[str, Sequence[Score]],
) -> TraceSpan:
    is_model = bool(call.parameters)
    attributes: dict[str, Value] = {
        **common,
        "interalign.node": call.place.node,
        "interalign.role": call.place.role,
        "interalign.sample": call.place.sample,
        **({"interalign.call": call.key} if call.key else {}),
        **({"server.address": call.reply.server} if call.reply.server else {}),
        "input.value": _json([message.model_dump() for message in call.messages]),
        "input.mime_type": "application/json",
        "output.value": call.reply.text,
        "output.mime_type": "text/plain",
        **(_about_model(call) if is_model else {"agent.name": call.asked}),
        **_annotations(scores.get(call.key, ()) if call.key else ()),
    }
    ids = call_ids(run, call.place.tree, call.key)
    kind: SpanKind = "LLM" if is_model else "AGENT"
    return TraceSpan(ids, turn.span, call.place.role, kind, _extent([call]), attributes, call.error)


def _about_model(call: CallRecord) -> dict[str, Value]:
    reply = call.reply
    answered = [Message(role="assistant", content=reply.text)] if reply.text else []
    return {
        "llm.model_name": reply.model or call.asked,
        "llm.request.model_name": call.asked,
        "llm.invocation_parameters": call.parameters,
        "llm.token_count.prompt": reply.prompt_tokens,
        "llm.token_count.completion": reply.completion_tokens,
        "llm.token_count.total": reply.prompt_tokens + reply.completion_tokens,
        **({} if reply.finish_reason is None else {"llm.finish_reason": reply.finish_reason}),
        **dict(_messages("llm.input_messages", call.messages)),
        **dict(_messages("llm.output_messages", answered)),
    }


def _messages(name: str, messages: Iterable[Message]) -> Iterator[tuple[str, str]]:
    for number, message in enumerate(messages):
        yield f"{name}.{number}.message.role", message.role
        yield f"{name}.{number}.message.content", message.content


def _annotations(scores: Sequence[Score]) -> dict[str, Value]:
    """What judges scored a reply with, at the call that it came from."""
    found: dict[str, Value] = {}
    valued = [(score.value, score.judge) for score in scores if score.value is not None]
    for number, (value, judge) in enumerate(valued):
        said = {"name": "score", "score": value, "annotator_kind": "LLM", "identifier": judge}
        found |= {f"annotations.{number}.annotation.{name}": part for name, part in said.items()}
    return found


def _scores(judged: JudgedTree | None) -> dict[str, list[Score]]:
    """The scores of replies, by the ledger keys of the calls that they came from."""
    found: dict[str, list[Score]] = {}
    if judged is not None:
        for score in judged.scores:
            found.setdefault(judged.tree.node(score.node).call or "", []).append(score)
    return found


def _by_turn(calls: Iterable[CallRecord], judged: JudgedTree | None) -> dict[str, list[CallRecord]]:
    """The calls by the user messages of their turns."""
    nodes = {} if judged is None else {node.id: node for node in judged.tree.nodes}
    turns: dict[str, list[CallRecord]] = {}
    for call in calls:
        turns.setdefault(_user_node(call, nodes), []).append(call)
    return turns


def _user_node(call: CallRecord, nodes: Mapping[str, Node]) -> str:
    """The user message of the turn that a call belongs to, also of one that was never finished.

    A node's id is its path: `u`, `2`, `2/u`, `2/1`; that of a judge's call names the replies it is about, `2/1|2/2`.
    """
    node = call.place.node.partition("|")[0]
    known = nodes.get(node)
    if known is not None:
        return known.id if known.parent is None or known.role == "user" else known.parent
    above, slash, last = node.rpartition("/")
    return node if last == "u" else f"{above}{slash}u"


def _extent(calls: Sequence[CallRecord]) -> Extent:
    """From the first request to the last reply. One reply at least has a time."""
    began = [call.began for call in calls if call.began is not None]
    ended = [call.began + timedelta(seconds=call.seconds or 0) for call in calls if call.began is not None]
    return Extent(min(began), max(ended))


def _in_out(said: str, answered: str) -> dict[str, Value]:
    texts = {"input.value": said, "output.value": answered}
    return {**texts, "input.mime_type": "text/plain", "output.mime_type": "text/plain"}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
