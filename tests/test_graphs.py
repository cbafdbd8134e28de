"""Who speaks when: the turn graph, the trees it grows, and how they are opened elsewhere."""

import asyncio
import importlib
import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from calls_seen import calls_of, trees_of
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from until import rounds

import interalign as ia
from interalign.errors import BadContentError, FailedTreeError, StopError
from interalign.graphs.many_trees import each_tree, unwrapped
from interalign.graphs.policy import caterpillar, full
from interalign.graphs.stepping import turn_by_hand
from interalign.graphs.tree import Growth, grow_tree, tree_graph
from interalign.graphs.tree_by_hand import tree_by_hand
from interalign.graphs.turn import Conversation, Seats, Turn, run_turn, turn_graph

ROOT = Path(__file__).parents[1]
PERSONA = ia.Persona(id="p", profile=("I keep bees.",), personality="Dry.")


def talk(tree: str = "t0", turns: int = 2) -> Conversation:
    return Conversation(tree=tree, case=tree, seed=0, persona=PERSONA, turns=turns)


async def user(ask: ia.UserAsk) -> ia.Said:
    return ia.Said(text=f"question {ask.turn} after {len(ask.transcript)} messages")


async def inducer(ask: ia.InducerAsk) -> ia.Said:
    return ia.Said(text=f"notes on {len(ask.transcript)} messages")


async def candidate(ask: ia.CandidateAsk) -> ia.Said:
    return ia.Said(text=f"reply at {ask.at.node}, hint: {ask.hint}")


class LongerIsBetter:
    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        value = "tie" if len(ask.first) == len(ask.second) else "A" if len(ask.first) > len(ask.second) else "B"
        return ia.ChoiceOpinion(value=value, replies=(f"Verdict: {value}",))

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        return ia.ScoreOpinion(value=5 if "hint: notes" in ask.reply else 1, replies=())


def seats(**other) -> Seats:
    """Functions in all seats, two replies a turn."""
    seated = {
        "user": user,
        "candidates": {"c": candidate},
        "inducer": inducer,
        "judges": {"judge": LongerIsBetter()},
        "branch": 2,
    }
    return Seats(**{**seated, **other})


def grown(conversation: Conversation, policy, **other) -> list[Turn]:
    """The turns of a tree in the order they were finished."""
    turns: list[Turn] = []

    async def save(tree: str, turn: Turn) -> None:
        assert tree == conversation.tree
        turns.append(turn)

    asyncio.run(grow_tree(conversation, Growth(seats=seats(**other), policy=policy, save=save)))
    return turns


def test_a_turn_is_user_then_notes_then_replies_then_verdict() -> None:
    turn = asyncio.run(run_turn(talk(), None, (), seats()))
    assert (turn.user.id, turn.user.parent, turn.user.text) == ("u", None, "question 1 after 0 messages")
    assert [(reply.id, reply.parent, reply.turn, reply.by, reply.hinted, reply.text) for reply in turn.replies] == [
        ("1", "u", 1, "c", True, "reply at 1, hint: notes on 1 messages"),
        ("2", "u", 1, "c", False, "reply at 2, hint: None"),
    ]
    assert [(note.node, note.name, note.by, note.value) for note in turn.annotations] == [
        ("u", "hint", "inducer", "notes on 1 messages"),
        ("1", "leak", "interalign", ["notes on 1 messages"]),
    ]
    (verdict,) = turn.verdicts
    assert [(order.first, order.second, order.value) for order in verdict.orders] == [("1", "2", "A"), ("2", "1", "B")]
    assert verdict.outcome == "a"
    assert turn.scores == ()


def test_a_later_turn_hangs_below_the_reply_it_continues() -> None:
    first = asyncio.run(run_turn(talk(), None, (), seats()))
    taken = first.replies[1]
    second = asyncio.run(run_turn(talk(), taken, (first.user.message, taken.message), seats()))
    assert (second.user.id, second.user.parent, second.user.turn) == ("2/u", "2", 2)
    assert second.user.text == "question 2 after 2 messages"
    assert [reply.id for reply in second.replies] == ["2/1", "2/2"]
    assert second.replies[0].text == "reply at 2/1, hint: notes on 3 messages"


def test_without_an_inducer_no_reply_is_hinted_and_without_a_judge_nothing_is_judged() -> None:
    turn = asyncio.run(run_turn(talk(), None, (), seats(inducer=None, judges={})))
    assert [(reply.by, reply.hinted, reply.text) for reply in turn.replies] == [
        ("c", False, "reply at 1, hint: None"),
        ("c", False, "reply at 2, hint: None"),
    ]
    assert (turn.annotations, turn.verdicts, turn.scores) == ((), (), ())


