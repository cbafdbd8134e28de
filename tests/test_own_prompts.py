"""The user's own wording: prompts, rubric and system message, as a real server is asked and as rows are exported."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calls_seen import calls_of
from loopback import Server, completion, serving

import interalign as ia
from interalign import api
from interalign.agents.own_prompts import read_prompts, shown_by_version
from interalign.agents.templates import builtin_prompts, content_hash
from interalign.config import SimulationSettings

MODEL = "openai:m"
PROMPTS = builtin_prompts()
SCORE = "Rate it for {{ persona.profile[0] }}: {{ message }} / {{ reply | quoted }}\nEnd with `Score: N`."


def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    last = body["messages"][-1]["content"]
    ends = {"`Verdict: A`": "Verdict: A", "`Score: N`": f"Score: {1 + len(last) % 5}"}
    return completion(next((said for mark, said in ends.items() if mark in last), f"I say {len(last)}."))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with serving(answer) as served:
        monkeypatch.setenv("OPENAI_BASE_URL", served.url)
        yield served


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a file below the test's folder; its name."""

    def to(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return to


def read(**settings: Any) -> Any:
    return read_prompts(SimulationSettings.model_validate({"judge": MODEL, "user": MODEL, **settings}), None)


def exported(fmt: str) -> list[dict[str, Any]]:
    ia.export("run.db", "rows.jsonl", format=fmt)
    return [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]


def test_what_a_prompt_is_given_is_what_the_built_in_versions_show() -> None:
    shown = {name: shown_by_version(name)[-1] for name in builtin_prompts("v1").sources}
    assert shown == {
        "again_compare": {"message"},
        "again_score": {"message"},
        "again_text": {"message"},
        "candidate_hint": {"hint", "message"},
        "inducer": {"message"},
        "judge_compare": {"first", "message", "persona", "second"},
        "judge_score": {"message", "persona", "reply"},
        "user": {"persona"},
        "user_begin": set(),
        "user_end": {"end_mark"},
    }


def test_a_run_without_own_wording_records_the_hashes_of_its_prompts_and_nothing_more(tmp_path: Path) -> None:
    ia.simulate(tmp_path / "run.db", trees=1, turns=1)
    with ia.open_run(tmp_path / "run.db") as run:
        identity = run.run.identity
    others = ("persona_", "audit_", "judge_aspects", "again_aspects", "judge_list", "again_list")
    of_talks = {name: each for name, each in PROMPTS.hashes.items() if not name.startswith(others)}
    assert identity["prompts"] == of_talks
    assert identity.keys().isdisjoint({"own_prompts", "rubric", "system"})


def test_a_role_is_asked_with_the_prompt_of_the_users_folder(server: Server, write) -> None:
    write("mine/judge_score.jinja", SCORE)
    settings = {"judge": MODEL, "trees": 1, "turns": 1, "judging": "score", "prompts": "mine"}
    ia.simulate("run.db", **settings)
    asked = [body["messages"][-1]["content"] for body in server.asked]
    assert len(asked) == 2
    assert all(text.startswith("Rate it for I ") and text.endswith("End with `Score: N`.") for text in asked)
    assert ia.simulate("run.db", **settings).calls == 0


def test_a_changed_prompt_is_a_changed_setting_and_says_which(server: Server, write, cli) -> None:
    command = [
        "simulate",
        "run.db",
        "--judge",
        MODEL,
        "--trees",
        "1",
        "--turns",
        "1",
        "--judging",
        "score",
        "--prompts",
        "mine",
    ]
    write("mine/judge_score.jinja", SCORE)
    assert cli(*command).code == 0
    write("mine/judge_score.jinja", SCORE + " Now.")
    refused = cli(*command)
    assert refused.code == 2
    was, now = content_hash(SCORE), content_hash(SCORE + " Now.")
    assert f"(changed: prompts.judge_score {was} -> {now})" in refused.err
    refused = cli(*command[:-2])
    assert f"(changed: prompts.judge_score {was} -> {PROMPTS.hashes['judge_score']})" in refused.err
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "judge.jinja",
            "x",
            "'judge.jinja' is no prompt; there are again_aspects.jinja, again_compare.jinja",
        ),
        ("notes.txt", "x", "'notes.txt' is no prompt"),
        ("user.jinja", "{{ persnoa.profile }}", "there is no 'persnoa'; this prompt is given persona; did you mean"),
        ("user.jinja", "{{ persona }} {{ message }}", "there is no 'message'; this prompt is given persona"),
        ("user_begin.jinja", "{{ persona }}", "there is no 'persona'; this prompt is given no variable at all"),
        ("user.jinja", "{{ persona.nmae }}", "cannot be filled in ("),
        ("user.jinja", "{{ persona.profile | qouted }}", "line 1: No filter named 'qouted'."),
        ("user.jinja", "{{ persona.profile[7] }}", "cannot be filled in ("),
        ("user.jinja", "{% include 'user.jinja' %}{{ persona }}", "cannot be filled in ("),
        ("user.jinja", "{{ persona.profile / 0 }}", "cannot be filled in ("),
        ("user.jinja", "{% include 'more.jinja' %}{{ persona }}", "cannot be filled in (more.jinja)"),
        ("user.jinja", "a\nb\n{{ persona", "line 3: unexpected end of template"),
        ("user.jinja", "{% if persona %}", "line 1: Unexpected end of template."),
        ("user.jinja", " \n", "is empty"),
        ("user.jinja", "{# {{ persona }} #}", "nothing is left of it when it is filled in"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_in_one_line_before_anything_is_asked(
    server: Server, write, cli, name: str, text: str, said: str
) -> None:
    write(f"mine/{name}", text)
    refused = cli("simulate", "run.db", "--user", MODEL, "--judge", MODEL, "--prompts", "mine")
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.count("\n") == 1
    assert server.asked == []
    assert not Path("run.db").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompts", "none"], "--prompts none: no such folder"),
        (["--prompts", "empty"], "--prompts empty: nothing in it; there are again_aspects.jinja"),
        (["--rubric", "none"], "--rubric none: cannot be read"),
        (["--rubric", "empty"], "--rubric empty: cannot be read"),
        (["--rubric", "blank.txt"], "--rubric blank.txt: is empty"),
        (["--rubric", "latin.txt"], "--rubric latin.txt: cannot be read as UTF-8 text"),
        (["--system", ""], "--system: is empty"),
        (["--system", " "], "--system: is empty"),
        (["--system", "@none"], "--system none: cannot be read"),
        (["--system", "@blank.txt"], "--system blank.txt: is empty"),
        (
            ["--prompts", "mine", "--rubric", "rubric.txt"],
            "judge_score.jinja: has no place for the --rubric; write {{ ",
        ),
    ],
)
def test_wording_that_cannot_be_read_is_refused_by_name(server: Server, write, cli, options, said) -> None:
    Path("empty").mkdir()
    write("blank.txt", " \n")
    write("rubric.txt", "Warmth.")
    write("mine/judge_score.jinja", SCORE)
    Path("latin.txt").write_bytes(b"caf\xe9")
    for command in ("simulate", "evaluate"):
        refused = cli(command, "run.db", "--candidate", "world:blind", "--judge", MODEL, *options)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert said in refused.err
        assert not Path("run.db").exists()


