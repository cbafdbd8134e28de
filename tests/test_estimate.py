"""A dry run says what a run will take, and asks nobody."""

from pathlib import Path
from typing import Any

import fault_server
import pytest

import interalign as ia
from interalign import api
from interalign.graphs.policy import turns_of_a_tree
from interalign.run.dry_run import Estimate
from interalign.store import Store

SHAPES: dict[str, dict[str, Any]] = {
    "caterpillar": {},
    "full": {"policy": "full", "turns": 3},
    "beam, scored, three replies": {"policy": "beam:2", "judging": "score", "branch": 3},
    "no inducer": {"inducer": "none"},
    "three compared replies": {"branch": 3, "turns": 2},
    "plug-ins": {"candidate": "scripted_roles:candidate", "judge": "scripted_roles:judge", "turns": 2},
    "a hook": {"hooks": {"after_judge": ["hooks_noting:lengths"]}, "turns": 2},
}


def calls(estimate: Estimate) -> dict[str, int]:
    sums: dict[str, int] = {}
    for line in estimate.lines:
        sums[line.role] = sums.get(line.role, 0) + line.used.calls
    return sums


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_calls_that_are_expected_are_the_calls_that_are_made(
    shape: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALL_LOG", str(tmp_path / "log"))  # for the scripted roles
    settings = {"trees": 3, "turns": 4, **shape}
    expected = api.estimate("simulation", tmp_path / "run.db", **settings)
    assert not (tmp_path / "run.db").exists()
    made = ia.simulate(tmp_path / "run.db", **settings)
    assert calls(expected) == {role: used.calls for role, used in made.usage.items()}
    assert expected.trees == 3
    assert api.estimate("simulation", tmp_path / "run.db", **{**settings, "trees": 5}).trees == 2


@pytest.mark.parametrize("policy", ["caterpillar", "best", "full", "beam:2", "beam:3"])
def test_the_turns_of_a_tree_follow_from_the_policy_and_say_how_much_of_it_is_done(policy: str, tmp_path: Path) -> None:
    told: list[float] = []
    settings = {"trees": 1, "turns": 3, "branch": 2, "policy": policy}
    ia.simulate(tmp_path / "run.db", progress=lambda run: told.append(run.under_way), **settings)
    with Store.open(tmp_path / "run.db") as store:
        (judged,) = store.judged_trees()
    users = [node for node in judged.tree.nodes if node.role == "user"]
    assert turns_of_a_tree(policy, 3, 2) == len(users)
    assert told[-1] == 0  # nothing is under way any more
    assert all(0 <= share <= 1 for share in told)


def test_an_evaluation_counts_every_candidate_and_case(tmp_path: Path) -> None:
    settings = {"candidate": ["world:blind", "world:oracle"], "limit": 3, "turns": 2}
    expected = api.estimate("evaluation", tmp_path / "eval.db", **settings)
    made = ia.evaluate(tmp_path / "eval.db", **settings)
    assert expected.trees == 6
    assert calls(expected) == {role: used.calls for role, used in made.usage.items()}
    assert api.estimate("evaluation", tmp_path / "eval.db", **settings).total.calls == 0


def test_tokens_and_disk_are_of_the_right_size_for_the_world(tmp_path: Path) -> None:
    expected = api.estimate("simulation", tmp_path / "run.db", trees=20)
    made = ia.simulate(tmp_path / "run.db", trees=20)
    prompt = sum(used.prompt_tokens for used in made.usage.values())
    assert prompt / 2 < expected.total.prompt_tokens < prompt * 2.5  # the world counts words, not tokens
    assert 0.7 < expected.bytes_on_disk / (tmp_path / "run.db").stat().st_size < 1.4


def test_nobody_is_asked_no_key_is_needed_and_no_file_is_made(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ("--candidate", "openai:m", "--judge", "openai:j", "--user", "hf:nowhere")
    with fault_server.serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        ended = cli("simulate", "run.db", "--trees", "1000", *models, "--dry-run")
        assert (ended.code, ended.err, server.asked) == (0, "", [])
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert cli("simulate", "run.db", "--trees", "1000", *models, "--dry-run").out == ended.out
    assert list(Path().iterdir()) == []
    lines = ended.out.splitlines()
    assert lines[0] == "Expected for 1,000 trees; nothing was asked, nothing was written."
    assert lines[1].split() == ["role", "model", "calls", "tokens", "in", "tokens", "out", "USD"]
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["user", "hf:nowhere", "10,000"],
        ["inducer", "world:inducer", "10,000"],
        ["candidate", "openai:m", "20,000"],
        ["judge", "openai:j", "20,000"],
    ]
    assert lines[6].split()[:2] == ["total", "60,000"]
    assert lines[6].split()[-1] == "unknown"


def test_the_cost_follows_from_the_price_table_and_the_longest_reply(tmp_path: Path) -> None:
    price = ia.Price(prompt=0, completion=10)
    runtime = ia.Runtime(prices=(("openai:m", price),), concurrency=1)
    settings = {"trees": 10, "turns": 1, "candidate": "openai:m"}
    usual = api.estimate("simulation", tmp_path / "run.db", runtime=runtime, **settings)
    assert usual.total.usd == pytest.approx(10 * 2 * 200 * 10 / 1e6)
    brief = {**settings, "parameters": {"candidate": {"max_tokens": 50}}}
    short = api.estimate("simulation", tmp_path / "run.db", runtime=runtime, **brief)
    assert short.total.usd == pytest.approx(10 * 2 * 50 * 10 / 1e6)


def test_nobody_claims_to_know_how_long_calls_take_before_any_was_made(tmp_path: Path) -> None:
    settings = {"trees": 10, "turns": 1, "candidate": "openai:m"}
    expected = api.estimate("simulation", tmp_path / "run.db", runtime=ia.Runtime(concurrency=2), **settings)
    assert (expected.seconds, expected.unmeasured) == (10.0, ("candidate",))  # 20 calls, two at a time
    assert "about 10 s if a call takes 1 s (how long one of candidate takes is not known yet), " in str(expected)
    world = api.estimate("simulation", tmp_path / "run.db", trees=10, turns=1)
    assert (world.seconds, world.unmeasured) == (0.0, ())


def test_once_replies_are_on_record_their_length_is_what_counts(tmp_path: Path) -> None:
    used = {"usage": {"prompt_tokens": 10, "completion_tokens": 77}}
    settings = {"turns": 1, "candidate": "openai:m"}
    with fault_server.serving(lambda body: {"top": used}) as server:
        ia.simulate(tmp_path / "run.db", trees=1, runtime=ia.Runtime(base_url=server.url), **settings)
    expected = api.estimate("simulation", tmp_path / "run.db", trees=3, **settings)
    (candidate,) = [line for line in expected.lines if line.role == "candidate"]
    assert candidate.used.completion_tokens == 2 * 2 * 77
    assert "candidate 77" in str(expected)
    assert expected.unmeasured == ()
    with Store.open(tmp_path / "run.db") as store:
        took = sum(call.seconds or 0 for call in store.calls_of("t00000") if call.place.role == "candidate")
    assert expected.seconds == pytest.approx(max(took / 2, 2 * took / 8))  # one after the other, or by concurrency


def test_what_the_run_would_refuse_is_refused_and_a_fork_is_expected_as_a_whole(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "3", "--turns", "2").code == 0
    for words, said in (
        (["simulate", "run.db", "--turns", "4", "--trees", "3"], "changed: turns 2 -> 4"),
        (
            ["simulate", "run.db", "--turns", "2", "--trees", "2"],
            "run.db was begun with 3 trees, and 2 are asked for now",
        ),
        (["evaluate", "run.db", "--turns", "2", "--candidate", "world:blind"], "run.db holds a simulation"),
    ):
        real, dry = cli(*words), cli(*words, "--dry-run")
        assert (real.code, dry.code, dry.out) == (2, 2, "")
        assert said in dry.err
        assert real.err == dry.err
    forked = cli("simulate", "run.db", "--turns", "4", "--trees", "3", "--fork", "longer.db", "--dry-run")
    assert forked.code == 0
    assert forked.out.startswith("Expected for 3 trees;")
    assert not Path("longer.db").exists()


def test_a_setting_that_cannot_work_is_refused_as_in_the_run(cli) -> None:
    ended = cli("simulate", "run.db", "--policy", "bush", "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert "policy" in ended.err


OWN = '{"id": "ann", "profile": ["Ann keeps bees."], "personality": "Ann is brief."}\n'


@pytest.mark.parametrize(
    "command",
    [
        ("simulate", "run.db", "--personas", "own.jsonl", "--trees", "2", "--inducer", "none", "--judging", "score"),
        ("evaluate", "run.db", "--cases", "own.jsonl"),
    ],
)
def test_a_run_with_personas_of_ones_own_can_be_estimated_again(
    command: tuple[str, ...], cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALL_LOG", "log")
    Path("own.jsonl").write_text(OWN)
    seats = ("--user", "test_calibration:asks", "--judge", "scripted_roles:OnlyScores")
    seats += ("--candidate", "scripted_roles:moody")
    whole = (*command, *seats, "--turns", "1")
    assert cli(*whole).code == 0
    again = cli(*whole, "--dry-run")
    assert (again.code, again.out.splitlines()[0]) == (
        0,
        "Expected for 0 trees; nothing was asked, nothing was written.",
    )
    Path("own.jsonl").write_text(OWN.replace("bees", "goats"))
    real, dry = cli(*whole), cli(*whole, "--dry-run")
    assert (real.code, dry.code, real.err) == (2, 2, dry.err)
    assert "own.jsonl" in dry.err or "sha256" in dry.err


@pytest.mark.parametrize("command", [("simulate", "run.db", "--personas"), ("evaluate", "run.db", "--cases")])
def test_a_world_role_is_refused_with_personas_of_ones_own_as_in_the_run(command: tuple[str, ...], cli) -> None:
    Path("own.jsonl").write_text(OWN)
    whole = (*command, "own.jsonl", "--candidate", "world:average")
    real, dry = cli(*whole), cli(*whole, "--dry-run")
    assert (real.code, dry.code, dry.out, real.err) == (2, 2, "", dry.err)
    assert "understands only the embedded world's personas" in dry.err


@pytest.mark.parametrize("role", ["user", "inducer", "candidate", "judge"])
@pytest.mark.parametrize(
    ("body", "said"), [("best_of: 2", "not best_of"), ("chat_template_kwargs: 1", "chat_template_kwargs takes names")]
)
def test_a_run_refused_for_a_parameter_has_fixed_nothing_in_its_file(role: str, body: str, said: str, cli) -> None:
    Path("strange.yaml").write_text(f"parameters: {{{role}: {{extra_body: {{{body}}}}}}}\n")
    words = ("simulate", "run.db", "--trees", "1", f"--{role}", "hf:nowhere", "--config", "strange.yaml")
    with Store.create_or_open(Path("run.db")):
        pass  # a file in which nothing was begun
    real, dry = cli(*words), cli(*words, "--dry-run")
    assert (real.code, dry.code, said in real.err, real.err) == (2, 2, True, dry.err)
    with ia.open_run(Path("run.db")) as run:
        assert run.run is None


def test_a_case_with_the_name_of_a_repeat_is_refused_as_in_the_run(cli) -> None:
    Path("own.jsonl").write_text(OWN.replace('"ann"', '"ann#2"'))
    seats = ("--user", "openai:u", "--judge", "openai:j", "--candidate", "world:average")
    ended = cli("evaluate", "run.db", "--cases", "own.jsonl", "--repeats", "2", *seats, "--dry-run")
    assert (ended.code, ended.out, "case 'ann#2' has the name of a repeat" in ended.err) == (2, "", True)
