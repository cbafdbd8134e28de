"""A persona pool by self-generation: every item explained, the same at any concurrency and after a kill."""

import json
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, serving

from interalign import api
from interalign.agents.numbered_people import read_people
from interalign.config import Runtime
from interalign.errors import ConfigError
from interalign.nearest_text import NearestText
from interalign.people import load_personas, people
from interalign.personas import dump_personas
from interalign.run.generation import ITEMS
from interalign.similarity import embedded
from interalign.store import Store

WORLD = "world:personas"
TWO = ("Keeps bees in Graz.", "Is 40 and sells maps.")


def read(text: str, **more: Any) -> list[tuple[tuple[str, ...], str]]:
    return [tuple(entry) for entry in read_people(text, fewest=2, most=2, **more)]


def test_people_are_read_one_by_one_and_a_bad_one_costs_nobody_else_its_place() -> None:
    good = "Person 1\n- Keeps bees in Graz.\n- Is 40 and sells maps."
    reply = f"Here they are:\n\n{good}\n\nPerson 2\nNobody.\nPerson 3\n* A.\n* B.\n\nEnjoy!"
    assert read(reply) == [
        (TWO, ""),
        ((), "holds a line without a dash (Nobody.)"),
        (("A.", "B."), ""),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        "Person 1\n- Keeps bees in Graz.\n- Is 40 and sells maps.",
        "**Person 1**\n* Keeps bees in Graz.\n* Is 40 and sells maps.",
        "### Person 1:\n1. Keeps bees in Graz.\n2. Is 40 and sells maps.",
        "```\nPerson 1\n- Keeps bees in Graz.\n- Is 40 and sells maps.\n```",
        "1.\n\u2022 Keeps bees in Graz.\n\u2022 Is 40 and sells maps.\n\nLet me know if you want more.",
        '- **Person 1**: "Keeps bees in Graz. Is 40 and sells maps."',
        "1. **Persona 1:** Keeps bees in Graz. Is 40 and sells maps.",
        "### Person 1: Ida Berg\n- Keeps bees in Graz.\n- Is 40 and sells maps.",
        "Person 1 \u2013 Ida\n* Keeps bees in Graz.\n* Is 40 and sells maps.",
        '[["Keeps bees in Graz.", "Is 40 and sells maps."]]',
        '```json\n[{"facts": ["Keeps bees in Graz.", "Is 40 and sells maps."]}]\n```',
    ],
)
def test_harmless_markup_around_a_person_is_read_over(reply: str) -> None:
    assert read(reply) == [(TWO, "")]


def test_people_on_one_line_each_are_read_one_by_one() -> None:
    reply = '- **Person 1**: "Keeps bees in Graz. Is 40 and sells maps."\n- **Person 2**: Sails on Sundays; hates soup.'
    assert read(reply) == [(TWO, ""), (("Sails on Sundays", "hates soup."), "")]


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("Person 1\n- A.\n- B.\n- C.\n- D.\n- E.", "has 5 lines where 2 were asked for"),
        ("Person 1", "has 0 lines where 2 were asked for"),
        ("Person 1\n- A.\n- a.", "says the same twice"),
        ("Person 1\n- A.\n- ...", "holds a line without a word (...)"),
        ("Person 1\n- A.\nand B.", "holds a line without a dash (and B.)"),
        ("- A.\n- B.", "has no heading such as `Person 1`"),
        ("Person 1\n- A.\n- " + "b" * 401, f"holds a line of 401 characters ({'b' * 59}\u2026)"),
        ("Person 1\n- A.\n- \ud800b", "holds half a character (a lone surrogate)"),
        ("[7]", "is no list of texts (7)"),
    ],
)
def test_what_is_not_in_the_form_asked_for_is_named(reply: str, fault: str) -> None:
    assert [said for _, said in read(reply)] == [fault]


@pytest.mark.parametrize("reply", ["", "I cannot do that.", "[", "{}"])
def test_a_reply_without_people_has_none(reply: str) -> None:
    assert read(reply) == []


