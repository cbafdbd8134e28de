"""`export --format inspect`: a run as a log that Inspect's viewer opens."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from view_pages import ADA, Run, compared, reply, score, user

import interalign as ia
from interalign import api
from interalign.conversations import import_trees
from interalign.errors import ConfigError
from interalign.eval.inspect_log import inspect_log
from interalign.store import Store
from interalign.tree import Message

AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
ASKED = user(None, "I like tea.")
FIRST, SECOND = (
    reply(ASKED, number, text, hinted=number == 1) for number, text in ((1, "Green?"), (2, "Half \ud83d."))
)
NEXT = user("1", "Yes.")
LAST = reply(NEXT, 1, "Sencha.")


@pytest.fixture
def made(tmp_path: Path) -> Run:
    """A tree of two paths, with scores and verdicts, one that failed at once, and one that still grows."""
    run = Run(tmp_path / "run.db")
    run.begin(candidate=[{"name": "average", "model": "world:average"}], system="Be kind.")
    run.plan("t0", "t1", "t2")
    key = run.call("t0", "1", "candidate", [Message(role="user", content="I like tea.")], "Green?", tokens=3)
    first = FIRST.model_copy(update={"call": key})
    run.call("t0", "1|2", "judge", [Message(role="user", content="Which?")], "Verdict: A")
    run.say("t0", [ASKED, first, SECOND], [compared("1", "2", "A", "B")], [score("1", 4), score("2", None)])
    run.say("t0", [NEXT, LAST], [], [score("1/1", 2), score("1/1", 5, "other")])
    run.end("t0")
    run.end("t1", failed="the user said nothing usable in turn 1")
    return run


def log_of(run: Run, judge: str | None = None) -> dict[str, Any]:
    run.store.close()
    with Store.open(run.path) as store:
        return inspect_log(store, judge, AT)


def test_every_path_of_a_tree_is_a_sample_and_a_failed_tree_is_one_with_its_error(made: Run) -> None:
    log = log_of(made)
    assert [sample["id"] for sample in log["samples"]] == ["t0:2", "t0:1/1", "t1"]
    assert log["eval"]["dataset"] == {"name": "night", "samples": 3, "sample_ids": ["t0:2", "t0:1/1", "t1"]}
    assert [sample.get("error", {}).get("message") for sample in log["samples"]] == [
        None, None, "the user said nothing usable in turn 1"
    ]  # fmt: skip


def test_a_sample_is_the_conversation_along_its_path_as_it_was_said(made: Run) -> None:
    short, long, failed = log_of(made)["samples"]
    said = [[(each["role"], each["content"]) for each in sample["messages"]] for sample in (short, long, failed)]
    assert said == [
        [("system", "Be kind."), ("user", "I like tea."), ("assistant", "Half \ufffd.")],
        [("system", "Be kind."), ("user", "I like tea."), ("assistant", "Green?"), ("user", "Yes."),
         ("assistant", "Sencha.")],
        [],
    ]  # fmt: skip
    assert long["input"] == "I like tea."
    assert [each.get("model") for each in long["messages"]] == [None, None, "average+hint", None, "average"]
    assert long["output"]["completion"] == "Sencha."


def test_a_sample_says_who_talked_and_where_it_is_in_the_tree(made: Run) -> None:
    _, long, failed = log_of(made)["samples"]
    persona = {"profile": list(ADA.profile), "personality": ADA.personality}
    assert long["metadata"] == {"tree": "t0", "persona": "ada", "node": "1/1", **persona}
    assert failed["metadata"] == {"tree": "t1", "persona": "ada", **persona}


def test_scores_are_means_along_the_path_by_judge_with_their_reasons(made: Run) -> None:
    short, long, _ = log_of(made)["samples"]
    assert long["scores"]["alignment by judge"] == {
        "value": 3,
        "explanation": "Turn 1: 4. It fits. Score: 4\n\nTurn 2: 2. It fits. Score: 2",
        "metadata": {"judge": "judge", "n": 2},
    }
    assert long["scores"]["alignment by other"]["value"] == 5
    assert "alignment by judge" not in short["scores"]  # its only score could not be read


def test_verdicts_are_the_share_of_turns_whose_reply_was_preferred(made: Run) -> None:
    short, long, _ = log_of(made)["samples"]
    told = {"metadata": {"judge": "judge", "n": 1}}
    assert long["scores"]["preferred by judge"] == {"value": 1.0, "explanation": "Turn 1: preferred", **told}
    assert short["scores"]["preferred by judge"] == {"value": 0.0, "explanation": "Turn 1: rejected", **told}


@pytest.mark.parametrize(
    ("verdict", "value"), [(compared("1", "2", "A", "A"), 0.5), (compared("1", "2", "A", None), None)]
)
def test_a_tie_counts_half_and_a_missing_verdict_not_at_all(tmp_path: Path, verdict: Any, value: float | None) -> None:
    run = Run(tmp_path / "run.db")
    run.begin()
    run.plan("t0")
    run.say("t0", [ASKED, FIRST, SECOND], [verdict])
    run.end("t0")
    scores = [sample["scores"].get("preferred by judge") for sample in log_of(run)["samples"]]
    assert [score and score["value"] for score in scores] == [value, value]


def test_one_judge_alone_where_it_is_named(made: Run) -> None:
    assert {name for sample in log_of(made, "other")["samples"] for name in sample["scores"]} == {"alignment by other"}


def test_calls_along_the_path_are_model_events_with_their_prompts_in_order_of_time(made: Run) -> None:
    short, long, failed = log_of(made)["samples"]
    assert [event["role"] for event in long["events"]] == ["candidate", "judge"]
    assert [event["role"] for event in short["events"]] == ["judge"]
    assert failed["events"] == []
    event = long["events"][0]
    assert event["input"] == [{"role": "user", "content": "I like tea."}]
    assert event["output"]["usage"] == {"input_tokens": 3, "output_tokens": 3, "total_tokens": 6}
    assert (event["working_start"], event["metadata"]["node"], event["error"]) == (0.0, "1", None)
    assert event["timestamp"] <= event["completed"] <= long["completed_at"]


def test_the_log_names_run_candidate_and_what_was_used(made: Run) -> None:
    log = log_of(made)
    assert (log["version"], log["status"], log["eval"]["created"]) == (2, "success", "2026-11-27T12:00:00+00:00")
    assert (log["eval"]["task"], log["eval"]["model"]) == ("night", "world:average")
    assert [each["name"] for each in log["eval"]["scorers"]] == [
        "alignment by judge", "alignment by other", "preferred by judge"
    ]  # fmt: skip
    assert log["stats"]["model_usage"] == {"m": {"input_tokens": 3, "output_tokens": 3, "total_tokens": 6}}


def test_what_import_reads_of_the_log_is_what_was_said(made: Run, tmp_path: Path) -> None:
    samples = [sample for sample in log_of(made)["samples"] if sample["messages"]]
    (tmp_path / "log.json").write_text(json.dumps({**log_of(made), "samples": samples}))
    read = list(import_trees(tmp_path / "log.json", "run", format="inspect").trees)
    assert [[node.text for node in judged.tree.nodes] for judged in read] == [
        ["I like tea.", "Half \ufffd."], ["I like tea.", "Green?", "Yes.", "Sencha."]
    ]  # fmt: skip
    assert {judged.tree.system for judged in read} == {"Be kind."}


@pytest.mark.parametrize("name", ["log.eval", "log.json"])
def test_inspects_own_library_reads_what_its_own_library_wrote(made: Run, tmp_path: Path, name: str) -> None:
    inspect_ai = pytest.importorskip("inspect_ai.log", reason="Inspect's library is large, and not among ours")
    expected = log_of(made)
    assert api.export(made.path, tmp_path / name, format="inspect") == 3
    log = inspect_ai.read_eval_log(str(tmp_path / name))
    assert (log.status, log.eval.task, log.eval.model) == ("success", "night", "world:average")
    by_id = {sample.id: sample for sample in log.samples}
    for sample in expected["samples"]:
        found = by_id[sample["id"]]
        assert [message.text for message in found.messages] == [each["content"] for each in sample["messages"]]
        values = {name: each["value"] for name, each in sample["scores"].items()}
        assert {name: each.value for name, each in (found.scores or {}).items()} == values
        assert [event.role for event in found.events] == [each["role"] for each in sample["events"]]
        assert (found.error and found.error.message) == sample.get("error", {}).get("message")


@pytest.mark.parametrize("name", ["log.jsonl", "log", "log.parquet", "eval"])
def test_a_file_that_is_not_called_like_a_log_is_refused(made: Run, tmp_path: Path, name: str) -> None:
    made.store.close()
    with pytest.raises(ConfigError, match=r"--format inspect writes a file called \*.eval or \*.json"):
        api.export(made.path, tmp_path / name, format="inspect")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pairs": "all"}, "--pairs"),
        ({"min_margin": 1.0, "keep_cut": True}, "--min-margin, --keep-cut"),
        ({"audit": "drop"}, "--audit"),
        ({"rows_per_file": 3}, "--rows-per-file"),
        ({"panel_weights": ["truth"]}, "--panel-weights"),
    ],
)
def test_options_of_training_rows_are_refused(made: Run, tmp_path: Path, options: Any, named: str) -> None:
    made.store.close()
    with pytest.raises(ConfigError, match=f"^{named}: for training rows only; --format inspect leaves nothing out"):
        api.export(made.path, tmp_path / "log.eval", format="inspect", **options)


def test_a_judge_that_was_not_asked_and_a_run_as_the_output_are_refused(made: Run) -> None:
    made.store.close()
    with pytest.raises(ConfigError, match=r"has no verdict by 'othr'.*did you mean other"):
        api.export(made.path, made.path.with_suffix(".eval"), format="inspect", judge="othr")


def test_without_the_library_it_says_what_to_install_and_leaves_nothing(
    made: Run, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made.store.close()
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    done = cli("export", "run.db", "--format", "inspect", "--out", "log.eval")
    assert done.code == 2
    assert done.err == "interalign: Inspect's own library writes its logs; pip install inspect_ai\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_an_evaluation_has_a_sample_for_each_conversation(tmp_path: Path) -> None:
    ia.evaluate(tmp_path / "eval.db", candidate=["world:blind", "world:oracle"], cases="world", limit=1, turns=2)
    with Store.open(tmp_path / "eval.db") as store:
        log = inspect_log(store, None, AT)
    assert [sample["metadata"]["candidate"] for sample in log["samples"]] == ["blind", "oracle"]
    assert len({sample["metadata"]["case"] for sample in log["samples"]}) == 1
    for sample in log["samples"]:
        assert [message["role"] for message in sample["messages"]] == ["user", "assistant"] * 2
        assert sample["scores"]["alignment by world:judge"]["metadata"]["n"] == 2
        assert [event["role"] for event in sample["events"]] == ["user", "candidate", "judge"] * 2
