"""The traps that the method's released code fell into (there are ten), each on the real pipeline.

Trap 10, a diversity figure that does not say its embedding and threshold, is held in tests/test_diversity.py. What
DPO starts from is what `interalign train dpo --model` names: the training tests hold that.
"""

import json
import math
from pathlib import Path

import loopback
import numpy as np
import pytest
from calls_seen import Seen, calls_of, trees_of

import interalign as ia
from interalign.agents.templates import builtin_prompts

TREES, TURNS = 6, 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain simulation: compared, with hints, every reply judged in both orders."""
    path = tmp_path_factory.mktemp("run") / "run.db"
    assert ia.simulate(path, trees=TREES, turns=TURNS).done == TREES
    return path


@pytest.fixture(scope="module")
def personas(run: Path) -> dict[str, ia.Persona]:
    """Tree id -> the persona that the tree is about, from the plan of the run."""
    with ia.open_run(run) as opened:
        known = opened.personas()
        return {record.id: known[record.persona] for record in opened.trees()}


def exported(run: Path, name: str, folder: Path) -> list[dict]:
    ia.export(run, folder / "out.jsonl", format=name)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def replies_of(tree: ia.Tree) -> list[ia.Node]:
    return [node for node in tree.nodes if node.role == "assistant"]


# 1. The persona prompt is overwritten after the first loop, so later conversations carry the wrong persona.


def test_trap_1_every_prompt_of_every_conversation_and_turn_carries_the_persona_of_its_own_tree(run, personas) -> None:
    asked = calls_of(run, "user")
    assert len(asked) == TREES * TURNS
    for call in asked:
        assert call.messages[0].content == builtin_prompts().render("user", persona=personas[call.tree])
    assert len({call.messages[0].content for call in asked}) == TREES


def test_trap_1_the_judge_is_told_the_persona_of_the_tree_it_judges(run, personas) -> None:
    asked = calls_of(run, "judge")
    assert len(asked) == 2 * TREES * TURNS
    for call in asked:
        persona = personas[call.tree]
        facts = "\n".join(f"| {fact}" for fact in persona.profile)
        assert f"The user (the assistants were not told this):\n{facts}\n" in call.last
        style = "\n".join(f"| {line}" for line in persona.personality.splitlines())
        assert f"How the user talks and likes to be talked to:\n{style}\n" in call.last


# 2. The hint accumulates in the message list, and one retry path appends a turn twice.


def test_trap_2_a_prompt_holds_at_most_its_own_hint_and_the_conversation_holds_none(run) -> None:
    trees = {judged.tree.id: judged for judged in trees_of(run)}
    notes = {(call.tree, call.node): call.reply for call in calls_of(run, "inducer")}
    hinted = 0
    for call in calls_of(run, "candidate"):
        judged = trees[call.tree]
        reply = judged.tree.node(call.node)
        before = judged.tree.transcript(reply.parent)
        assert call.messages[:-1] == list(before[:-1])
        if reply.hinted:
            hinted += 1
            note = notes[call.tree, reply.parent]
            assert call.last == builtin_prompts().render("candidate_hint", message=before[-1].content, hint=note)
            assert ia.Annotation(node=reply.parent, name="hint", by="inducer", value=note) in judged.annotations
        else:
            assert call.last == before[-1].content
    assert hinted == TREES * TURNS


def test_trap_2_no_other_role_ever_sees_a_hint(run) -> None:
    others = [call for call in calls_of(run) if call.role != "candidate"]
    texts = [message.content for call in others for message in call.messages]
    assert not any("[for the assistant only]" in text or "has shown about the user:\n|" in text for text in texts)


def test_trap_2_asking_again_repeats_no_turn(cli) -> None:
    candidate = ("--inducer", "none", "--branch", "1", "--candidate", "scripted_roles:empty_at_first")
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "3", *candidate).code == 0
    (judged,) = trees_of("run.db")
    assert [node.turn for node in judged.tree.nodes if node.role == "user"] == [1, 2, 3]
    places: dict[str, list[Seen]] = {}
    for call in calls_of("run.db", "candidate"):
        places.setdefault(call.node, []).append(call)
    assert len(places) == 3
    for node, asked in places.items():
        expected = list(judged.tree.transcript(judged.tree.node(node).parent))
        again = builtin_prompts().render("again_text", message=expected[-1].content)
        assert [call.messages[:-1] for call in asked] == [expected[:-1]] * 3
        assert [call.last for call in asked] == [expected[-1].content, again, again]


# 3. The judge's reply `First` (capital, full stop) flips the label; any unparsable reply counts as the second answer.


def test_trap_3_a_judge_that_answers_out_of_form_is_asked_again_then_missing_and_labels_nothing(cli) -> None:
    judge = ("--judge", "scripted_roles:capital_first")
    assert cli("simulate", "run.db", "--trees", "2", "--turns", "2", *judge).code == 0
    for judged in trees_of("run.db"):
        assert [verdict.outcome for verdict in judged.verdicts] == ["missing", "missing"]
        for verdict in judged.verdicts:
            assert [order.value for order in verdict.orders] == [None, None]
            assert verdict.orders[0].replies == ("First.", "The first one is better.", "Verdict: A or B")
    for name in ("dpo", "sft", "kto", "rm", "listwise"):
        assert cli("export", "run.db", "--format", name, "--out", "out.jsonl").code == 0
        assert Path("out.jsonl").read_bytes() == b""


# 4. The hinted reply is always shown first: no order swap, so position bias goes straight into the training labels.


def test_trap_4_each_pair_is_shown_in_both_orders_the_hinted_reply_once_first_and_once_second(run) -> None:
    trees = {judged.tree.id: judged.tree for judged in trees_of(run)}
    shown: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for call in calls_of(run, "judge"):
        a, b = call.node.split("|")
        tree = trees[call.tree]
        for name, node in (("A", a), ("B", b)):
            text = "\n".join(f"| {line}" for line in tree.node(node).text.splitlines())
            assert f"Reply {name}:\n{text}\n" in call.last
        shown.setdefault((call.tree, tree.node(a).parent), []).append((tree.node(a).hinted, tree.node(b).hinted))
    assert len(shown) == TREES * TURNS
    assert all(sorted(orders) == [(False, True), (True, False)] for orders in shown.values())


def test_trap_4_a_judge_that_likes_the_first_place_makes_ties_and_no_training_data(cli) -> None:
    judge = ("--judge", "scripted_roles:first_is_better")
    assert cli("simulate", "run.db", "--trees", "3", "--turns", "3", *judge).code == 0
    outcomes = [verdict.outcome for judged in trees_of("run.db") for verdict in judged.verdicts]
    assert outcomes == ["tie"] * 9
    assert cli("export", "run.db", "--format", "dpo", "--out", "dpo.jsonl").code == 0
    assert Path("dpo.jsonl").read_bytes() == b""


# 5. The choosing judge does not see the conversation.


@pytest.mark.parametrize("judging", ["compare", "score"])
def test_trap_5_the_judge_sees_the_conversation_up_to_the_message_that_was_answered(judging: str, tmp_path) -> None:
    ia.simulate(tmp_path / "run.db", trees=3, turns=4, judging=judging)
    trees = {judged.tree.id: judged.tree for judged in trees_of(tmp_path / "run.db")}
    asked = calls_of(tmp_path / "run.db", "judge")
    assert len(asked) == 3 * 4 * 2
    for call in asked:
        tree = trees[call.tree]
        before = tree.transcript(tree.node(call.node.split("|")[0]).parent)
        assert call.messages[:-1] == list(before[:-1])
        assert call.last.startswith(before[-1].content + "\n\n[end of the conversation]\n")


# 6. SFT repeats the first user message in 9 of 10 rows; the turn-1 reply is trained 10 times.


def test_trap_6_sft_rows_follow_the_conversation_and_train_each_reply_once(run, tmp_path) -> None:
    trees = {judged.tree.id: judged.tree for judged in trees_of(run)}
    rows = exported(run, "sft", tmp_path)
    assert len(rows) > TREES
    assert len({(row["tree"], row["node"]) for row in rows}) == len(rows)
    for row in rows:
        path = trees[row["tree"]].path(row["node"])
        assert row["messages"] == [{"role": node.role, "content": node.text} for node in path]
        # Only the last message of a row is trained on: no other row ends with the same reply.
        assert path[-1].role == "assistant"
        assert [node.turn for node in path if node.role == "user"] == list(range(1, path[-1].turn + 1))


# 7. The DPO "rejected" text is one random character of the reply (a string was indexed).


def test_trap_7_chosen_and_rejected_are_whole_replies_to_the_same_message(run, tmp_path) -> None:
    trees = {judged.tree.id: judged for judged in trees_of(run)}
    rows = exported(run, "dpo", tmp_path)
    assert len(rows) > TREES
    for row in rows:
        judged = trees[row["tree"]]
        prompt = [{"role": node.role, "content": node.text} for node in judged.tree.path(row["node"])]
        assert row["prompt"] == prompt
        a, b = judged.tree.children(row["node"])
        (verdict,) = [verdict for verdict in judged.verdicts if verdict.a == a.id]
        better, worse = (a, b) if verdict.outcome == "a" else (b, a)
        assert verdict.outcome in ("a", "b")
        assert row["chosen"] == [{"role": "assistant", "content": better.text}]
        assert row["rejected"] == [{"role": "assistant", "content": worse.text}]


# 8. The evaluation scores the whole prompt, not the reply; `int(reply)` crashes; IR and N-IR are never computed.


def test_trap_8_the_evaluation_judge_is_asked_about_the_reply_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "eval.db"
    ia.evaluate(path, candidate=["world:blind", "world:oracle"], limit=3, turns=3)
    trees = {judged.tree.id: judged.tree for judged in trees_of(path)}
    asked = calls_of(path, "judge")
    assert len(asked) == 2 * 3 * 3
    for call in asked:
        section = call.last.partition("\nThe reply:\n")[2].partition("\n\nYour reasons, ")[0]
        text = "\n".join(line.removeprefix("| ") for line in section.splitlines())
        assert text == trees[call.tree].node(call.node).text


def test_trap_8_a_score_with_reasons_behind_it_crashes_nothing_and_counts_as_missing_not_as_a_number(cli) -> None:
    judge = ("--judge", "scripted_roles:talking_scorer")
    assert cli("evaluate", "eval.db", "--candidate", "world:average", "--limit", "2", "--turns", "3", *judge).code == 0
    (found,) = json.loads(cli("report", "eval.db", "--json").out)["candidates"]
    assert found["missing"] == 6
    assert (found["al"], found["al_mean"], found["ir"]) == ([None] * 3, None, None)


def test_trap_8_the_improvement_rate_is_computed_and_is_the_slope_of_the_alignment_levels(cli) -> None:
    candidates = ("--candidate", "world:blind", "--candidate", "world:oracle")
    assert cli("evaluate", "eval.db", *candidates, "--limit", "10").code == 0
    for found in json.loads(cli("report", "eval.db", "--json").out)["candidates"]:
        levels, turns = np.array(found["al"]), np.arange(1, 11)
        assert found["missing"] == 0
        assert found["ir"] == pytest.approx(np.polyfit(turns, levels, 1)[0])
        flat = (levels - levels.min()) / (levels.max() - levels.min())
        assert found["n_al"] == pytest.approx(flat)
        assert found["n_ir"] == pytest.approx(np.polyfit(turns, flat, 1)[0])
        assert math.isfinite(found["n_r2"])


# 9. No resume: a crash loses everything since the last file write; keys sit at the top of the scripts.


def test_trap_9_what_stopped_in_the_middle_goes_on_with_the_same_command_and_asks_nothing_twice(
    cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKS", str(Path("broken").absolute()))
    Path("broken").touch()
    settings = ("--trees", "6", "--turns", "3", "--candidate", "scripted_roles:stops_later", "--concurrency", "2")
    stopped = cli("simulate", "run.db", *settings)
    assert (stopped.code, stopped.err) == (3, "interalign: the server went away\n")
    kept = calls_of("run.db")
    assert kept
    Path("broken").unlink()
    ended = cli("simulate", "run.db", *settings)
    assert ended.code == 0
    assert calls_of("run.db")[: len(kept)] == kept
    assert f" {6 * 3 * 6 - len(kept)} calls made" in ended.err
    assert cli("simulate", "whole.db", *settings).code == 0
    assert [judged.tree.nodes for judged in trees_of("run.db")] == [
        judged.tree.nodes for judged in trees_of("whole.db")
    ]


def test_trap_9_a_key_comes_from_the_environment_and_ends_up_nowhere(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-canary-4242424242"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with loopback.serving(lambda body: loopback.completion("What do you like?")) as server:
        ended = cli(
            "simulate", "run.db", "--trees", "1", "--turns", "2", "--candidate", "openai:m", "--base-url", server.url
        )
    assert ended.code == 0
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {key}"}
    assert cli("export", "run.db", "--format", "messages", "--out", "out.jsonl").code == 0
    assert cli("report", "run.db", "--html", "report.html").code == 0
    written = list(Path().iterdir())
    assert {path.name for path in written} >= {"run.db", "out.jsonl", "report.html"}
    assert not any(key.encode() in path.read_bytes() for path in written)
    assert key not in ended.err + ended.out