def test_of_a_reply_that_was_cut_the_last_person_is_not_taken() -> None:
    reply = "Person 1\n- A.\n- B.\nPerson 2\n- C.\n- D"
    assert read(reply, cut=True) == [(("A.", "B."), ""), (("C.", "D"), "was cut at the length limit")]


def test_cosines_are_those_of_tfidf_fitted_on_what_is_held_and_the_batch() -> None:
    held, new = ["keeps bees in Graz", "sells maps"], ["keeps maps in Graz", "plays the oboe", "plays the oboe"]
    rows = embedded([*held, *new]).rows
    expected = float((rows[0] @ rows[2].T).toarray()[0, 0])
    found = NearestText(held, 0.9).offer(new, most=3)
    assert [(kept, near.text) for kept, near in found] == [
        (True, "keeps bees in Graz"), (True, "keeps bees in Graz"), (False, "plays the oboe"),
    ]  # fmt: skip
    assert found[0][1].cosine == pytest.approx(expected, abs=1e-6)
    assert found[2][1].cosine == pytest.approx(1.0)


def items(run: Path) -> list[dict[str, Any]]:
    with Store.open(run) as store:
        notes = [note for tree in store.judged_trees() for note in tree.annotations if note.name == ITEMS]
    return [item for note in notes for item in note.value]


