"""Agents with a state: it forks with the tree, lies in the run file, and no kill mixes or loses any of it."""

import random
import re
import signal
from pathlib import Path

import pytest
from calls_seen import calls_of, trees_of
from test_kill import exports, runner  # noqa: F401  (a fixture)

import interalign as ia

SHAPES = {
    "full": ("--trees", "4", "--turns", "3", "--policy", "full"),
    "beam": ("--trees", "6", "--turns", "4", "--policy", "beam:2"),
    "caterpillar": ("--trees", "6", "--turns", "4"),
}
DRAWS = ("--candidate", "draws=stateful_agents:draws")
TALLY = ("--candidate", "draws=stateful_agents:tally")


def drawn(text: str) -> list[str]:
    """The numbers that an agent says it has drawn."""
    return re.fullmatch(r"heard \d+, drew ([\d+]+)", text)[1].split("+")


def remembers_its_path(judged: ia.JudgedTree) -> bool:
    """Whether each reply of `draws` counts just the turns of its path, and goes on from its parent's numbers."""
    nodes = {node.id: node for node in judged.tree.nodes}
    for node in judged.tree.nodes:
        if node.role == "assistant":
            before = nodes[nodes[node.parent].parent].text if node.turn > 1 else None
            assert node.text.startswith(f"heard {node.turn}, drew ")
            assert drawn(node.text)[:-1] == ([] if before is None else drawn(before))
    return True


@pytest.mark.parametrize("agent", [DRAWS, TALLY], ids=["graph", "function"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_state_forks_with_the_tree_at_any_concurrency(shape: tuple[str, ...], agent: tuple[str, ...], cli) -> None:
    for concurrency in ("1", "32"):
        words = (*shape, *agent, "--concurrency", concurrency)
        assert cli("simulate", f"{concurrency}.db", *words).code == 0
        assert all(remembers_its_path(judged) for judged in trees_of(f"{concurrency}.db"))
    assert exports(Path("1.db")) == exports(Path("32.db"))


def test_an_agent_with_state_gets_only_what_was_said_since_its_own_last_reply(cli) -> None:
    words = ("--trees", "2", "--turns", "3", "--candidate", "counts=stateful_agents:counts")
    words = (*words, "--candidate", "world:average")
    assert cli("simulate", "run.db", *words, "--policy", "full").code == 0
    for judged in trees_of("run.db"):
        said = {node.id: node.text for node in judged.tree.nodes if node.by.startswith("counts")}
        assert set(said.values()) == {
            "1 new, 1 in all",
            "1 new, 3 in all",
            "3 new, 3 in all",
            "1 new, 5 in all",
            "3 new, 5 in all",
            "5 new, 5 in all",
        }
        assert (said["1/1"], said["2/1"], said["2/1/1"], said["1/2/1"]) == (
            "1 new, 3 in all", "3 new, 3 in all", "1 new, 5 in all", "3 new, 5 in all",
        )  # fmt: skip


def test_a_user_agent_with_state_goes_on_from_its_own_turn_before(cli) -> None:
    words = ("--trees", "2", "--turns", "3", "--policy", "full", "--user", "stateful_agents:counts")
    assert (
        cli(
            "simulate",
            "run.db",
            *words,
            "--candidate",
            "scripted_roles:longer",
            "--judge",
            "scripted_roles:always_tie",
            "--inducer",
            "none",
        ).code
        == 0
    )
    for judged in trees_of("run.db"):
        assert {node.turn: node.text for node in judged.tree.nodes if node.role == "user"} == {
            1: "2 new, 2 in all", 2: "1 new, 4 in all", 3: "1 new, 6 in all",
        }  # fmt: skip


def test_a_fork_with_other_settings_does_not_go_on_from_the_states_of_the_first_run(cli) -> None:
    words = ("--trees", "2", "--turns", "3", *DRAWS)
    assert cli("simulate", "a.db", *words).code == 0
    other = (*words, "--user", "scripted_roles:longer", "--judge", "scripted_roles:always_tie", "--inducer", "none")
    assert cli("simulate", "a.db", *other, "--fork", "b.db").code == 0
    assert cli("simulate", "b.db", *words, "--fork", "c.db").code == 0
    assert all(remembers_its_path(judged) for path in ("b.db", "c.db") for judged in trees_of(path))
    assert exports(Path("c.db")) == exports(Path("a.db"))


def test_the_tools_that_an_agent_used_are_noted_at_its_reply(cli) -> None:
    words = ("--trees", "1", "--turns", "1", "--branch", "1", "--candidate", "cook=stateful_agents:searches")
    assert cli("simulate", "run.db", *words).code == 0
    (judged,) = trees_of("run.db")
    (note,) = [note for note in judged.annotations if note.name == "tool"]
    assert (note.node, note.by) == ("1", "cook")
    assert note.value == [{"tool": "search", "result": "a recipe", "arguments": {"query": "rye"}}]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "asks_for_a_form",
            "stateful_agents:asks_for_a_form interrupted itself to ask {'approve': ['buy']}, which nobody in a run can",
        ),
        ("holds", "stateful_agents:holds raised TypeError"),
        (
            "forgets_the_pair",
            "'stateful_agents:forgets_the_pair' answered Said, expected a pair: what it says, its state",
        ),
        (
            "keeps_a_set",
            "'stateful_agents:keeps_a_set' has a state that is no JSON value (Object of type set is not JSON",
        ),
    ],
)
def test_a_graph_with_an_interrupt_nobody_can_answer_or_a_state_that_cannot_be_kept_fails_its_tree_with_the_reason(
    name, said, cli
) -> None:
    words = ("--trees", "1", "--turns", "1", "--candidate", f"stateful_agents:{name}")
    ended = cli("simulate", "run.db", *words)
    assert (ended.code, said in ended.err) == (1, True), ended.err
    assert calls_of("run.db", "candidate") == []


