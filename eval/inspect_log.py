"""`inspect`: a run as a log of Inspect, a sample a conversation; checked and written by Inspect's own library.

A tree gives a sample for each path from the first message to a last one, with the calls along it as model events, so
that every prompt can be read there. Nothing is left out: it is for looking, not for training.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from interalign.errors import ConfigError
from interalign.eval.log_format import LogFormat
from interalign.personas import Persona
from interalign.records import CallRecord, Reply, RunRecord, TreeRecord, Usage
from interalign.store import Store
from interalign.tree import JudgedTree, Message, Node, Verdict, net_wins
from interalign.version import __version__
from interalign.visible_text import encodable

_STOPS: Final = {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter", None: "unknown"}
"""How a reply ended -> how Inspect calls it."""

Json = dict[str, Any]


def write(store: Store, path: Path, judge: str | None) -> int:
    """Write the run as a log; the number of samples. ConfigError if Inspect's library is not installed."""
    try:
        from inspect_ai.log import EvalLog, write_eval_log
    except ImportError:
        raise ConfigError("Inspect's own library writes its logs; pip install inspect_ai") from None
    log = inspect_log(store, judge, datetime.now(UTC))
    kind = "json" if path.name.partition(".json")[1] else "eval"
    write_eval_log(EvalLog.model_validate(log), path, format=kind)
    return len(log["samples"])


def inspect_log(store: Store, judge: str | None, at: datetime) -> Json:
    """The log as JSON, in version 2 of Inspect's format. `judge` None: with what all judges said."""
    run = store.run
    if run is None:
        raise ConfigError(f"{store.path} holds no run yet")
    samples = [sample for tree in store.walk_trees("done", "failed") for sample in _samples(store, tree, judge)]
    times = sorted(time for each in samples for time in (each.get("started_at"), each.get("completed_at")) if time)
    log: Json = _encodable(
        {
            "version": 2,
            "status": "success",
            "eval": _spec(run, at, samples),
            "results": {"total_samples": len(samples), "completed_samples": len(samples)},
            "stats": {
                "started_at": times[0] if times else run.created,
                "completed_at": times[-1] if times else run.created,
                "model_usage": _usage_by_model(store.usage_by_model()),
            },
            "samples": samples,
        }
    )
    return log


def _spec(run: RunRecord, at: datetime, samples: Sequence[Json]) -> Json:
    models = {each["name"]: each["model"] for each in run.begun_with.candidate}
    scores = sorted({name for sample in samples for name in sample["scores"]})
    return {
        "created": at.isoformat(timespec="seconds"),
        "task": run.name,
        "dataset": {"name": run.name, "samples": len(samples), "sample_ids": [each["id"] for each in samples]},
        "model": ", ".join(dict.fromkeys(models.values())) or "none",
        "config": {},
        "scorers": [{"name": name} for name in scores],
        "packages": {"interalign": __version__},
        "metadata": {"kind": run.kind, "begun": run.created, "identity": run.identity},
    }


def _samples(store: Store, tree: TreeRecord, judge: str | None) -> Iterator[Json]:
    """One sample a path; of a tree that failed in its first turn one without a conversation."""
    judged, calls = store.judged_tree(tree.id), store.calls_of(tree.id)
    persona = store.find_persona(tree.persona)
    if judged is None:
        yield {**_frame(tree, persona, tree.id, ""), "events": _events(calls)}
        return
    seen = judged if judge is None else judged.by_judge(judge)
    leaves = judged.tree.leaves()
    for leaf in leaves:
        name = tree.id if len(leaves) == 1 else f"{tree.id}:{leaf.id}"
        yield _sample(_frame(tree, persona, name, judged.tree.root.text), seen, leaf, calls)


def _frame(tree: TreeRecord, persona: Persona | None, name: str, said: str) -> Json:
    """What every sample has; the rest of one that holds no conversation."""
    told = {"tree": tree.id, "candidate": tree.candidate, "case": tree.case, "persona": tree.persona}
    described = {} if persona is None else {"profile": list(persona.profile), "personality": persona.personality}
    error = {"message": tree.reason or "failed", "traceback": "", "traceback_ansi": ""}
    return {
        "id": name,
        "epoch": 1,
        "input": said,
        "target": "",
        "messages": [],
        "scores": {},
        "metadata": {name: value for name, value in told.items() if value is not None} | described,
        **({"error": error} if tree.status == "failed" else {}),
    }


def _sample(frame: Json, judged: JudgedTree, leaf: Node, calls: Sequence[CallRecord]) -> Json:
    path = judged.tree.path(leaf.id)
    nodes = {node.id for node in path}
    along = [call for call in calls if not nodes.isdisjoint(call.place.node.split("|"))]
    system = [] if judged.tree.system is None else [{"role": "system", "content": judged.tree.system}]
    events = _events(along)
    return {
        **frame,
        "messages": [*system, *map(_said, path)],
        "output": _last_output(path, {call.key: call for call in calls}),
        "scores": {**_levels(judged, path), **_preferences(judged, path)},
        "metadata": {**frame["metadata"], "node": leaf.id},
        "events": events,
        **_times(along),
    }


def _said(node: Node) -> Json:
    said = {"role": node.role, "content": node.text, "metadata": {"node": node.id}}
    return {**said, "model": node.label} if node.role == "assistant" else said


