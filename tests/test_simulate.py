"""`interalign simulate`: the same whatever happens, extended, refused, forked, repaired, judged again."""

import json
from pathlib import Path

import pytest
from calls_seen import calls_of, trees_of

FORMATS = ("sft", "dpo", "kto", "rm", "grpo", "listwise", "messages")


def exports(cli, run: str, *more: str) -> dict[str, bytes]:
    """All formats of a run, as written."""
    written = {}
    for name in FORMATS:
        out = Path(f"{Path(run).stem}.{name}.jsonl")
        assert cli("export", run, "--format", name, "--out", out, *more).code == 0
        written[name] = out.read_bytes()
    return written


SHAPES = {
    "caterpillar, compared": ("--trees", "6", "--turns", "4"),
    "caterpillar, scored": ("--trees", "6", "--turns", "4", "--judging", "score", "--branch", "3"),
    "full, compared": ("--trees", "3", "--turns", "3", "--policy", "full"),
    "full, scored": ("--trees", "3", "--turns", "3", "--policy", "full", "--judging", "score"),
    "beam, compared": ("--trees", "4", "--turns", "3", "--policy", "beam:2"),
    "beam, scored": ("--trees", "4", "--turns", "3", "--policy", "beam:2", "--judging", "score", "--branch", "3"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_call_at_a_time_or_thirty_two_the_exports_are_equal_byte_by_byte(shape, cli, monkeypatch) -> None:
    monkeypatch.setenv("CALL_LOG", "log")
    shape = (*shape, "--user", "scripted_roles:user", "--candidate", "scripted_roles:candidate")
    assert cli("simulate", "one.db", *shape, "--concurrency", "1").code == 0
    assert cli("simulate", "many.db", *shape, "--concurrency", "32").code == 0
    one = exports(cli, "one.db")
    assert one == exports(cli, "many.db")
    assert all(one.values())
    assert trees_of("one.db") == [judged_as("one", judged) for judged in trees_of("many.db")]


def judged_as(run: str, judged):
    """The tree as one of the run of that name."""
    return judged.model_copy(update={"tree": judged.tree.model_copy(update={"run": run})})


def test_another_seed_gives_other_conversations(cli) -> None:
    assert cli("simulate", "zero.db", "--trees", "3", "--turns", "3").code == 0
    assert cli("simulate", "seven.db", "--trees", "3", "--turns", "3", "--seed", "7").code == 0
    zero, seven = exports(cli, "zero.db"), exports(cli, "seven.db")
    assert all(zero[name] != seven[name] for name in FORMATS)


def test_ids_say_where_a_node_is_and_stay_the_same(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "2", "--turns", "2", "--policy", "full").code == 0
    assert [judged.tree.id for judged in trees_of("run.db")] == ["t00000", "t00001"]
    for judged in trees_of("run.db"):
        assert [node.id for node in judged.tree.nodes] == [
            "u", "1", "2", "1/u", "2/u", "1/1", "1/2", "2/1", "2/2",
        ]  # fmt: skip


def test_a_finished_run_makes_no_call_and_changes_nothing(cli) -> None:
    settings = ("--trees", "3", "--turns", "3")
    first = cli("simulate", "run.db", *settings)
    assert first.err == (
        "3 of 3 trees done in run.db; 54 calls made, 0 answered from the ledger; `interalign view run.db` shows them\n"
    )
    before = exports(cli, "run.db")
    again = cli("simulate", "run.db", *settings)
    assert (again.code, again.err) == (0, "3 of 3 trees done in run.db; 0 calls made, 0 answered from the ledger\n")
    assert exports(cli, "run.db") == before


def test_more_trees_extend_a_run_and_leave_the_first_ones_as_they_were(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "2", "--turns", "3").code == 0
    short = exports(cli, "run.db")
    ended = cli("simulate", "run.db", "--trees", "5", "--turns", "3")
    assert ended.err == (
        "5 of 5 trees done in run.db; 54 calls made, 0 answered from the ledger; `interalign view run.db` shows them\n"
    )
    long = exports(cli, "run.db")
    assert all(long[name].startswith(short[name]) and long[name] != short[name] for name in FORMATS)
    assert cli("simulate", "at-once.db", "--trees", "5", "--turns", "3").code == 0
    assert exports(cli, "at-once.db") == long


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (("--turns", "4"), "turns"),
        (("--seed", "1"), "seed"),
        (("--policy", "full"), "policy"),
        (("--candidate", "world:oracle"), "candidate"),
        (("--judge", "world:judge?noise=0.1"), "judge"),
        (("--inducer", "none"), "inducer"),
        (("--judging", "score"), "judging"),
        (("--branch", "3"), "branch"),
    ],
)
def test_a_changed_setting_is_refused_by_name_and_nothing_is_touched(changed, named: str, cli) -> None:
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "3").code == 0
    before = calls_of("run.db"), trees_of("run.db")
    ended = cli("simulate", "run.db", "--trees", "1", "--turns", "3", *changed)
    assert ended.code == 2
    assert ended.err.startswith("interalign: ")
    assert "run.db was started with other settings (changed: " in ended.err
    assert named in ended.err
    assert "--fork" in ended.err
    assert ended.err.count("\n") == 1
    assert (calls_of("run.db"), trees_of("run.db")) == before