@pytest.mark.parametrize(
    ("name", "text", "left_out"),
    [
        ("user", "Be nice.", "persona"),
        ("judge_compare", "{{ persona }} {{ first }} Verdict: A", "message, second"),
        ("inducer", "What do you know?", "conversation"),
        ("again_text", "Again!", "message"),
        ("user_begin", "Go.", ""),
    ],
)
def test_a_prompt_that_leaves_out_what_it_should_show_is_told(write, tmp_path, caplog, name, text, left_out) -> None:
    write(f"mine/{name}.jinja", text)
    read(prompts=str(tmp_path / "mine"), inducer=MODEL)
    file = tmp_path / "mine" / f"{name}.jinja"
    assert caplog.messages == ([f"--prompts {file}: does not show {left_out}"] if left_out else [])


@pytest.mark.parametrize(
    ("name", "shown", "line"),
    [("judge_compare", "{{ first }} {{ second }}", "Verdict:"), ("judge_score", "{{ reply }}", "Score:")],
)
def test_a_judge_prompt_that_does_not_ask_for_its_last_line_is_told(
    write, tmp_path, caplog, name: str, shown: str, line: str
) -> None:
    write(f"mine/{name}.jinja", "{{ persona }} {{ message }} " + shown)
    read(prompts=tmp_path / "mine")
    (told,) = caplog.messages
    assert f"{name}.jinja: does not ask for a last line `{line} ...`, without which" in told