def test_the_same_pool_comes_out_at_any_concurrency_and_a_larger_one_begins_with_the_same(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.jsonl", "many.jsonl")]
    for out, concurrency in zip(files, (1, 16), strict=True):
        api.personas_by_model(out, model=WORLD, n=200, per_profile=2, runtime=Runtime(concurrency=concurrency))
    assert files[0].read_bytes() == files[1].read_bytes()
    more = api.personas_by_model(files[0], model=WORLD, n=300, per_profile=2)
    pools = (load_personas(str(file), split="train", n=0, seed=0) for file in (files[1], files[0]))
    first, second = (tuple(persona.profile for persona in pool[:100]) for pool in pools)
    assert first == second
    assert len(more.personas) == 300
    anew = api.personas_by_model(tmp_path / "anew.jsonl", model=WORLD, n=300, per_profile=2)
    assert anew.personas == more.personas


def test_no_two_of_a_pool_are_alike_and_every_item_dropped_says_why(tmp_path: Path) -> None:
    out = tmp_path / "pool.jsonl"
    found = api.personas_by_model(out, model=WORLD, n=300)
    assert (len(found.personas), found.shortfall) == (300, "")
    assert len({persona.profile for persona in found.personas}) == 30
    every = items(api.calls_of_pool(out))
    assert sum(item["kept"] for item in every) == 30 + 30
    for item in every:
        assert item["kept"] is ("reason" not in item)
        if item.get("reason") == "is too much like another one":
            assert item["cosine"] > 0.6
            assert item["nearest"]


@pytest.mark.slow
def test_killed_at_any_moment_a_generation_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    words = ["personas", "generate", "--model", WORLD, "--n", "600", "--per-profile", "2", "--out"]
    command = [sys.executable, "-c", "from interalign.cli import main; main()", *words]
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    subprocess.run([*command, whole], check=True, capture_output=True)
    rng = random.Random(0)
    run = api.calls_of_pool(killed)
    for _ in range(4):
        process = subprocess.Popen([*command, killed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        calls = rng.randrange(1, 30)
        while process.poll() is None and committed(run) < calls:
            with suppress(subprocess.TimeoutExpired):  # looks again soon, without taking a core
                process.wait(timeout=0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, killed], check=True, capture_output=True)
    assert killed.read_bytes() == whole.read_bytes()


def committed(run: Path) -> int:
    try:
        with Store.open(run) as store:
            return sum(use.calls for use in store.usage().values())
    except ConfigError:  # not made yet
        return 0


def flawed() -> Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]:
    """A server that writes people: of 20 three are broken, six nearly repeat an example, the others are new."""
    numbers, lock = Counter[str](), threading.Lock()

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        prompt = body["messages"][0]["content"]
        kind = "profile" if "facts" in prompt else "personality"
        examples = [part.strip().splitlines()[1:] for part in re.split(r"\n(?=Person \d+\n)", prompt)[1:]]
        examples[-1] = [line for line in examples[-1] if line.startswith("- ")]
        said = []
        for number in range(1, 21):
            with lock:
                numbers[kind] += 1
                unique = numbers[kind]
            lines = [f"- Likes {kind}{unique}x{place} and{unique}y{place}." for place in range(4)]
            if number % 20 in (3, 9, 15):
                lines = ["nothing that could be read"]
            elif number % 20 in (2, 5, 8, 11, 14, 17):
                lines = [*examples[number % 5][1:], examples[number % 5][0]]
            said.append("\n".join([f"Person {number}", *lines]))
        return completion("\n\n".join(said))

    return answer


def test_a_server_with_broken_items_and_repeats_gives_a_whole_pool_with_every_drop_explained(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.jsonl"
    chosen = [p.model_copy(update={"profile": p.profile[:4]}) for p in people(0)[:20]]
    seeds.write_text("".join(dump_personas(chosen)))
    out = tmp_path / "pool.jsonl"
    with serving(flawed()) as server:
        found = api.personas_by_model(
            out, model="openai:writer", n=400, per_profile=4, seeds=str(seeds),
            runtime=Runtime(base_url=server.url, concurrency=1),
        )  # fmt: skip
    assert {body["temperature"] for body in server.asked} == {0.8}
    assert {body["max_tokens"] for body in server.asked} == {
        4096
    }  # 20 people are longer than `hf:` and servers allow by default
    assert len(found.personas) == 400
    assert len({persona.profile for persona in found.personas}) == 100
    every = items(api.calls_of_pool(out))
    assert len(every) == 20 * len(server.asked)
    reasons = Counter(item.get("reason", "kept") for item in every)
    assert reasons["kept"] == 100 + 28
    assert reasons["holds a line without a dash (nothing that could be read)"] >= 3 * 10
    assert reasons["is too much like another one"] >= 6 * 8
    assert set(reasons) == {
        "kept", "holds a line without a dash (nothing that could be read)", "is too much like another one",
        "came when the pool was complete",
    }  # fmt: skip


def test_a_model_that_has_no_more_to_give_ends_with_what_there_is_and_says_so(cli: Any, tmp_path: Path) -> None:
    dry = f"{WORLD}?duplicates=1&broken=0"
    ended = cli("personas", "generate", "--model", dry, "--n", "50", "--out", "pool.jsonl")
    assert ended.code == 2
    assert (
        "no persona could be made: only 0 of 5 profiles: of what the last calls were asked for, 0.0% was kept"
        in ended.err
    )
    assert not Path("pool.jsonl").exists()


def test_personalities_that_run_out_are_told_and_the_pool_is_written_all_the_same(cli: Any, tmp_path: Path) -> None:
    wanted = ("--n", "20", "--per-profile", "2", "--personalities", "4000", "--threshold", "0.45")
    ended = cli("personas", "generate", "--model", WORLD, *wanted, "--out", "pool.jsonl")
    assert ended.code == 1
    assert re.search(r"only \d+ of 4,000 personalities: .* \(per ten calls: .*\). Dropped: ", ended.err)
    assert len(Path("pool.jsonl").read_text().splitlines()) == 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", "0.5"), "--threshold is for --model MODEL; the world's are not written"),
        (("--max-tokens", "0"), "--max-tokens is for --model MODEL; the world's are not written"),
        (("--model", WORLD, "--heldout"), "--heldout is for --model world; divide what a model wrote"),
        (("--model", "world:persona"), "there is no 'persona' in the world"),
        (("--model", WORLD, "--embedding", "tf"), "--embedding tf: expected `tfidf` or `st:NAME_OR_FOLDER`"),
        (("--model", WORLD, "--seeds", "none.jsonl"), "none.jsonl: cannot be read"),
        (("--model", "openai:x", "--max-usd", "1"), "--prices"),
    ],
)
def test_a_generation_that_cannot_work_is_refused_and_nothing_is_left(
    cli: Any, words: tuple[str, ...], said: str
) -> None:
    ended = cli("personas", "generate", "--n", "10", "--out", "pool.jsonl", *words)
    assert ended.code == 2
    assert said in ended.err
    assert not list(Path().glob("pool*"))


