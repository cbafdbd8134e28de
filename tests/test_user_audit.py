"""`interalign audit` finds in simulated users what was planted in them."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fault_server
import pytest
from planted_users import PLANTED, planted_talks

import interalign as ia
from interalign import api
from interalign.agents.answers import parse_findings
from interalign.agents.audit import ANSWERS, ENDS, REPEATS
from interalign.agents.audit_rules import audit_tree
from interalign.agents.findings import AUDITED, CONTRADICTS, DRIFTS, FINDING, RECITES, STALLS
from interalign.personas import Persona
from interalign.tree import Node, Tree

Cli = Callable[..., Any]
NURSE = Persona(
    id="nurse",
    profile=(
        "I am 34 years old and live in a village by the sea.",
        "I work night shifts as a nurse in a small hospital.",
        "My daughter has just started school and hates mornings.",
    ),
    personality="Writes short and friendly messages and does not like to be told what to feel.",
)


def talk(*texts: str) -> Tree:
    """A path of these messages, the user first."""
    nodes: list[Node] = []
    for place, text in enumerate(texts):
        parent = nodes[-1].id if nodes else None
        is_user = place % 2 == 0
        nodes.append(
            Node(
                id=f"{place}",
                parent=parent,
                turn=place // 2 + 1,
                role="user" if is_user else "assistant",
                text=text,
                by="someone",
            )
        )
    return Tree(id="t", run="r", persona="nurse", seed=0, nodes=tuple(nodes))


@pytest.mark.parametrize("rate", [0.1, 0.25])
def test_planted_faults_of_the_worlds_user_are_found_and_hardly_anything_else(rate: float) -> None:
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for tree, persona, faults in planted_talks(200, rate):
        found = {(each.node, each.kind) for each in audit_tree(tree, persona)}
        planted = set(faults.items())
        right.update(kind for _, kind in found & planted)
        wrong.update(kind for _, kind in found - planted)
        missed.update(kind for _, kind in planted - found)
    for kind in PLANTED:
        assert right[kind] >= 20
        assert right[kind] / (right[kind] + missed[kind]) >= 0.95, f"recall of {kind}"
        assert right[kind] / (right[kind] + wrong[kind]) >= 0.95, f"precision of {kind}"


@pytest.mark.parametrize(
    ("texts", "kinds"),
    [
        (["I am 34 years old and live in a village by the sea. I work night shifts as a nurse."], {1: [RECITES]}),
        (["I'm a nurse on night shifts, and my girl hates mornings. Any idea?"], {}),
        (["Writes short and friendly messages and does not like to be told what to do."], {1: [RECITES]}),
        (["I am 43, any idea for my back?"], {1: [CONTRADICTS]}),
        (["I'm 34, any idea for my back?"], {}),
        (["I am 10 minutes late."], {}),
        (["Any idea for dinner?", "Soup.", "Thanks!"], {2: [STALLS]}),
        (["Any idea for dinner?", "Do you like soup?", "Yes."], {}),
        (["Any idea for dinner?", "Do you like soup?", "Okay, thank you."], {2: [STALLS]}),
        (["Any idea for dinner?", "Soup.", "You should try a walk after that."], {2: [ANSWERS]}),
        (["Any idea for dinner?", "Soup.", "Should you not know that I hate soup?"], {}),
        (["Any idea?", "Soup.", "Any  IDEA?"], {2: [REPEATS]}),
        (["Any idea?", "Soup.", "Thanks, bye!"], {2: [ENDS]}),
        (
            ["Any idea?", "Soup.", "And then what?", "Bread.", "With what on?", "Jam.", " ".join(["more words"] * 40)],
            {4: [DRIFTS]},
        ),
    ],
)  # fmt: skip
def test_rules_of_english(texts: list[str], kinds: dict[int, list[str]]) -> None:
    found: dict[int, list[str]] = {}
    for each in audit_tree(talk(*texts), NURSE):
        found.setdefault(each.turn, []).append(each.kind)
    assert found == kinds


def test_a_talk_without_a_persona_is_audited_for_what_needs_none() -> None:
    assert [each.kind for each in audit_tree(talk("Hello?", "Hi.", "Hello?"), None)] == [REPEATS]


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("It fits.\nFindings: none", ()),
        ("**Findings:** style, contradiction.", ("contradiction", "style")),
        ("Findings: assistant and stall", ("assistant", "stall")),
        ("finding: Recital", ("recital",)),
    ],
)
def test_a_judges_findings_are_read(reply: str, found: tuple[str, ...]) -> None:
    assert parse_findings(reply) == found


@pytest.mark.parametrize(
    "reply", ["none", "Findings: everything", "Findings: none, style", "Findings: none\nFindings: style", "Findings:"]
)
def test_what_is_no_finding_is_bad_content(reply: str) -> None:
    with pytest.raises(ia.BadContentError):
        parse_findings(reply)


FAULTY = ["Any idea for the walk?", "As an AI, I cannot walk.", "Any idea for dinner?", "Goodbye!"]


async def faulty_user(ask: Any) -> ia.Said:
    """Speaks as the assistant in turn 2 and ends the talk in turn 4."""
    return ia.Said(text=FAULTY[ask.turn - 1])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("audit") / "run.db"
    ia.evaluate(run, limit=4, turns=4, user="test_user_audit:faulty_user", candidate=["world:oracle", "world:blind"])
    return run


def test_rates_examples_and_the_scores_without_affected_turns(evaluated: Path, cli: Cli) -> None:
    done = cli("audit", evaluated, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert (found["by"], found["conversations"], found["messages"]) == (["rules"], 8, 32)
    assert found["findings"][ANSWERS]["share"] == 0.25
    assert found["findings"][ENDS]["count"] == 8
    assert [rate["share"] for rate in found["by_turn"]][1] == 1.0
    assert found["all_scores"]["n"] == 32
    assert found["all_scores"]["count"] >= 16
    assert found["low_scores"]["n"] >= found["low_scores"]["count"] >= 1
    assert [one["name"] for one in found["candidates"]] == ["oracle", "blind"]
    assert all(one["n"] == 16 and one["n_without"] < 16 for one in found["candidates"])
    assert {"kind": ENDS, "by": "rules", "evidence": "goodbye", "turn": 4}.items() <= found["each"][-1].items()
    shown = cli("audit", evaluated).out
    assert f"{ENDS:40}25.0%" in shown


def test_several_users_are_audited_each_by_itself(tmp_path: Path, cli: Cli) -> None:
    run, users = tmp_path / "run.db", ("world:user", "test_user_audit:faulty_user")
    ia.evaluate(run, limit=2, turns=4, user=users, candidate=["world:oracle", "world:blind"])
    found = json.loads(cli("audit", run, "--json").out)
    assert list(found["by_user"]) == list(users)
    good, bad = found["by_user"].values()
    assert (good["messages"], bad["messages"], found["messages"]) == (16, 16, 32)
    assert (good["findings"][ANSWERS]["count"], bad["findings"][ANSWERS]["count"]) == (0, 4)
    assert found["findings"][ANSWERS]["count"] == 4
    assert [one["n"] for one in bad["candidates"]] == [8, 8]
    assert bad["disclosure"]["by_turn"] == [0.0] * 4
    shown = cli("audit", run).out
    assert f"user {users[1]}: 16 messages; share of the profile told by turn: 0.00 0.00 0.00 0.00" in shown
    assert shown.count(f"  {ENDS:40}") == 2  # of all, and of the user that does it


def test_the_report_has_what_an_audit_found(evaluated: Path, cli: Cli) -> None:
    api.audit(evaluated)
    user = api.report(evaluated).simulator
    assert (user.audited, user.findings[ANSWERS].n, user.findings[ANSWERS].share) == (32, 8, 0.25)
    assert "audited: 32 messages; answers as the assistant 25.0 % (n 8)" in " ".join(
        cli("report", evaluated).out.split()
    )


def test_an_audit_again_replaces_what_the_same_audit_found(evaluated: Path) -> None:
    first, second = (api.audit(evaluated) for _ in range(2))
    assert first == second
    with ia.open_run(evaluated) as store:
        notes = [note for judged in store.judged_trees() for note in judged.annotations]
    assert sum(note.name == AUDITED for note in notes) == 8
    assert sum(note.name == FINDING for note in notes) == len({(e.tree, e.finding.node) for e in second.each})


def test_a_judge_audits_too_and_costs_nothing_the_second_time(tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run.db"
    ia.simulate(run, trees=2, turns=2)
    with ia.open_run(run) as store:
        calls = sum(use.calls for use in store.usage().values())
    assert cli("audit", run, "--judge", "world:judge", "--json").code == 0
    again = json.loads(cli("audit", run, "--judge", "world:judge", "--json").out)
    assert again["by"] == ["rules", "world:judge"]
    with ia.open_run(run) as store:
        assert sum(use.calls for use in store.usage().values()) == calls + 4


def test_a_judges_findings_leave_the_run_resumable_with_the_same_identity(tmp_path: Path) -> None:
    run = tmp_path / "run.db"
    ia.simulate(run, trees=1, turns=2)
    api.audit(run, judge="world:judge")
    assert ia.simulate(run, trees=2, turns=2).done == 2


def test_a_judge_on_a_server_is_asked_with_persona_and_talk_and_read(evaluated: Path, tmp_path: Path, cli: Cli) -> None:
    run, asked = tmp_path / "run.db", list[str]()
    shutil.copy(evaluated, run)

    def judge(body: dict[str, Any]) -> fault_server.Step:
        asked.append(body["messages"][-1]["content"])
        found = "assistant, style" if "As an AI" in asked[-1].rpartition("The message to check:")[2] else "none"
        return {"message": {"content": f"So it is.\n**Findings:** {found}"}}

    with fault_server.serving(judge) as server:
        done = cli("audit", run, "--judge", "openai:j", "--base-url", server.url, "--json")
    found = json.loads(done.out)
    assert (done.code, found["by"], len(asked)) == (0, ["rules", "openai:j"], 32)
    assert sum(each["by"] == "openai:j" for each in found["each"]) == 16
    assert all("The persona:\n| " in prompt for prompt in asked)
    assert any("| User: What about" in prompt or "| User: Any idea" in prompt for prompt in asked)


def test_a_judge_whose_answers_cannot_be_read_stops_the_audit(evaluated: Path, tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run.db"
    shutil.copy(evaluated, run)
    with fault_server.serving(lambda body: {"message": {"content": "Fine."}}) as server:
        done = cli("audit", run, "--judge", "openai:j", "--base-url", server.url)
    assert done.code == 3
    assert "none of the first 20 questions to the judge openai:j had a readable answer" in done.err


def test_export_drops_messages_with_a_finding_and_what_follows(evaluated: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "rows.jsonl"
    assert cli("export", evaluated, "--format", "messages", "--out", out, "--audit", "drop").code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [[message["content"] for message in row["messages"] if message["role"] == "user"] for row in rows] == (
        [[FAULTY[0]]] * 8
    )
    card = json.loads(Path(f"{out}.card.json").read_text())
    assert (card["audit"], card["left_out"]["messages"]) == ("drop", 16)
    assert ia.export(evaluated, tmp_path / "all.jsonl", format="messages") == 8


def test_what_cannot_be_audited_is_refused_in_one_line(tmp_path: Path, cli: Cli) -> None:
    for arguments in ([tmp_path / "no.db"], [tmp_path / "pool.db"]):
        if arguments[0].name == "pool.db":
            cli("personas", "generate", "--out", tmp_path / "pool", "--n", 4, "--model", "world:personas")
            arguments = [tmp_path / "pool.db"]
        done = cli("audit", *arguments)
        assert done.code == 2
        assert done.err.count("\n") == 1