def test_hidden_files_and_a_byte_order_mark_do_no_harm(write, tmp_path: Path) -> None:
    write("mine/.DS_Store", "x")
    write("mine/user_begin.jinja", "\ufeffGo on.\r\n")
    assert read(prompts=tmp_path / "mine").render("user_begin") == "Go on."


@pytest.mark.parametrize("judging", ["compare", "score"])
def test_a_rubric_stands_in_the_judges_prompt_where_the_built_in_criteria_stood(server, write, judging) -> None:
    write("rubric.txt", "{{ Warmth }} first.\nThen brevity.\n")
    ia.simulate("run.db", judge=MODEL, trees=1, turns=1, judging=judging, rubric="rubric.txt")
    for body in server.asked:
        text = body["messages"][-1]["content"]
        assert "by these criteria:\n| {{ Warmth }} first.\n| Then brevity.\n\n" in text
        assert "in content and in style" not in text
    assert len(server.asked) == 2


def test_an_own_judge_prompt_shows_the_rubric_where_it_wants_to(write, tmp_path: Path) -> None:
    text = SCORE + "{% if rubric %} By: {{ rubric }}{% endif %}"
    write("mine/judge_score.jinja", text)
    values = {"persona": {"profile": ["p"]}, "message": "m", "reply": "r"}
    folder = tmp_path / "mine"
    assert not read(prompts=folder).render("judge_score", **values).endswith("By: Warmth.")
    given = read(prompts=folder, rubric=tmp_path / write("rubric.txt", "Warmth.\n"))
    assert given.render("judge_score", **values).endswith("Score: N`. By: Warmth.")


def test_a_tree_is_judged_again_with_the_rubric_and_the_prompts_of_its_run(server: Server, write, cli) -> None:
    write("rubric.txt", "Warmth.")
    write("mine/judge_compare.jinja", PROMPTS.sources["judge_score"].replace("{{ reply", "{{ first") + "{{ rubric }}")
    own = {"prompts": "mine", "rubric": "rubric.txt"}
    ia.simulate("run.db", judge=MODEL, trees=1, turns=1, **own)
    Path("rubric.txt").unlink()
    before = sorted(body["messages"][-1]["content"] for body in server.asked)
    api.judge("run.db", judge="openai:other")
    assert sorted(body["messages"][-1]["content"] for body in server.asked[len(before) :]) == before
    refused = cli("judge", "run.db", "--judge", "world:judge")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--prompts with judge_compare.jinja: world:judge reads the built-in wording only" in refused.err


@pytest.mark.parametrize(
    ("seat", "files", "rubric"),
    [
        ("user", ["user"], None),
        ("user", ["user_begin"], None),
        ("inducer", ["inducer"], None),
        ("candidate", ["candidate_hint"], None),
        ("judge", ["judge_compare"], None),
        ("judge", [], "rubric.txt"),
    ],
)
def test_the_worlds_roles_refuse_other_words_than_those_they_read(write, tmp_path, seat, files, rubric) -> None:
    for name in files:
        write(f"mine/{name}.jinja", PROMPTS.sources[name] + " ")
    write("rubric.txt", "Warmth.")
    seats = dict.fromkeys(("user", "inducer", "candidate", "judge"), MODEL)
    own = {"prompts": tmp_path / "mine" if files else None, "rubric": rubric and tmp_path / rubric}
    read(**seats, **own)
    world = "world:oracle" if seat == "candidate" else f"world:{seat}"
    with pytest.raises(ia.ConfigError, match=rf"{world} reads the built-in wording only; .* --{seat}$"):
        read(**{**seats, seat: world}, **own)


@pytest.mark.parametrize(
    ("given", "sent"),
    [("Be warm.", "Be warm."), ("@system.txt", "Be {{ brief }}.\n\nAnd kind."), ("@@all", "@all"), ("a@b", "a@b")],
)
def test_the_system_message_comes_first_in_the_candidates_requests_and_nowhere_else(
    server: Server, write, given: str, sent: str
) -> None:
    write("system.txt", "Be {{ brief }}.\n\nAnd kind.\n")
    ia.simulate("run.db", candidate=MODEL, trees=1, turns=2, system=given)
    calls = calls_of("run.db")
    assert {call.role for call in calls} == {"user", "inducer", "candidate", "judge"}
    for call in calls:
        first = call.messages[0]
        assert (first == ia.Message(role="system", content=sent)) == (call.role == "candidate")
    assert all(body["messages"][0] == {"role": "system", "content": sent} for body in server.asked)