def test_replies_go_round_the_candidates_and_all_siblings_are_scored() -> None:
    async def other(ask: ia.CandidateAsk) -> ia.Said:
        return ia.Said(text="other")

    turn = asyncio.run(
        run_turn(talk(), None, (), seats(candidates={"c": candidate, "d": other}, branch=3, judging="score"))
    )
    assert [reply.label for reply in turn.replies] == ["c+hint", "d", "c"]
    assert [(score.node, score.value) for score in turn.scores] == [("1", 5), ("2", 1), ("3", 1)]
    assert turn.verdicts == ()


def test_three_siblings_are_compared_pair_by_pair_in_both_orders() -> None:
    turn = asyncio.run(run_turn(talk(), None, (), seats(branch=3)))
    assert [(verdict.a, verdict.b) for verdict in turn.verdicts] == [("1", "2"), ("1", "3"), ("2", "3")]
    shown = [(order.first, order.second) for verdict in turn.verdicts for order in verdict.orders]
    assert shown == [("1", "2"), ("2", "1"), ("1", "3"), ("3", "1"), ("2", "3"), ("3", "2")]


def test_a_caterpillar_has_one_path_with_a_sibling_at_every_turn() -> None:
    turns = grown(talk(turns=30), caterpillar)
    assert [turn.user.turn for turn in turns] == list(range(1, 31))
    for before, after in pairwise(turns):
        assert after.user.parent in [reply.id for reply in before.replies]


def test_a_full_tree_continues_every_reply() -> None:
    turns = grown(talk(turns=3), full)
    assert [turn.user.id for turn in turns][:3] == ["u", "1/u", "2/u"]
    assert sorted(turn.user.id for turn in turns[3:]) == ["1/1/u", "1/2/u", "2/1/u", "2/2/u"]


def test_a_turn_is_saved_before_anything_builds_on_it() -> None:
    saved: list[str] = []

    async def watching(ask: ia.UserAsk) -> ia.Said:
        parent = ask.at.node.removesuffix("/u").removesuffix("u")
        assert parent == "" or parent in saved
        return await user(ask)

    async def save(tree: str, turn: Turn) -> None:
        await rounds()
        saved.extend(reply.id for reply in turn.replies)

    asyncio.run(grow_tree(talk(turns=3), Growth(seats=seats(user=watching), policy=full, save=save)))
    assert len(saved) == 14


def test_the_hint_and_the_persona_reach_no_transcript() -> None:
    seen: list[str] = []

    async def listening(ask: ia.CandidateAsk) -> ia.Said:
        seen.extend(message.content for message in ask.transcript)
        return ia.Said(text="reply")

    grown(talk(turns=4), caterpillar, candidates={"c": listening})
    assert seen
    assert not any("notes on" in text or "bees" in text for text in seen)


@pytest.mark.parametrize("graph", [turn_graph, tree_graph])
def test_a_graph_without_its_context_says_what_it_needs(graph) -> None:
    state = {"conversation": talk(), "parent": None, "transcript": ()}
    with pytest.raises(ia.ConfigError, match=r"run it with context=(Seats|Growth)\(\.\.\.\)"):
        asyncio.run(graph().ainvoke(state))


# Many trees


async def fails(ask: ia.UserAsk) -> ia.Said:
    """Tree t1 cannot go on; tree t2 stops the run if it gets that far."""
    if ask.at.tree == "t1":
        raise FailedTreeError("t1 is lost")
    if ask.at.tree == "t2":
        raise BadContentError("nothing usable")
    return await user(ask)


def forest(number: int, seated: Seats, at_once: int = 2) -> dict[str, str | None]:
    ended: dict[str, str | None] = {}

    async def save(tree: str, turn: Turn) -> None:
        pass

    async def finish(tree: str, error: Exception | None) -> None:
        ended[tree] = None if error is None else str(error)

    growth = Growth(seats=seated, policy=caterpillar, save=save)
    talks = (talk(f"t{index}") for index in range(number))
    jobs = ((one.tree, partial(grow_tree, one, growth)) for one in talks)
    asyncio.run(each_tree(jobs, finish, at_once=at_once))
    return ended


def test_a_tree_that_fails_is_reported_and_stops_no_other() -> None:
    assert forest(5, seats(user=fails)) == {
        "t0": None, "t1": "t1 is lost", "t2": "nothing usable", "t3": None, "t4": None,
    }  # fmt: skip


def test_what_no_tree_can_get_over_stops_them_all_and_comes_out_bare() -> None:
    async def no_key(ask: ia.UserAsk) -> ia.Said:
        if ask.at.tree == "t3":
            raise StopError("the key was refused")
        return await user(ask)

    with pytest.raises(StopError, match="the key was refused"):
        forest(50, seats(user=no_key))


