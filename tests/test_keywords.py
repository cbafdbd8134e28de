"""The settings as typed keywords of `ia.simulate` and `ia.evaluate`: complete, and known to a type checker."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter

from interalign.config import (
    EvaluationKeywords,
    EvaluationSettings,
    Runtime,
    RuntimeKeywords,
    SimulationKeywords,
    SimulationSettings,
)
from interalign.config.reading import IN_NAMES

ROOT = Path(__file__).parents[1]
FOR_RUNTIME = set(Runtime.model_fields) - set(IN_NAMES)


@pytest.mark.parametrize(
    ("keywords", "fields"),
    [
        (RuntimeKeywords, FOR_RUNTIME),
        (SimulationKeywords, set(SimulationSettings.model_fields) | FOR_RUNTIME),
        (EvaluationKeywords, set(EvaluationSettings.model_fields) | FOR_RUNTIME),
    ],
)
def test_there_is_a_keyword_for_every_setting_and_for_nothing_else(keywords: Any, fields: set[str]) -> None:
    assert set(get_type_hints(keywords)) == fields


@pytest.mark.parametrize(
    ("keywords", "held"),
    [
        (SimulationKeywords, SimulationSettings()),
        (EvaluationKeywords, EvaluationSettings(candidate="world:average")),
        (RuntimeKeywords, Runtime(base_url="http://localhost:8000/v1")),
    ],
)
def test_a_keyword_takes_what_its_setting_holds(keywords: Any, held: BaseModel) -> None:
    hints = get_type_hints(keywords)
    for name, value in held:
        if name in hints:
            TypeAdapter(hints[name], config={"arbitrary_types_allowed": True}).validate_python(value)


RIGHT = """
from pathlib import Path
import interalign as ia

ia.simulate(
    "run.db", trees=3, turns=2, branch=3, policy="full", judging="score", user="openai:user", inducer="none",
    candidate=["average=world:average", "world:attentive"], judge=["world:judge", "openai:judge"], seed=1,
    rubric=Path("rubric.txt"), parameters={"judge": {"temperature": 0.5}}, hooks={"after_judge": ["my_hooks:length"]},
)
ia.evaluate("eval.db", candidate="world:average", cases="aloe", limit=5, fork="other.db")
"""
WRONG = [
    ('ia.simulate("run.db", tres=3)', "tres"),
    ('ia.simulate("run.db", trees="3")', "trees"),
    ('ia.simulate("run.db", judging="rank")', "judging"),
    ('ia.simulate("run.db", hooks={"before_all": ["my_hooks:length"]})', "before_all"),
    ('ia.simulate("run.db", cases="aloe")', "cases"),
    ('ia.evaluate("eval.db", candidate=3)', "candidate"),
    ('ia.evaluate("eval.db", candidate="world:average", personas="people")', "personas"),
]


@pytest.mark.slow
def test_a_type_checker_takes_right_keywords_and_refuses_each_wrong_one(tmp_path: Path) -> None:
    first = RIGHT.count("\n") + 1
    program = tmp_path / "program.py"
    program.write_text(RIGHT + "\n".join(wrong for wrong, _ in WRONG) + "\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", program],  # with the cache of `make check`, if it was run
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = [line.partition("program.py:")[2] for line in checked.stdout.splitlines() if "error:" in line]
    refused = [(int(line.partition(":")[0]) - first, line) for line in said]
    assert sorted({line for line, _ in refused}) == list(range(len(WRONG))), checked.stdout + checked.stderr
    assert [words for line, words in refused if WRONG[line][1] not in words] == []