def test_the_system_message_is_the_first_of_every_exported_conversation(server: Server) -> None:
    ia.simulate("run.db", candidate="world:average", trees=4, turns=3, branch=3, system="Be warm.")
    system = {"role": "system", "content": "Be warm."}
    columns = {"dpo": ["prompt"], "grpo": ["prompt"], "kto": ["prompt"], "listwise": ["prompt"], "sft": ["messages"]}
    for fmt, names in {**columns, "messages": ["messages"], "rm": ["chosen", "rejected"]}.items():
        rows = exported(fmt)
        assert rows, fmt
        for row in rows:
            for name in names:
                assert [row[name][0], row[name][1]["role"]] == [system, "user"]
    assert all(row["chosen"][0]["role"] == "assistant" for row in exported("dpo"))


def test_an_exported_prompt_is_what_the_candidate_was_sent(server: Server) -> None:
    ia.simulate("run.db", candidate=MODEL, inducer="none", trees=2, turns=2, system="Be warm.")
    sent = [body["messages"] for body in server.asked]
    assert all(row["messages"][:-1] in sent for row in exported("messages"))


def test_a_world_candidate_says_the_same_with_a_system_message_as_without(tmp_path: Path) -> None:
    settings = {"trees": 2, "turns": 3, "candidate": "world:attentive"}
    ia.simulate(tmp_path / "with.db", **settings, system="Be warm.")
    ia.simulate(tmp_path / "without.db", **settings)
    said = [[call.reply for call in calls_of(tmp_path / name, "candidate")] for name in ("with.db", "without.db")]
    assert sorted(said[0]) == sorted(said[1])


def test_a_plug_in_candidate_is_told_the_system_message_and_nothing_where_there_is_none() -> None:
    ask = ia.CandidateAsk(at=ia.At(tree="t", node="1", seed=1), transcript=())
    assert "system" not in ask.model_dump()
    assert ask.model_copy(update={"system": "Be warm."}).model_dump()["system"] == "Be warm."


@pytest.mark.parametrize("option", ["system", "rubric"])
def test_changed_words_are_told_by_their_hash_on_one_line(server: Server, write, cli, option: str) -> None:
    run = ["simulate", "run.db", "--judge", MODEL, "--trees", "1", "--turns", "1", f"--{option}"]
    at = "@" if option == "system" else ""
    assert cli(*run, at + write("a.txt", "One.\nTwo.")).code == 0
    asked = len(server.asked)
    refused = cli(*run, at + write("b.txt", "One.\nThree."))
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"(changed: {option} {content_hash('One.' + chr(10) + 'Two.')} -> " in refused.err
    assert cli(*run[:-1], "--dry-run").code == 2
    assert cli(*run, at + "a.txt", "--dry-run").code == 0
    assert cli(*run, at + write("moved.txt", "One.\nTwo.\n")).code == 0
    assert len(server.asked) == asked


def test_evaluate_and_yaml_take_the_same_settings(server: Server, write) -> None:
    write("rubric.txt", "Warmth.")
    write(
        "eval.yaml", f"candidate: {MODEL}\njudge: {MODEL}\nrubric: rubric.txt\nsystem: Be warm.\nlimit: 1\nturns: 2\n"
    )
    ia.evaluate("run.db", config=Path("eval.yaml"))
    asked = [body["messages"] for body in server.asked]
    assert sum(messages[0]["content"] == "Be warm." for messages in asked) == 2
    assert sum("by these criteria:\n| Warmth.\n" in messages[-1]["content"] for messages in asked) == 2


def test_the_page_of_the_run_shows_the_words_and_their_hashes(server: Server, write, tmp_path: Path) -> None:
    write("rubric.txt", "Warmth & brevity.")
    write("mine/judge_score.jinja", "{{ rubric }} {{ persona }} {{ message }} {{ reply }} `Score: N` as I like it")
    own = {"prompts": "mine", "rubric": "rubric.txt", "system": "Be warm."}
    ia.simulate("run.db", judge=MODEL, trees=1, turns=1, **own)
    api.view_export("run.db", "page.html")
    page = Path("page.html").read_text()
    for shown in ("Be warm.", content_hash("Be warm."), "Warmth &amp; brevity.", content_hash("Warmth & brevity.")):
        assert shown in page
    assert "as I like it" in page