def test_what_an_agent_interrupts_itself_to_ask_is_its_reply_and_the_users_next_message_the_answer(cli) -> None:
    words = (
        "--trees",
        "1",
        "--turns",
        "3",
        "--policy",
        "full",
        "--inducer",
        "none",
        "--user",
        "stateful_agents:counts",
    )
    assert cli("simulate", "run.db", *words, "--candidate", "shop=stateful_agents:asks_back").code == 0
    (judged,) = trees_of("run.db")
    said = {node.id: node.text for node in judged.tree.nodes}
    for node in judged.tree.nodes:
        if node.role == "assistant" and node.turn % 2:
            assert node.text == "May I buy it?"
        elif node.role == "assistant":
            first, answer = node.id.split("/")[0], node.parent
            assert node.text == f"You began with {said['u']!r} and answered {said[answer]!r}.", (first, node.id)
    notes = [(note.node, note.by, note.value) for note in judged.annotations if note.name == "interrupt"]
    assert len(notes) == 2 + 8
    assert set(notes) == {
        (node.id, "shop", "May I buy it?") for node in judged.tree.nodes if node.role == "assistant" and node.turn % 2
    }


@pytest.mark.parametrize("seat", ["judge", "inducer"])
def test_a_judge_or_an_inducer_that_interrupts_itself_is_not_answered_by_the_user(seat: str, cli) -> None:
    ended = cli("simulate", "run.db", "--trees", "1", "--turns", "1", f"--{seat}", "stateful_agents:asks_back")
    assert (ended.code, "which nobody in a run can answer" in ended.err) == (1, True), ended.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "agent"),
    [(SHAPES["full"], DRAWS), (SHAPES["beam"], DRAWS), (SHAPES["full"], TALLY)],
    ids=["full", "beam", "function"],
)
def test_after_twenty_kills_every_agent_remembers_what_it_would_have_without(shape, agent, runner) -> None:  # noqa: F811
    settings = ("simulate", "run.db", *shape, *agent, "--user", "scripted_roles:user", "--concurrency", "32")
    whole = runner("whole")
    whole.start(*settings)
    assert whole.end() == 0
    broken, rng, calls = runner("broken"), random.Random(11), len(whole.begun())
    for moment in sorted(rng.randrange(calls - 8) for _ in range(20)):
        assert broken.signal_after(moment, rng.uniform(0, 0.02), signal.SIGKILL, *settings) == -signal.SIGKILL
    broken.start(*settings)
    assert broken.end() == 0
    assert all(remembers_its_path(judged) for judged in trees_of(broken.run))
    assert (exports(broken.run), trees_of(broken.run)) == (exports(whole.run), trees_of(whole.run))