def _last_output(path: Sequence[Node], calls: Mapping[str, CallRecord]) -> Json:
    """The last reply; without tokens and an end if no call of it is on record, as of an import."""
    last = next((node for node in reversed(path) if node.role == "assistant"), None)
    if last is None:
        return {}
    call = calls.get(last.call or "")
    return _output(Reply(text=last.text, model=last.by)) if call is None else _output(call.reply, last.text)


def _output(reply: Reply, text: str | None = None) -> Json:
    said = reply.text if text is None else text
    usage = {"input_tokens": reply.prompt_tokens, "output_tokens": reply.completion_tokens}
    return {
        "model": reply.model,
        "choices": [
            {
                "message": {"role": "assistant", "content": said, "model": reply.model, "source": "generate"},
                "stop_reason": _STOPS.get(reply.finish_reason, "unknown"),
            }
        ],
        "completion": said,
        "usage": {**usage, "total_tokens": reply.prompt_tokens + reply.completion_tokens},
    }


def _levels(judged: JudgedTree, path: Sequence[Node]) -> Json:
    """The mean of the scores along the path, 1 to 5, by judge; unreadable ones are missing from it."""
    found: Json = {}
    nodes = {node.id: node for node in path}
    for judge in dict.fromkeys(score.judge for score in judged.scores):
        mine = [score for score in judged.scores if score.judge == judge and score.node in nodes]
        values = [score.value for score in mine if score.value is not None]
        if values:
            reasons = [_reason(nodes[each.node].turn, each.value, each.replies[-1:]) for each in mine]
            found[f"alignment by {judge}"] = _score(fmean(values), reasons, judge, len(values))
    return found


def _preferences(judged: JudgedTree, path: Sequence[Node]) -> Json:
    """The share of turns whose reply on the path won more comparisons than it lost, a tie as half, by judge."""
    found: Json = {}
    for judge in dict.fromkeys(verdict.judge for verdict in judged.verdicts):
        mine = [verdict for verdict in judged.verdicts if verdict.judge == judge and verdict.outcome != "missing"]
        won = {node.turn: _won(judged, node, mine) for node in path if node.role == "assistant"}
        values = {turn: value for turn, value in won.items() if value is not None}
        if values:
            words = {1.0: "preferred", 0.5: "tied", 0.0: "rejected"}
            reasons = [f"Turn {turn}: {words[value]}" for turn, value in values.items()]
            found[f"preferred by {judge}"] = _score(fmean(values.values()), reasons, judge, len(values))
    return found


def _won(judged: JudgedTree, node: Node, verdicts: Sequence[Verdict]) -> float | None:
    """1, 0.5 or 0; None if nothing readable was said of the reply."""
    if not any(node.id in (verdict.a, verdict.b) for verdict in verdicts):
        return None
    wins = net_wins([reply.id for reply in judged.tree.siblings(node.id)], verdicts)[node.id]
    return 1.0 if wins > 0 else 0.5 if wins == 0 else 0.0


def _score(value: float, reasons: Sequence[str], judge: str, n: int) -> Json:
    return {"value": value, "explanation": "\n\n".join(reasons), "metadata": {"judge": judge, "n": n}}


def _reason(turn: int, value: float | None, replies: Sequence[str]) -> str:
    return f"Turn {turn}: {'missing' if value is None else format(value, 'g')}. {''.join(replies)}".rstrip()


def _events(calls: Sequence[CallRecord]) -> list[Json]:
    """The calls that have a time, in its order."""
    timed = sorted((call.began, call) for call in calls if call.began is not None)
    return [_event(call, began, timed[0][0]) for began, call in timed]


def _event(call: CallRecord, began: datetime, first: datetime) -> Json:
    return {
        "event": "model",
        "model": call.asked,
        "role": call.place.role,
        "input": [_message(message) for message in call.messages],
        "tools": [],
        "tool_choice": "none",
        "config": {},
        "output": _output(call.reply),
        "error": call.error,
        "timestamp": began.isoformat(),
        "working_start": (began - first).total_seconds(),
        "completed": (began + timedelta(seconds=call.seconds or 0)).isoformat(),
        "working_time": call.seconds,
        "metadata": {"node": call.place.node, "sample": call.place.sample, "call": call.key},
    }


def _message(message: Message) -> Json:
    return {"role": message.role, "content": message.content}


def _times(calls: Sequence[CallRecord]) -> Json:
    began = [call.began for call in calls if call.began is not None]
    if not began:
        return {}
    ended = max(call.began + timedelta(seconds=call.seconds or 0) for call in calls if call.began is not None)
    whole = (ended - min(began)).total_seconds()
    return {"started_at": min(began).isoformat(), "completed_at": ended.isoformat(), "total_time": whole}


def _usage_by_model(used: Mapping[tuple[str, str], Usage]) -> Json:
    sums: dict[str, Usage] = {}
    for (_, model), usage in used.items():
        sums[model] = sums[model] + usage if model in sums else usage
    return {
        model: {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        for model, usage in sums.items()
    }


def _encodable(value: Any) -> Any:
    """The same JSON value with texts that UTF-8 can hold."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    if isinstance(value, dict):
        return {_encodable(name): _encodable(each) for name, each in value.items()}
    return value


LOG = LogFormat("Inspect's log, to be looked at in its viewer", (".eval", ".json"), write)
