"""Roles by name, and plug-ins in every seat."""

import sys
from pathlib import Path

import faulty_roles
import pytest
import scripted_roles
import yaml
from calls_seen import calls_of, trees_of

import interalign as ia
from interalign.agents import watchdog
from interalign.agents.registry import describe_role, is_plugin_name, load_hook, load_plugin, registered_roles
from interalign.errors import ConfigError
from interalign.models.names import is_model_name
from interalign.models.resolve import resolve_model

SMALL = ("--trees", "2", "--turns", "2")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a role registered by an installed package, whose module must not be imported unasked."""
    info = tmp_path / "site" / "someones_roles-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-roles\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[interalign.roles]\nkind-judge = someones_roles:box.judge\n")
    (info.parent / "someones_roles.py").write_text(
        "import scripted_roles\n\nclass box:\n    judge = scripted_roles.OnlyScores\n"
    )
    monkeypatch.syspath_prepend(info.parent)
    monkeypatch.delitem(sys.modules, "someones_roles", raising=False)
    return "kind-judge"


@pytest.mark.parametrize(
    "spec",
    [
        "world:user", "world:judge?noise=0.2&position_bias=0.3", "openai:gpt-4o-mini", "openai:vendor/model-7b@main",
        "hf:some/folder", "hf:/tmp/model?history=1", "anthropic:claude-3-5-sonnet", "azure_openai:gpt-4o",
        "nowhere_to_be_found:Judge",
    ],
)  # fmt: skip
def test_provider_colon_name_is_a_model(spec: str) -> None:
    assert is_model_name(spec)
    assert not is_plugin_name(spec)


@pytest.mark.parametrize("spec", ["scripted_roles:judge", "scripted_roles:OnlyScores.score", "os.path:join", "judge"])
def test_an_importable_module_with_an_attribute_is_a_plug_in_and_so_is_a_bare_name(spec: str) -> None:
    assert is_plugin_name(spec)
    assert not is_model_name(spec)


def test_an_installed_role_is_found_by_its_name_and_imported_only_when_it_is_named(installed: str) -> None:
    assert "kind-judge" in registered_roles()
    assert is_plugin_name(installed)
    assert "someones_roles" not in sys.modules
    assert isinstance(load_plugin(installed), scripted_roles.OnlyScores)
    assert "someones_roles" in sys.modules


def test_listing_the_roles_names_installed_ones_without_importing_them(installed: str, cli) -> None:
    ended = cli("roles", "list")
    assert ended.code == 0
    assert "kind-judge\tplug-in someones_roles:box.judge\n" in ended.out
    assert "world:oracle\t" in ended.out
    assert "someones_roles" not in sys.modules


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("world:oracle", "world:oracle: a chat model; can sit in every seat: user, inducer, candidate, judge"),
        ("scripted_roles:graph", "CompiledStateGraph; can sit in every seat: user, inducer, candidate, judge"),
        ("scripted_roles:longer", "RunnableLambda; can sit in every seat: user, inducer, candidate, judge"),
        ("scripted_roles:candidate", "Counted; can sit in every seat: user, inducer, candidate, judge"),
        ("scripted_roles:OnlyScores", "OnlyScores with score; can sit as judge"),
        ("scripted_roles:fails_for_one", "function; can sit as user, inducer or candidate, or be a hook"),
        ("faulty_roles:wrapped", "function; can sit as user, inducer or candidate, or be a hook"),
    ],
)
def test_checking_a_role_says_where_it_can_sit(spec: str, said: str, cli) -> None:
    ended = cli("roles", "check", spec)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.rstrip("\n").endswith(said)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("judge-of-nobody", "no role or model is called 'judge-of-nobody'"),
        ("", "no role or model is called ''"),
        ("scripted_roles:", "no role or model is called 'scripted_roles:'"),
        ("scripted_roles:nobody", "has no attribute 'nobody'"),
        ("scripted_roles:grahp", "scripted_roles has no attribute 'grahp'; did you mean graph?"),
        ("scripted_roles:OnlyScores.scor", "OnlyScores has no attribute 'scor'; did you mean score?"),
        ("opnai:gpt", "there is no provider 'opnai' of models, and no module 'opnai'"),
        ("opnai:gpt", "; did you mean openai:gpt?"),
        ("OpenAI:gpt", "; did you mean openai:gpt?"),
        ("antropic:claude-3", "; did you mean anthropic:claude-3?"),
        ("wrold:oracle", "; did you mean world:oracle?"),
        ("anthropic:claude-3", "pip install langchain langchain-anthropic\n"),
        ("bedrock:claude-3", "pip install langchain langchain-aws\n"),
        ("oracle", "shows; did you mean world:oracle?"),
        ("scripted_roles:CannotBeBuilt", "missing 1 required positional argument: 'needed'"),
        ("scripted_roles:os.sep", "is str; a role is an async callable, a judge, a Runnable or a graph"),
        ("nowhere_to_be_found:Judge", "a plug-in is MODULE:ATTRIBUTE, and its module one that Python can import here"),
        ("world:nobody", "there is no 'nobody' in the world"),
        ("world:orcale", "; did you mean oracle?"),
        ("openai:gpt-4o-mini", "set OPENAI_API_KEY"),
        ("faulty_roles:plain", "'plain' of role 'faulty_roles:plain' is not async: write it with `async def`"),
        ("faulty_roles:PlainCall", "'__call__' of role 'faulty_roles:PlainCall' is not async"),
        ("faulty_roles:PlainJudge", "'score' of role 'faulty_roles:PlainJudge' is not async"),
    ],
)
def test_a_role_that_cannot_be_had_is_refused_in_one_line(spec: str, said: str, cli) -> None:
    ended = cli("roles", "check", spec)
    assert ended.code == 2
    assert ended.out == ""
    assert said in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("my_bda:flaky", "my_bad:flaky"),
        ("my_bad.py:flaky", "my_bad:flaky"),
        ("./my_bad.py:flaky", "my_bad:flaky"),
        ("rolls.criticc:Judge", "rolls.critic:Judge"),
        ("rolls/critic.py:Judge.score", "rolls.critic:Judge.score"),
    ],
)
@pytest.mark.parametrize(
    "words", [("roles", "check"), ("simulate", "r.db", *SMALL, "--candidate")], ids=lambda words: words[0]
)
def test_a_module_mistyped_is_answered_with_the_one_in_the_working_folder(words, spec, near, tmp_path, cli) -> None:
    (tmp_path / "my_bad.py").write_text("flaky = 1\n")
    (tmp_path / "rolls").mkdir()
    (tmp_path / "rolls" / "critic.py").write_text("class Judge: pass\n")
    ended = cli(*words, spec)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith(f"interalign: {spec!r}: there is no provider ")
    assert ended.err.endswith(f"; did you mean {near}?\n")
    assert "langchain" not in ended.err


def test_a_hook_of_a_module_that_is_not_there_and_a_registered_name_mistyped_name_what_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_hooks.py").write_text("")
    with pytest.raises(ConfigError, match=r"no module 'my_hook': .*; did you mean my_hooks:count\?$"):
        load_hook("my_hook:count")
    with pytest.raises(ConfigError, match=r"no role or model is called 'kind-jugde'; .*; did you mean kind-judge\?$"):
        load_plugin("kind-jugde")


def test_a_module_that_lacks_another_one_is_told_with_that_one(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import not_to_be_found_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be loaded \(ModuleNotFoundError: .*not_to_be_found_anywhere"):
        load_plugin("needs_more:role")


def test_a_module_that_fails_while_it_is_imported_is_refused_with_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_written_role.py").write_text("judge = [\n")
    (tmp_path / "unlucky_role.py").write_text("raise OSError('no licence file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="SyntaxError"):
        load_plugin("half_written_role:judge")
    with pytest.raises(ConfigError, match="OSError: no licence file"):
        load_plugin("unlucky_role:judge")


def test_a_hook_must_be_callable() -> None:
    with pytest.raises(ConfigError, match="is str; expected an async callable"):
        load_hook("os:sep")


def test_no_role_is_a_model_of_a_provider_without_name() -> None:
    from interalign.config import Runtime

    for spec in ("world", "openai:", ":gpt"):
        with pytest.raises(ConfigError):
            resolve_model(spec, Runtime())
    with pytest.raises(ConfigError):
        describe_role("openai:")


@pytest.mark.parametrize(
    ("option", "spec", "needs"),
    [
        ("--judge", "scripted_roles:fails_for_one", "an object with `compare`, `score` or `rank`"),
        ("--candidate", "os:sep", "an async callable"),
        ("--user", "scripted_roles:OnlyScores", "an async callable"),
    ],
)
def test_a_role_of_the_wrong_shape_is_refused_before_anything_starts(option, spec, needs, cli) -> None:
    ended = cli("simulate", "run.db", *SMALL, option, spec)
    assert ended.code == 2
    assert f"expected {needs}, a Runnable or a graph" in ended.err


# Runnables and graphs, in each of the four seats


@pytest.mark.parametrize(
    ("name", "reply"), [("longer", "reply to 1 messages: "), ("graph", "graph reply to 1 messages")]
)
def test_a_runnable_and_a_graph_can_be_the_candidate(name: str, reply: str, cli) -> None:
    assert cli("simulate", "run.db", *SMALL, "--candidate", f"own=scripted_roles:{name}").code == 0
    for judged in trees_of("run.db"):
        first, _ = judged.tree.children(judged.tree.root.id)
        assert (first.by, first.hinted) == ("own", True)
        assert first.text.startswith(reply)


@pytest.mark.parametrize(
    ("name", "reply"), [("longer", "reply to 1 messages: "), ("graph", "graph reply to 1 messages")]
)
def test_a_runnable_and_a_graph_can_be_the_inducer(name: str, reply: str, cli) -> None:
    assert cli("simulate", "run.db", *SMALL, "--inducer", f"scripted_roles:{name}").code == 0
    for judged in trees_of("run.db"):
        notes = [note for note in judged.annotations if note.node == judged.tree.root.id]
        assert [note.value.startswith(reply) for note in notes] == [True]
        hinted = next(call for call in calls_of("run.db", "candidate") if call.node == "1")
        assert f"| {reply}" in hinted.last


@pytest.mark.parametrize(
    ("name", "reply"), [("longer", "reply to 2 messages: "), ("graph", "graph reply to 2 messages")]
)
def test_a_runnable_and_a_graph_can_be_the_user(name: str, reply: str, cli) -> None:
    assert cli("simulate", "run.db", *SMALL, "--user", f"scripted_roles:{name}").code == 0
    for judged in trees_of("run.db"):
        assert judged.tree.root.text.startswith(reply)
        assert judged.tree.turns()[1].text.startswith(reply.replace("2", "4"))


def test_a_runnable_and_a_graph_can_be_the_judge_and_one_that_says_no_verdict_is_one_whose_word_is_missing(cli) -> None:
    assert cli("simulate", "always.db", *SMALL, "--judge", "scripted_roles:always_tie").code == 0
    assert {verdict.outcome for judged in trees_of("always.db") for verdict in judged.verdicts} == {"tie"}
    assert cli("simulate", "run.db", *SMALL, "--judge", "scripted_roles:graph").code == 0
    said = [order.value for judged in trees_of("run.db") for verdict in judged.verdicts for order in verdict.orders]
    assert said == ["B"] * 8
    assert cli("simulate", "other.db", *SMALL, "--judge", "scripted_roles:longer").code == 0
    missing = [verdict for judged in trees_of("other.db") for verdict in judged.verdicts]
    assert [verdict.outcome for verdict in missing] == ["missing"] * 4
    assert {len(order.replies) for verdict in missing for order in verdict.orders} == {3}


def test_a_graph_of_a_plug_in_sees_nothing_of_ours_but_the_chat_and_its_seed(cli) -> None:
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "1", "--candidate", "scripted_roles:curious").code == 0
    (judged,) = trees_of("run.db")
    for reply in judged.tree.leaves():
        # LangGraph would make it a subgraph of ours: with our seats as its context and our few steps as its limit.
        assert reply.text.startswith("context None, 20 steps, seed ")
    assert len({reply.text for reply in judged.tree.leaves()}) == 2


def test_a_graph_that_adds_no_message_fails_its_tree_and_names_itself(cli) -> None:
    ended = cli("simulate", "run.db", "--trees", "1", "--candidate", "scripted_roles:silent_graph")
    assert ended.code == 1
    assert "failed: t00000: the candidate replied nothing usable, asked 3 times" in ended.err


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("says_a_number", "candidate 'scripted_roles:says_a_number' answered int, expected Said"),
        ("not_async", "candidate 'scripted_roles:not_async' is not async: write it with `async def`"),
        ("graph_without_messages", "scripted_roles:graph_without_messages answered without `messages`"),
        ("raising_graph", "scripted_roles:raising_graph raised ValueError: out of ideas ("),
        ("says_more", "candidate 'faulty_roles:says_more' answered Confident, expected Said (Extra inputs are not per"),
        ("built_without_checks", "candidate 'faulty_roles:built_without_checks' answered Said, expected Said (Input s"),
        ("leaves", "candidate 'faulty_roles:leaves' raised RuntimeError: sys.exit('no key') was called ("),
        ("waits_for_the_cancelled", "candidate 'faulty_roles:waits_for_the_cancelled' raised CancelledError"),
        ("misconfigured", "candidate 'faulty_roles:misconfigured' raised ConfigError: set MY_KEY ("),
        ("raising_model", "faulty_roles:raising_model raised KeyError: 'choices' ("),
        ("wordy_model", "faulty_roles:wordy_model answered str, expected Reply (Input should be"),
    ],
)
def test_a_plug_in_that_breaks_its_contract_fails_the_tree_with_its_name(spec: str, said: str, cli) -> None:
    module = "scripted_roles" if hasattr(scripted_roles, spec) else "faulty_roles"
    ended = cli("simulate", "run.db", "--trees", "1", "--candidate", f"{module}:{spec}")
    assert ended.code == 1
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_an_error_inside_a_library_is_told_with_the_line_of_the_role_that_called_it(cli) -> None:
    ended = cli("simulate", "run.db", "--trees", "1", "--candidate", "faulty_roles:writes_into_its_ask")
    assert ended.code == 1
    line = 1 + Path(faulty_roles.__file__).read_text().splitlines().index(
        '    ask.transcript[0].content = "something else"  # type: ignore[misc]'
    )
    assert "raised ValidationError: 1 validation error for Message content Instance is frozen" in ended.err
    assert f"faulty_roles.py:{line})" in ended.err


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("raises_for_now", "raised ValueError: no idea about t0000"),
        ("of_the_wrong_type_for_now", "answered int, expected Said"),
    ],
)
def test_a_plug_in_with_the_same_fault_in_the_first_three_trees_stops_the_run_which_goes_on_once_it_is_mended(
    spec: str, said: str, tmp_path: Path, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKS", str(tmp_path / "broken"))
    (tmp_path / "broken").touch()
    words = ("--trees", "40", "--turns", "1", "--concurrency", "2", "--candidate", f"faulty_roles:{spec}")
    ended = cli("simulate", "run.db", *words)
    assert ended.code == 3
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"interalign: the first 3 trees failed alike: candidate 'faulty_roles:{spec}' {said}")
    assert last.endswith("; mend it and run the same command again")
    assert ("faulty_roles.py:" in last) == (spec == "raises_for_now")
    with ia.open_run(tmp_path / "run.db") as run:
        # Four trees are under way at once; none is begun after the third has failed.
        assert 3 <= sum(tree.status == "failed" for tree in run.trees()) <= 7
    (tmp_path / "broken").unlink()
    assert cli("simulate", "run.db", *words).code == 0
    assert len(trees_of("run.db")) == 40


@pytest.mark.parametrize(
    ("spec", "failed"),
    [("unlucky_at_first", ["t00000", "t00001"]), ("fails_on_purpose", ["t00000", "t00001", "t00002", "t00003"])],
)
def test_a_plug_in_that_fails_some_trees_or_means_to_does_not_stop_the_run(
    spec: str, failed: list[str], tmp_path: Path, cli
) -> None:
    assert cli("simulate", "run.db", "--trees", "9", "--turns", "1", "--candidate", f"faulty_roles:{spec}").code == 1
    with ia.open_run(tmp_path / "run.db") as run:
        assert [tree.id for tree in run.trees() if tree.status == "failed"] == failed
        assert {tree.status for tree in run.trees()} == {"done", "failed"}


def test_a_plug_in_with_another_fault_in_one_of_the_first_trees_does_not_stop_the_run(tmp_path: Path, cli) -> None:
    words = ("--trees", "9", "--turns", "1", "--concurrency", "1", "--candidate", "faulty_roles:unlucky_in_two_ways")
    assert cli("simulate", "run.db", *words).code == 1
    with ia.open_run(tmp_path / "run.db") as run:
        assert {tree.status for tree in run.trees()} == {"failed"}


def test_a_plug_in_whose_answer_cannot_be_used_is_asked_again_with_another_seed(cli) -> None:
    ended = cli("simulate", "run.db", "--trees", "12", "--turns", "1", "--candidate", "scripted_roles:moody")
    asked: dict[tuple[str, str], list[str]] = {}
    for call in calls_of("run.db", "candidate"):
        asked.setdefault((call.tree, call.node), []).append(call.reply)
    assert {len(replies) for replies in asked.values()} == {1, 2, 3}
    assert all(reply == "hm" for replies in asked.values() for reply in replies[:-1])
    # A reply comes with chance 1/3, so three in a row are missing in 8 of 27 places: some trees fail, some do not.
    lost = [tree for (tree, _), replies in asked.items() if replies == ["hm"] * 3]
    assert lost
    assert ended.code == 1
    assert f"{len(set(lost))} trees failed" in ended.err
    assert "candidate 'scripted_roles:moody' gave nothing usable, asked 3 times" in ended.err
    assert 0 < len(trees_of("run.db")) == 12 - len(set(lost))


def test_what_a_plug_in_is_handed_cannot_be_changed_and_is_nobody_elses(tmp_path: Path, cli) -> None:
    file = tmp_path / "run.yaml"
    points = ("after_user", "before_candidates", "after_candidates", "after_judge")
    file.write_text(yaml.safe_dump({"hooks": {point: ["faulty_roles:changing_hook"] for point in points}}))
    shape = ("--trees", "2", "--turns", "2", "--config", file, "--judge", "faulty_roles:ChangingJudge")
    roles = [word for kind in ("--user", "--inducer", "--candidate") for word in (kind, "faulty_roles:changing")]
    assert cli("simulate", "run.db", *shape, *roles).code == 0
    assert cli("simulate", "scores.db", *shape, *roles, "--judging", "score").code == 0
    nothing = "I could change [] of this."
    for run in ("run.db", "scores.db"):
        for judged in trees_of(run):
            assert {node.text for node in judged.tree.nodes} == {nothing}
            assert {note.value for note in judged.annotations if note.name == "hint"} == {nothing}
            noted = [(note.name, note.value) for note in judged.annotations if note.name not in ("hint", "audit")]
            assert sorted(noted) == sorted((f"changed at point {point}", []) for point in range(4) for _ in range(2))
            asked = [order for verdict in judged.verdicts for order in verdict.orders] or judged.scores
            assert {order.replies for order in asked} == {(nothing,)}


def test_a_chat_model_of_a_plug_in_shares_no_messages_and_no_parameters_with_us(tmp_path: Path, cli) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"parameters": {"candidate": {"extra_body": {"mess": 1}}}}))
    assert cli("simulate", "run.db", *SMALL, "--config", file, "--candidate", "faulty_roles:changing_model").code == 0
    # Each call found the one that the configuration put there, not what the call before had made of it.
    assert {reply.text for judged in trees_of("run.db") for reply in judged.tree.leaves()} == {"[] and 2 of this."}


@pytest.mark.parametrize("spec", ["blocking", "blocking_graph", "blocking_in_a_library"])
def test_a_role_that_blocks_the_event_loop_is_named_once_and_one_that_waits_is_not(
    spec: str, cli, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "TOO_LONG", faulty_roles.BLOCKED * 0.3)
    candidates = ("--candidate", f"faulty_roles:{spec}", "--candidate", "faulty_roles:patient")
    assert cli("simulate", "run.db", "--trees", "2", "--turns", "1", *candidates).code == 0
    (said,) = [record for record in caplog.records if record.name == "interalign"]
    assert said.levelname == "WARNING"
    assert f"faulty_roles:{spec}" in said.getMessage()
    assert " has blocked the event loop, and so all trees, for 0.3 s (" in said.getMessage()
    assert "faulty_roles.py:" in said.getMessage()


def test_a_judge_without_the_method_that_is_asked_for_says_which_option_it_can_do(cli) -> None:
    ended = cli("simulate", "run.db", "--trees", "1", "--judge", "scripted_roles:OnlyScores")
    assert ended.code == 1
    assert "judge 'scripted_roles:OnlyScores' has no `compare`; add it, or use --judging score" in ended.err
    judge = ("--judging", "score", "--judge", "scripted_roles:OnlyScores")
    assert cli("simulate", "other.db", "--trees", "1", *judge).code == 0
    (judged,) = trees_of("other.db")
    assert [score.value for score in judged.scores] == [
        1 + len(judged.tree.node(s.node).text) % 5 for s in judged.scores
    ]
