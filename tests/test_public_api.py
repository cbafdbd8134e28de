"""What `import interalign as ia` promises: these names, typed, documented and frozen, and no others."""

import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, ValidationError

import interalign as ia
from interalign import api
from interalign.store import Store

PROMISED = {
    *("simulate", "evaluate", "export", "open_run"),
    *("ask_model", "parse_verdict", "parse_score"),
    *("Persona", "Message", "Node", "Tree", "JudgedTree", "Verdict", "Presentation", "Score", "Annotation"),
    *("UserRole", "Inducer", "Candidate", "Judge", "Hook"),
    *("At", "UserAsk", "InducerAsk", "CandidateAsk", "Comparison", "Scoring", "HookView"),
    *("Said", "ChoiceOpinion", "ScoreOpinion"),
    *("Runtime", "Parameters", "Price", "RunSummary", "Usage"),
    *("InteralignError", "ConfigError", "DataError", "StopError", "LockedError"),
    *("FailedTreeError", "BadContentError", "MalformedTreeError", "MetricError"),
}


def public() -> dict[str, object]:
    return {name: getattr(ia, name) for name in ia.__all__}


def classes() -> list[type]:
    return [value for value in public().values() if inspect.isclass(value)]


def models() -> list[type[BaseModel]]:
    return [one for one in classes() if issubclass(one, BaseModel)]


def test_everything_promised_is_public() -> None:
    assert set(ia.__all__) >= PROMISED


def test_all_names_exactly_what_the_package_shows() -> None:
    shown = {name for name in dir(ia) if not name.startswith("_") and not isinstance(getattr(ia, name), ModuleType)}
    assert set(ia.__all__) == shown
    assert len(ia.__all__) == len(set(ia.__all__))


def test_a_star_import_brings_them_all() -> None:
    code = "from interalign import *\nimport interalign\nprint(all(name in globals() for name in interalign.__all__))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize("name", sorted(ia.__all__))
def test_a_public_name_is_documented_in_its_own_words(name: str) -> None:
    value = getattr(ia, name)
    said = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    assert said
    assert len(said.split()) >= 3


@pytest.mark.parametrize("name", ["simulate", "evaluate", "export", "open_run"])
def test_a_public_function_is_that_of_the_api_and_fully_typed(name: str) -> None:
    function = getattr(ia, name)
    assert function is getattr(api, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    untyped = [parameter.name for parameter in signature.parameters.values() if parameter.annotation is parameter.empty]
    assert untyped == []


@pytest.mark.parametrize("name", ["UserRole", "Inducer", "Candidate", "Judge", "Hook"])
def test_a_role_is_a_protocol_of_documented_async_calls(name: str) -> None:
    role = getattr(ia, name)
    assert role._is_protocol
    calls = [call for attribute, call in vars(role).items() if inspect.isfunction(call) and attribute != "__init__"]
    calls = [call for call in calls if call.__module__ == "interalign.agents.protocols"]
    assert calls
    assert [call.__name__ for call in calls if not (inspect.iscoroutinefunction(call) and call.__doc__)] == []


def test_values_are_frozen_and_know_no_other_fields() -> None:
    assert len(models()) >= 15
    loose = [
        one.__name__
        for one in models()
        if (one.model_config.get("frozen"), one.model_config.get("extra")) != (True, "forbid")
    ]
    assert loose == []


def test_a_value_cannot_be_changed() -> None:
    message = ia.Message(role="user", content="Good morning")
    with pytest.raises(ValidationError, match="frozen"):
        message.content = "Good night"  # type: ignore[misc]


def test_every_error_is_an_interalign_error_with_the_exit_code_of_the_contract() -> None:
    errors = [one for one in classes() if issubclass(one, Exception)]
    assert len(errors) == 9
    assert [one.__name__ for one in errors if not issubclass(one, ia.InteralignError)] == []
    codes = {one.__name__: one.exit_code for one in errors}
    assert codes == {
        "InteralignError": 1,
        "ConfigError": 2,
        "DataError": 2,
        "StopError": 3,
        "LockedError": 3,
        "FailedTreeError": 1,
        "BadContentError": 1,
        "MalformedTreeError": 1,
        "MetricError": 1,
    }


def test_the_library_does_what_the_readme_says(tmp_path: Path) -> None:
    run = tmp_path / "run.db"
    summary = ia.simulate(run, trees=2, turns=2, candidate=["world:oracle"])
    assert (summary.done, summary.trees, summary.failed) == (2, 2, {})
    assert ia.export(run, tmp_path / "all.jsonl", format="messages") == 6
    with ia.open_run(run) as store:
        assert isinstance(store, Store)
        assert [len(judged.tree.nodes) for judged in store.judged_trees()] == [6, 6]


def test_the_library_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, interalign as ia\n"
        "async def cell(): return ia.simulate(sys.argv[1], trees=1, turns=1).done\n"
        "print(asyncio.run(cell()))\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run.db")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "1\n"


def test_a_presentation_is_read_and_built_by_the_earlier_name_of_its_value_too() -> None:
    shown = {"first": "1", "second": "2", "replies": ("Verdict: A",)}
    assert ia.Presentation(**shown, said="A") == ia.Presentation(**shown, value="A")
    assert ia.Presentation(**shown, value="A").said == "A"
    assert ia.Presentation(**shown, value="A").model_dump() == {**shown, "value": "A"}


def test_files_are_named_as_text_or_as_paths(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("turns: 1\ntrees: 1\n")
    ia.simulate(str(tmp_path / "run.db"), config=str(tmp_path / "run.yaml"))
    done = ia.simulate(str(tmp_path / "run.db"), config=tmp_path / "run.yaml", fork=str(tmp_path / "fork.db"), seed=1)
    assert done.done == 1
    (tmp_path / "run.yaml").write_text("turns: 1\ntrees: none\n")
    with pytest.raises(ia.ConfigError, match=r"run\.yaml: trees: "):
        ia.simulate(str(tmp_path / "run.db"), config=str(tmp_path / "run.yaml"))