def test_other_settings_are_refused_in_the_file_of_a_generation_and_more_personas_are_not(cli: Any) -> None:
    words = ("personas", "generate", "--model", WORLD, "--out", "pool.jsonl")
    assert cli(*words, "--n", "20").code == 0
    assert cli(*words, "--n", "40", "--per-profile", "5").code == 0
    ended = cli(*words, "--n", "40", "--threshold", "0.5")
    assert (ended.code, "changed: threshold 0.6 -> 0.5" in ended.err) == (2, True)
    ended = cli(*words, "--n", "40", "--threshold", "0.5", "--dry-run")
    assert (ended.code, "changed: threshold 0.6 -> 0.5" in ended.err) == (2, True)


def test_a_dry_run_says_what_to_expect_and_writes_nothing(cli: Any) -> None:
    ended = cli("personas", "generate", "--model", "openai:x", "--n", "3310", "--out", "pool.jsonl", "--dry-run")
    assert ended.code == 0
    assert ended.out.startswith("Expected for 3,310 personas; nothing was asked, nothing was written.\n")
    assert re.search(r"\nwriter +openai:x +41 ", ended.out)  # 331 profiles and 70 personalities, ten of 20 kept
    assert not list(Path().glob("*"))


def test_own_prompts_ask_in_the_users_words_and_are_part_of_what_the_file_is(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/persona_profiles.jinja").write_text(
        "{{ count }} sailors, {{ lines }} facts:\n{{ examples[0][0] }}"
    )
    with serving(lambda body: completion("I will not.")) as server:
        words = ("--model", "openai:x", "--base-url", server.url, "--prompts", "mine", "--out", "pool.jsonl")
        ended = cli("personas", "generate", *words, "--n", "10")
    assert ended.code == 2
    assert any(body["messages"][0]["content"].startswith("20 sailors, 8 to 10 facts:\n") for body in server.asked)
    assert len(server.asked) == 8  # four calls of each kind show that it cannot do it


@pytest.mark.parametrize("words", ["report {}", "export {} --format sft --out x.jsonl", "judge {} --judge world:judge"])
def test_commands_for_conversations_say_that_a_persona_run_has_none(cli: Any, words: str) -> None:
    cli("personas", "generate", "--model", WORLD, "--n", "5", "--out", "pool.jsonl")
    ended = cli(*words.format("pool.jsonl.db").split())
    assert ended.code == 2
    assert "holds the calls that wrote a persona pool" in ended.err


def test_the_viewer_shows_every_call_and_why_an_item_was_dropped(cli: Any) -> None:
    cli("personas", "generate", "--model", WORLD, "--n", "50", "--out", "pool.jsonl")
    assert cli("view", "pool.jsonl.db", "--export", "pool.html").code == 0
    page = Path("pool.html").read_text()
    assert "profile-00000" in page
    assert "is too much like another one" in page


def test_the_worlds_personas_are_written_as_ever(cli: Any) -> None:
    assert cli("personas", "generate", "--n", "2", "--out", "a.jsonl").code == 0
    assert json.loads(Path("a.jsonl").read_text().splitlines()[0])["id"] == "train-0000"
    assert not Path("a.jsonl.db").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_model_writes_to_no_stream_since_its_calls_are_kept_beside_the_file(cli, more: tuple[str, ...]) -> None:
    ended = cli("personas", "generate", "--model", "world:personas", "--n", "20", "--out", "/dev/null", *more)
    assert ended.code == 2
    assert ended.err == (
        "interalign: /dev/null is no file, and the model's calls are kept in a run file beside it; name a file\n"
    )
    assert not Path("/dev/null.db").exists()