def test_no_more_trees_are_in_progress_than_allowed() -> None:
    running: set[str] = set()
    most = 0

    async def watching(ask: ia.UserAsk) -> ia.Said:
        nonlocal most
        running.add(ask.at.tree)
        most = max(most, len(running))
        await rounds(5)
        if ask.turn == 2:
            running.discard(ask.at.tree)
        return await user(ask)

    assert len(forest(12, seats(user=watching), at_once=3)) == 12
    assert most == 3


def test_of_several_errors_a_stop_comes_out_before_a_failed_tree_and_a_bug_before_both() -> None:
    async def raising(*errors: BaseException) -> None:
        async with unwrapped():
            raise BaseExceptionGroup("all at once", [BaseExceptionGroup("deeper", list(errors))])

    with pytest.raises(StopError):
        asyncio.run(raising(FailedTreeError("a"), StopError("b")))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(raising(FailedTreeError("a"), StopError("b"), ZeroDivisionError()))


# Evaluation


def test_an_evaluation_is_one_scored_path_for_each_candidate_and_case_without_hints(cli) -> None:
    candidates = ("--candidate", "world:blind", "--candidate", "best=world:oracle")
    assert cli("evaluate", "eval.db", *candidates, "--limit", "3", "--turns", "4").code == 0
    trees = trees_of("eval.db")
    assert [judged.tree.id.partition("/")[0] for judged in trees] == ["blind", "best"] * 3
    for judged in trees:
        assert [node.role for node in judged.tree.nodes] == ["user", "assistant"] * 4
        assert {node.by for node in judged.tree.nodes} == {"user", judged.tree.id.partition("/")[0]}
        assert len(judged.scores) == 4
        assert judged.verdicts == ()
    assert {call.role for call in calls_of("eval.db")} == {"user", "candidate", "judge"}


def test_all_candidates_of_an_evaluation_meet_the_same_user(cli) -> None:
    # Who cannot ask and who asks get the same first message; later ones differ only by what the user reacts to.
    assert (
        cli("evaluate", "eval.db", "--candidate", "world:blind", "--candidate", "world:oracle", "--limit", "5").code
        == 0
    )
    first: dict[str, set[str]] = {}
    for judged in trees_of("eval.db"):
        first.setdefault(judged.tree.persona, set()).add(judged.tree.root.text)
    assert [len(texts) for texts in first.values()] == [1] * 5


# By hand


def by_hand(*contexts: dict | None, graph=None, given=None, edit=None, **more) -> list[dict]:
    """The state after each run of the graph in one thread with LangGraph's own memory, as Studio runs it.

    `given`: the input of the first run; `edit`: what changes the state between the runs, or makes that of the state.
    """
    graph = (graph or turn_by_hand()).copy(update={"checkpointer": InMemorySaver()})
    thread = {"configurable": {"thread_id": "one"}}

    async def run() -> list[dict]:
        states = []
        for context in contexts:
            if states and edit is not None:
                await graph.aupdate_state(thread, edit(states[-1]) if callable(edit) else edit)
            states.append(await graph.ainvoke({} if states else given or {}, thread, context=context, **more))
        return states

    return asyncio.run(run())


def test_by_hand_one_turn_follows_the_other_in_a_thread_and_no_object_has_to_be_made() -> None:
    states = by_hand(None, {}, {"candidate": "world:oracle", "judging": "score", "branch": 3, "policy": "beam:1"})
    assert [state["user"].turn for state in states] == [1, 2, 3]
    assert [len(state["transcript"]) for state in states] == [1, 3, 5]
    for before, after in pairwise(states):
        assert after["parent"].id in [reply.id for reply in before["replies"]]
        assert after["user"].parent == after["parent"].id
    assert [[reply.label for reply in state["replies"]] for state in states] == [
        ["average+hint", "average"], ["average+hint", "average"], ["oracle+hint", "oracle", "oracle"],
    ]  # fmt: skip
    assert [len(state["verdicts"]) for state in states] == [1, 1, 0]
    assert [len(state["scores"]) for state in states] == [0, 0, 3]


def test_by_hand_a_message_that_is_typed_is_said_in_place_of_the_user_agent() -> None:
    (state,) = by_hand(None, given={"messages": [HumanMessage("I like tea.")]})
    assert (state["user"].text, state["user"].turn) == ("I like tea.", 1)
    assert [message.type for message in state["messages"]] == ["human", "ai"]


def test_by_hand_a_conversation_from_elsewhere_is_gone_on_with() -> None:
    talk = [HumanMessage("Hi."), AIMessage("Hello."), HumanMessage("Tea?"), AIMessage("Green or black?")]
    (state,) = by_hand(None, given={"messages": talk, "persona": 2})
    assert (state["parent"].id, state["parent"].by, state["parent"].turn) == ("1/1", "given", 2)
    assert (state["user"].id, state["user"].turn, len(state["messages"])) == ("1/1/u", 3, 6)
    assert state["conversation"].persona.id == "train-0002"


