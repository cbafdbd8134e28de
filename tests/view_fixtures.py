"""Run files to look at, as fixtures: a test file names this module in `pytest_plugins`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from view_pages import ATTACK, NOTES, TURN_1, TURN_2, TURN_3, VERDICTS, Element, Run, parsed, reply, user

from interalign.eval.view import create_app
from interalign.personas import Persona
from interalign.tree import Annotation, Message, Presentation, Score, Verdict


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run.db")
    yield made
    made.store.close()


@pytest.fixture
def night(run: Run) -> Run:
    """The conversation above as t1, between one that failed at once, t0, and one that is only planned, t2."""
    run.begin(candidate=[{"name": "average", "model": "world:average"}], parameters={"judge": {"temperature": 0.0}})
    run.plan("t0", "t1", "t2")
    run.end("t0", failed="the user said nothing usable in turn 1")
    for nodes, verdict in zip((TURN_1, TURN_2, TURN_3), VERDICTS, strict=True):
        run.say("t1", nodes, [verdict], notes=NOTES if nodes is TURN_1 else ())
    run.end("t1")
    return run


@pytest.fixture
def browse(run: Run) -> Callable[..., Element]:
    """`browse(url)`: the page, which must come with status 200."""
    client = TestClient(create_app(run.path), raise_server_exceptions=True)

    def get(url: str, status: int = 200) -> Element:
        answer = client.get(url)
        assert answer.status_code == status, answer.text[:500]
        return parsed(answer.text)

    return get


@pytest.fixture
def hostile(run: Run) -> Run:
    """A run with the attack in every field that can hold it."""
    name = ATTACK.replace("\x00", "")
    run.begin(
        "evaluation",
        [Persona(id=name, profile=(ATTACK, "fact"), personality=ATTACK, source=ATTACK)],
        user=ATTACK,
        candidate=[{"name": ATTACK, "model": ATTACK}],
        deep={ATTACK: ATTACK},
    )
    run.plan(name, f"{name}/planned", persona=name, candidate=name, case=name)
    asked = user(None, ATTACK + "\ud800").model_copy(update={"by": ATTACK})
    call = run.call(name, "u", ATTACK.replace("\x00", ""), [Message(role="system", content=ATTACK)], ATTACK)
    replies = [reply(asked, number, ATTACK, by=name, call=call) for number in (1, 2)]
    order = Presentation(first="1", second="2", replies=(ATTACK, ATTACK), value="A")
    verdict = Verdict(judge=name, a="1", b="2", orders=(order, order.model_copy(update={"said": None})))
    notes = [
        Annotation(node=node, name=kind, by=name, value={ATTACK: ATTACK})
        for node in ("u", "1")
        for kind in (name, "hint")
    ]
    run.say(name, [asked, *replies], [verdict], [Score(judge=name, node="1", replies=(ATTACK, ATTACK), value=3)], notes)
    run.end(name, failed=ATTACK)
    return run