def test_what_decides_nothing_may_change(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "2", "--concurrency", "3").code == 0
    more = ("--concurrency", "9", "--deadline", "7", "--base-url", "http://127.0.0.1:9/v1")
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "2", *more).code == 0


def test_a_fork_goes_on_under_other_settings_with_the_calls_that_still_fit(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "2", "--turns", "3").code == 0
    before = Path("run.db").read_bytes()
    ended = cli("simulate", "run.db", "--trees", "2", "--turns", "4", "--fork", "longer.db")
    assert ended.code == 0
    assert ended.err == (
        "2 of 2 trees done in longer.db; 12 calls made, 36 answered from the ledger; "
        "`interalign view longer.db` shows them\n"
    )
    assert Path("run.db").read_bytes() == before
    assert cli("simulate", "anew.db", "--trees", "2", "--turns", "4").code == 0
    assert exports(cli, "longer.db") == exports(cli, "anew.db")
    taken = cli("simulate", "run.db", "--trees", "2", "--turns", "4", "--fork", "longer.db")
    assert taken.code == 2
    assert "longer.db exists already" in taken.err


def test_a_tree_whose_role_raises_is_named_the_others_are_done_and_only_it_is_tried_again(
    cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKS", str(Path("broken").absolute()))
    settings = ("simulate", "run.db", "--trees", "4", "--turns", "2", "--candidate", "scripted_roles:fails_for_one")
    Path("broken").touch()
    ended = cli(*settings)
    assert ended.code == 1
    first, second, third = ended.err.splitlines()
    assert first.startswith("3 of 4 trees done in run.db; ")
    assert second.startswith(
        "failed: t00001: candidate 'scripted_roles:fails_for_one' raised Broken: no idea what to say ("
    )
    assert "scripted_roles.py:" in second
    assert third == "1 trees failed; run the same command again to retry just these"
    assert [judged.tree.id for judged in trees_of("run.db")] == ["t00000", "t00002", "t00003"]
    known = {call.key for call in calls_of("run.db")}

    still = cli(*settings)
    assert still.code == 1
    assert {call.key for call in calls_of("run.db")} == known

    Path("broken").unlink()
    mended = cli(*settings)
    assert mended.code == 0
    assert mended.err.startswith("4 of 4 trees done in run.db; ")
    new = [call for call in calls_of("run.db") if call.key not in known]
    assert {call.tree for call in new} == {"t00001"}
    assert len(trees_of("run.db")) == 4
    assert cli("simulate", "whole.db", *settings[2:]).code == 0
    assert exports(cli, "run.db") == exports(cli, "whole.db")


def test_stored_trees_can_be_judged_again_and_exported_by_either_judge(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "4", "--turns", "3", "--branch", "3").code == 0
    first = exports(cli, "run.db")
    contrary = "world:judge?noise=1"
    ended = cli("judge", "run.db", "--judge", contrary)
    assert ended.code == 0
    # Three siblings, three pairs, both orders: six calls a turn, and nothing else was asked.
    assert "72 calls made" in ended.err
    assert {call.role for call in calls_of("run.db")[-72:]} == {"judge"}
    assert [judged.judges() for judged in trees_of("run.db")] == [("world:judge", contrary)] * 4
    newest = exports(cli, "run.db")
    assert newest == exports(cli, "run.db", "--judge", contrary)
    assert exports(cli, "run.db", "--judge", "world:judge") == first
    assert newest["dpo"] != first["dpo"]
    assert newest["messages"] == first["messages"]
    again = cli("judge", "run.db", "--judge", contrary)
    assert "0 calls made" in again.err
    unknown = cli("export", "run.db", "--format", "dpo", "--out", "x.jsonl", "--judge", "nobody")
    assert unknown.code == 2
    assert "no verdict by 'nobody'; it has world:judge, world:judge?noise=1" in unknown.err


def test_a_judge_that_fails_on_one_tree_judges_all_the_others(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "4", "--turns", "3").code == 0
    ended = cli("judge", "run.db", "--judge", "scripted_roles:LostOnTheSecondTree")
    assert ended.code == 1
    assert "failed: t00001: not judged: judge 'scripted_roles:LostOnTheSecondTree' raised" in ended.err
    judged = [len(tree.judges()) for tree in trees_of("run.db")]
    assert judged == [2, 1, 2, 2]
    assert ended.err.startswith("3 of 4 trees done")  # judged, that is; grown they are all, as `judged` shows


def test_the_same_judge_asked_again_about_the_same_trees_would_say_the_same(cli) -> None:
    """A judge added later sees what it would have seen at once: same prompts, same seeds, same verdicts."""
    noisy = "world:judge?noise=0.5&position_bias=0.3"
    assert cli("simulate", "later.db", "--trees", "4", "--turns", "3").code == 0
    assert cli("judge", "later.db", "--judge", noisy).code == 0
    assert cli("simulate", "at-once.db", "--trees", "4", "--turns", "3", "--judge", noisy).code == 0
    assert exports(cli, "later.db", "--judge", noisy) == exports(cli, "at-once.db")


def test_without_an_inducer_no_notes_are_taken_and_no_reply_is_hinted(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "2", "--turns", "3", "--inducer", "none").code == 0
    assert {call.role for call in calls_of("run.db")} == {"user", "candidate", "judge"}
    for judged in trees_of("run.db"):
        assert judged.annotations == ()
        assert {node.by for node in judged.tree.nodes} == {"user", "average"}
    assert not any("[for the assistant only]" in call.last for call in calls_of("run.db", "candidate"))


def test_a_plain_reply_does_not_depend_on_whether_a_hint_was_given_to_its_sibling(cli) -> None:
    assert cli("simulate", "with.db", "--trees", "4", "--turns", "1").code == 0
    assert cli("simulate", "without.db", "--trees", "4", "--turns", "1", "--inducer", "none").code == 0
    plain = [[judged.tree.node("2").text for judged in trees_of(name)] for name in ("with.db", "without.db")]
    assert plain[0] == plain[1]


def test_personas_of_ones_own_go_round_and_the_worlds_roles_refuse_them(cli) -> None:
    rows = [{"profile": ["I keep bees."], "personality": "Dry."}, {"profile": ["I sail."], "personality": "Loud."}]
    Path("own.jsonl").write_text("".join(json.dumps({"id": f"own{n}", **row}) + "\n" for n, row in enumerate(rows)))
    ended = cli("simulate", "run.db", "--personas", "own.jsonl")
    assert ended.code == 2
    assert "--user world:user understands only the embedded world's personas, and 'own0' is not one" in ended.err
    seats = ("--user", "scripted_roles:longer", "--judge", "scripted_roles:first_is_better")
    assert cli("simulate", "own.db", "--personas", "own.jsonl", "--trees", "3", "--turns", "1", *seats).code == 0
    assert [judged.tree.persona for judged in trees_of("own.db")] == ["own0", "own1", "own0"]
    asked = {call.tree: call.messages[0].content for call in calls_of("own.db", "user")}
    assert ["I keep bees." in asked[tree] for tree in ("t00000", "t00001", "t00002")] == [True, False, True]


def test_a_plug_in_may_say_half_a_surrogate_pair_it_is_kept_as_it_came(cli) -> None:
    assert (
        cli("simulate", "run.db", "--trees", "1", "--turns", "1", "--candidate", "scripted_roles:half_a_pair").code == 0
    )
    [judged] = trees_of("run.db")
    assert {node.text for node in judged.tree.nodes if node.role == "assistant"} == {"odd \ud800 text"}