def test_by_hand_with_its_last_messages_removed_a_thread_goes_on_from_before_them() -> None:
    first, again = by_hand(
        None, None, edit=lambda state: {"messages": [RemoveMessage(id=each.id) for each in state["messages"]]}
    )
    assert (again["user"].turn, len(again["messages"])) == (1, 2)
    assert again["user"] == first["user"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda state: {"messages": [AIMessage("Do you like tea?", id=state["taken"].id)]},
        lambda state: {"replies": [{**reply.model_dump(), "text": "Do you like tea?"} for reply in state["replies"]]},
    ],
    ids=["message", "replies"],
)  # fmt: skip
def test_by_hand_what_was_edited_is_what_the_next_turn_goes_on_from(edit) -> None:
    _, state = by_hand(None, None, edit=edit)
    assert state["parent"].text == "Do you like tea?"
    assert state["transcript"][1] == ia.Message(role="assistant", content="Do you like tea?")


@pytest.mark.parametrize(
    "messages",
    [[AIMessage("Hi.")], [HumanMessage("Hi."), HumanMessage("Hi?")], [SystemMessage("Be kind."), HumanMessage("Hi.")]],
    ids=["assistant first", "user twice", "system"],
)
def test_by_hand_messages_that_are_no_talk_in_turns_are_refused(messages) -> None:
    with pytest.raises(ia.ConfigError, match="messages must be of the user and the assistant in turns"):
        by_hand(None, given={"messages": messages})


def test_by_hand_a_tree_grows_on_when_more_turns_are_asked_for() -> None:
    first, again, more = by_hand({"turns": 2}, {"turns": 2}, {"turns": 3}, graph=tree_by_hand())
    assert [turn.user.turn for _, turn in first["grown"]] == [1, 2]
    turns = [turn for _, turn in first["grown"]]
    assert [turn for _, turn in again["grown"]] == turns
    assert [turn for _, turn in more["grown"][:2]] == turns
    assert [turn.user.turn for _, turn in more["grown"]] == [1, 2, 3]


def test_by_hand_the_turn_can_be_stopped_before_any_of_its_nodes() -> None:
    (state,) = by_hand(None, interrupt_before=["judge"])
    assert len(state["replies"]) == 2
    assert "verdicts" not in state


def test_by_hand_plug_ins_and_personas_of_ones_own_take_part(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"id": "bees", "profile": ["I keep bees."], "personality": "Dry."}\n')
    seats = {
        "user": "scripted_roles:longer",
        "candidate": "c=scripted_roles:fails_for_one",
        "judge": "scripted_roles:graph",
    }
    settings = {"personas": str(file), **seats, "hooks": {"after_judge": ["hooks_noting:summary"]}, "branch": 2}
    (state,) = by_hand({**settings, "inducer": "none"})
    assert state["conversation"].persona.id == "bees"
    assert all(reply.text.startswith("Fine, number ") for reply in state["replies"])
    assert [note.name for note in state["annotations"]] == ["seen"]
    assert state["verdicts"][0].outcome == "tie"  # the graph says B in both orders


def test_by_hand_what_goes_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="'greedy' is none of caterpillar, full, beam:K"):
        by_hand({"policy": "greedy"})
    with pytest.raises(FailedTreeError, match="answered int, expected Said"):
        by_hand({"candidate": "scripted_roles:says_a_number"})


# The graphs as others see them


@pytest.mark.parametrize("name", ["turn", "tree"])
def test_a_graph_is_printed_as_mermaid_text(name: str, cli) -> None:
    ended = cli("graph", name)
    assert (ended.code, ended.err) == (0, "")
    assert "graph TD;" in ended.out
    for node in {"turn": ["user", "inducer", "candidates", "judge", "annotate"]}.get(name, ["branch", "grow_turn"]):
        assert f"\t{node}({node})" in ended.out


def test_an_unknown_graph_is_refused_with_the_names_there_are(cli) -> None:
    ended = cli("graph", "evaluation")
    assert ended.code == 2
    assert ended.err == "interalign: no graph is called 'evaluation'; there are turn, tree, personas\n"


def test_langgraph_json_names_compiled_graphs_that_draw() -> None:
    """What `langgraph dev` does with the file: import each path, take the attribute."""
    graphs = json.loads((ROOT / "langgraph.json").read_text())["graphs"]
    assert sorted(graphs) == ["tree", "turn"]
    for path in graphs.values():
        file, _, attribute = path.partition(":")
        assert (ROOT / file).is_file()
        module = importlib.import_module("interalign." + file.removeprefix("./").removesuffix(".py").replace("/", "."))
        assert "__start__" in getattr(module, attribute).get_graph().draw_mermaid()
