"""The command that a tree's page gives to go on from a message: it is the one that works."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Browser, browsing
from conftest import Ended
from starlette.testclient import TestClient
from view_pages import ADA, Run, listening, parsed, reply, turn, user, with_a_browser

from interalign import api
from interalign.eval.view import create_app
from interalign.eval.view.continuing import command_from
from interalign.store import Store

pytest_plugins = ["view_fixtures"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation, and an evaluation of two candidates, with settings of their own."""
    folder = tmp_path_factory.mktemp("continuing")
    api.simulate(
        folder / "my run.db", trees=2, turns=3, branch=3, policy="beam:2", judging="score", seed=5,
        candidate=["world:average", "careful=world:attentive"], judge=["world:judge", "world:judge?noise=0.2"],
        system="@@home: it's brief",
    )  # fmt: skip
    api.evaluate(folder / "eval.db", limit=1, turns=2, candidate=["world:blind", "world:oracle"])
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    for path in made.glob("*.db"):
        shutil.copy(path, tmp_path)
    return tmp_path


def command(path: Path, tree: str, node: str) -> str:
    with Store.open(path) as store:
        judged = store.judged_tree(tree)
        assert judged is not None
        found = command_from(store, tree, judged.tree.node(node), judged.tree.persona)
    assert found is not None
    return found


def trees_of(path: Path) -> list[str]:
    with Store.open(path) as store:
        return [tree.id for tree in store.trees("done")]


def test_a_simulation_goes_on_in_its_file_under_its_settings_as_often_as_one_likes(
    runs: Path, cli: Callable[..., Ended]
) -> None:
    run = runs / "my run.db"
    with Store.open(run) as store:
        judged = store.judged_tree("t00000")
        assert judged is not None
        node = next(node for node in judged.tree.nodes if node.turn == 2 and node.role == "user").id
    assert command(run, "t00000", node) == (
        f"interalign simulate 'my run.db' --from t00000:{node} --trees 1 --branch 3 --policy beam:2 "
        "--candidate world:average --candidate careful=world:attentive --judging score --turns 3 --judge world:judge "
        """--judge 'world:judge?noise=0.2' --seed 5 --system '@@home: it'"'"'s brief'"""
    )
    for number in range(2):
        said = command(run, "t00000", node)
        assert f"--trees {number + 1} " in said
        ended = cli(*shlex.split(said)[1:])
        assert ended.code == 0, ended.err
        assert f"t00000:{node}@0000{number}" in trees_of(run)
    branched = f"t00000:{node}@00000"
    assert f"--from {branched}:{node}" in command(run, branched, node)  # a branch is a tree like any other


def test_beyond_the_last_turn_and_in_an_evaluation_a_fork_goes_on(runs: Path, cli: Callable[..., Ended]) -> None:
    with Store.open(runs / "my run.db") as store:
        judged = store.judged_tree("t00001")
        assert judged is not None
        last = judged.tree.nodes[-1].id
    for run, tree, node, turns in (("my run.db", "t00001", last, 4), ("eval.db", "oracle/train", "1", 2)):
        with Store.open(runs / run) as store:
            tree = tree if run != "eval.db" else next(each.id for each in store.trees() if "oracle" in each.id)
        said = command(runs / run, tree, node)
        words = shlex.split(said)
        fork = words[words.index("--fork") + 1]
        assert not (runs / fork).exists()
        ended = cli(*words[1:])
        assert ended.code == 0, ended.err
        assert trees_of(runs / fork) == [f"{tree}:{node}@00000"]
        with Store.open(runs / fork) as store:
            grown = store.judged_tree(f"{tree}:{node}@00000")
            assert grown is not None
            assert max(each.turn for each in grown.tree.nodes) == turns
        assert shlex.split(command(runs / run, tree, node))[words.index("--fork") + 1] != fork  # it is there now


def test_an_evaluation_goes_on_with_the_candidate_of_the_tree_alone(runs: Path) -> None:
    with Store.open(runs / "eval.db") as store:
        tree = next(each.id for each in store.trees() if "oracle" in each.id)
    said = command(runs / "eval.db", tree, "1")
    assert said.endswith(" --trees 1 --branch 1 --inducer none --candidate world:oracle --judging score --turns 2")


@pytest.mark.parametrize(
    ("begun", "words"),
    [
        ({"parameters": {"judge": {"temperature": 0.5}}}, "--turns 3 --seed 7 --config FILE.yaml"),
        ({"hooks": {"after_user": ["m:f"]}}, "--turns 3 --seed 7 --config FILE.yaml"),
        ({"end_mark": "[END]"}, "--turns 3 --seed 7 --config FILE.yaml"),
        ({"own_prompts": {"user": "..."}}, "--turns 3 --seed 7 --prompts DIR"),
        ({"rubric": "Be strict."}, "--turns 3 --seed 7 --rubric FILE"),
        ({"system": "Be brief."}, "--turns 3 --seed 7 --system 'Be brief.'"),
        ({"system": "@home"}, "--turns 3 --seed 7 --system @@home"),
        ({"candidate": [{"name": "a", "model": "openai:m"}]}, "--candidate a=openai:m --turns 3 --seed 7"),
        ({"candidate": [{"name": "m", "model": "openai:m"}]}, "--candidate openai:m --turns 3 --seed 7"),
        ({"judge": ["openai:a", "openai:b"]}, "--turns 3 --judge openai:a --judge openai:b --seed 7"),
        ({"inducer": "none", "user": "m:f"}, "--inducer none --turns 3 --user m:f --seed 7"),
        ({"parameters": {"judge": {"temperature": 0.0}}, "hooks": {}}, "--turns 3 --seed 7"),
    ],
)
def test_what_only_a_file_can_say_is_named_in_capitals(run: Run, begun: dict[str, object], words: str) -> None:
    run.begin(turns=3, **begun)
    run.plan("t1")
    run.say("t1", turn(None))
    run.store.close()
    assert command(run.path, "t1", "1") == f"interalign simulate {run.path} --from t1:1 --trees 1 {words}"


def test_an_import_is_continued_by_models_that_the_user_names(run: Run) -> None:
    run.begin("import", [])
    run.plan("-odd id", persona="nobody")
    run.say("-odd id", turn(None))
    run.store.close()
    assert command(run.path, "-odd id", "2") == (
        f"interalign simulate {run.path} --from='-odd id:2' --trees 1 --candidate MODEL --user MODEL --judge MODEL "
        "--personas FILE"
    )


def test_a_name_that_a_terminal_would_not_show_has_no_command(run: Run) -> None:
    run.begin()
    run.plan("t\u202e1")
    run.say("t\u202e1", [user(None), reply(user(None), 1)])
    judged = run.store.judged_tree("t\u202e1")
    assert judged is not None
    assert command_from(run.store, "t\u202e1", judged.tree.node("1"), ADA.id) is None


@with_a_browser
def test_c_copies_the_command_of_the_message_that_is_selected(runs: Path, tmp_path: Path) -> None:
    run = runs / "my run.db"
    with listening(run) as address:

        async def work(browser: Browser) -> None:
            await browser.open(f"{address}/tree/t00000?node=2")
            await browser.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
            await browser.press("c")
            await browser.until("[...document.querySelectorAll('button')].some((b) => b.textContent === 'copied')")
            assert await browser.read("navigator.clipboard.readText()") == command(run, "t00000", "2")

        browsing(tmp_path / "browser", work)
    page = parsed(TestClient(create_app(run)).get("/tree/t00000?node=2").text)
    assert page.one("div", id="command").text == command(run, "t00000", "2")
    assert "the command that continues this message" in page.every("footer")[0].words
