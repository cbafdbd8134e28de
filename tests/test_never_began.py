"""A run that is refused before it begins leaves no file, and has asked nobody anything."""

import asyncio
from pathlib import Path

import fault_server
import pytest

from interalign import api
from interalign.errors import StopError
from interalign.ledger import Ledger
from interalign.store import Store

SMALL = ("--trees", "2", "--turns", "1")
FILES = {
    "hooks.yaml": "hooks: {after_user: ['no_such_module:hook']}\n",
    "tres.yaml": "tres: 3\n",
    "broken.yaml": "turns: [\n",
    "prices.yaml": "openai:other: {prompt: 1, completion: 1}\n",
    "bad.jsonl": '{"profile": [], "personality": "calm"}\n',
    "mine.jsonl": '{"profile": ["I like tea."], "personality": "calm"}\n',
    "half_written.py": "role = [\n",
    "whole.py": "number = 3\n",
}
REFUSED = [
    ("--candidate", "hf:/no/such"),
    ("--candidate", "hf:model"),
    ("--judge", "hf:/no/such"),
    ("--candidate", "hf:"),
    ("--candidate", "hf:model?nonsense=1"),
    ("--candidate", "world:nobody"),
    ("--judge", "openai:gpt-4o-mini"),
    ("--candidate", "anthropic:claude"),
    ("--candidate", "nobody:model"),
    ("--candidate", "half_written:role"),
    ("--candidate", "whole:role"),
    ("--candidate", "whole:number"),
    ("--candidate", "nonsense"),
    ("--config", "hooks.yaml"),
    ("--config", "tres.yaml"),
    ("--config", "broken.yaml"),
    ("--config", "absent.yaml"),
    ("--prices", "absent.yaml"),
    ("--prices", "broken.yaml"),
    ("--prices", "prices.yaml", "--candidate", "openai:m", "--base-url", "http://127.0.0.1:9/v1"),
    ("--max-usd", "1", "--candidate", "openai:m", "--base-url", "http://127.0.0.1:9/v1"),
    ("--candidate", "openai:m", "--base-url", "no-address"),
    ("--turns", "0"),
    ("--deadline", "-1"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the refused commands name, from which modules can be imported."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "model").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


@pytest.mark.parametrize("verb", ["simulate", "evaluate"])
@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_run_that_is_refused_leaves_no_file(words: tuple[str, ...], verb: str, here: Path, cli) -> None:
    candidate = () if "--candidate" in words or verb == "simulate" else ("--candidate", "world:blind")
    count = () if verb == "simulate" else ("--limit", "1")
    before = names(here)
    ended = cli(verb, "new.db", *count, *candidate, *words)
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert ended.err.splitlines()[-1].startswith("interalign: ")
    assert names(here) == before


@pytest.mark.parametrize("option", ["--personas", "--cases"])
@pytest.mark.parametrize("file", ["absent.jsonl", "bad.jsonl", "mine.jsonl", "prices.yaml", "model"])
def test_a_run_of_personas_that_cannot_be_used_leaves_no_file(file: str, option: str, here: Path, cli) -> None:
    verb = ("simulate",) if option == "--personas" else ("evaluate", "--candidate", "world:blind")
    before = names(here)
    assert cli(verb[0], "new.db", *verb[1:], option, file).code == 2
    assert names(here) == before


@pytest.mark.parametrize(
    "words",
    [
        ("judge", "absent.db", "--judge", "world:judge"),
        ("report", "absent.db"),
        ("view", "absent.db"),
        ("view", "absent.db", "--export", "page.html"),
        ("export", "absent.db", "--format", "sft", "--out", "rows.jsonl"),
        ("simulate", "absent.db", "--fork", "new.db"),
        ("evaluate", "absent.db", "--candidate", "world:blind", "--fork", "new.db"),
        ("simulate", "new.db", "--dry-run", *SMALL),
    ],
    ids=" ".join,
)
def test_a_command_that_only_looks_makes_no_run(words: tuple[str, ...], here: Path, cli) -> None:
    before = names(here)
    assert cli(*words).code == (0 if "--dry-run" in words else 2)
    assert names(here) == before


@pytest.mark.parametrize("words", [("--candidate", "hf:/no/such"), ("--candidate", "world:nobody"), ("--turns", "0")])
def test_a_fork_that_is_refused_leaves_no_copy_and_the_run_as_it_was(words: tuple[str, ...], here: Path, cli) -> None:
    api.simulate(here / "run.db", trees=1, turns=1)
    before, content = names(here), (here / "run.db").read_bytes()
    assert cli("simulate", "run.db", *SMALL, *words, "--fork", "new.db").code == 2
    assert names(here) == before
    assert (here / "run.db").read_bytes() == content


def test_a_model_that_cannot_be_loaded_costs_no_call_of_another(here: Path, cli) -> None:
    with fault_server.serving() as server:
        words = ("--user", "openai:m", "--base-url", server.url, "--candidate", "hf:/no/such")
        assert cli("simulate", "new.db", *SMALL, *words).code == 2
        assert server.asked == []
    assert not (here / "new.db").exists()


def test_a_run_that_is_refused_on_what_it_has_begun_keeps_what_it_paid_for(here: Path, cli) -> None:
    api.simulate(here / "run.db", trees=1, turns=1)
    assert cli("judge", "run.db", "--judge", "hf:/no/such").code == 2
    with Store.open(here / "run.db") as store:
        assert store.count_trees() == {"done": 1}


def test_waiting_ends_when_the_run_is_stopped_and_with_what_the_work_raises(tmp_path: Path) -> None:
    async def broken() -> None:
        raise OSError("no such folder")

    async def stopped(store: Store) -> None:
        ledger = Ledger(store, concurrency=1)
        await ledger.unless_stopped(asyncio.sleep(0))
        with pytest.raises(OSError, match="no such folder"):
            await ledger.unless_stopped(broken())
        asyncio.get_running_loop().call_soon(ledger.stop, "enough")
        with pytest.raises(StopError, match="enough"):
            await ledger.unless_stopped(asyncio.Event().wait())

    with Store.create_or_open(tmp_path / "run.db") as store:
        asyncio.run(stopped(store))
