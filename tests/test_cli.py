"""The command line: exit codes, one clear line an error, data on standard output, messages on standard error."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import fault_server
import pytest

from interalign import api
from interalign.agents.protocols import CandidateAsk, Said
from interalign.errors import FailedTreeError
from interalign.store import Store

Cli = Callable[..., "Ended"]  # noqa: F821 - conftest.Ended
SMALL = ("--trees", "2", "--turns", "2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation of two trees of two turns."""
    run = tmp_path_factory.mktemp("finished") / "run.db"
    api.simulate(run, trees=2, turns=2)
    return run


@pytest.fixture
def run_db(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished simulation in the test's folder."""
    return Path(shutil.copy(finished, tmp_path / "run.db"))


async def fails_in_the_second_tree(ask: CandidateAsk) -> Said:
    """A candidate, used as a plug-in below."""
    if ask.at.tree == "t00001":
        raise FailedTreeError("this candidate does not like the second tree")
    return Said(text="Green tea is a fine choice for the evening.")


def one_line(err: str) -> str:
    """Standard error as the one line it must be."""
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    return err[:-1]


def test_the_version_is_printed_to_standard_output(cli: Cli) -> None:
    assert cli("--version") == (0, "interalign 0.1.0\n", "")


def test_no_command_shows_the_help_and_is_wrong_usage(cli: Cli) -> None:
    ended = cli()
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: interalign" in ended.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["simulate", "r.db", "--colour", "red"], "--colour"),
        (["simulate"], "RUN.db"),
        (["simulate", "r.db", "--judging", "guess"], "'compare', 'score', 'list'"),
        (["simulate", "r.db", "--concurrency", "0"], "--concurrency"),
        (["simulate", "r.db", "--turns", "many"], "--turns"),
        (["export", "r.db", "--format", "csv", "--out", "x"], "--format"),
        (["train", "ppo", "--model", "m", "--data", "d", "--out", "o"], "is none of sft, dpo, kto"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_what_is_wrong(
    cli: Cli, tmp_path: Path, words: list[str], named: str
) -> None:
    ended = cli(*words)
    assert (ended.code, ended.out) == (2, "")
    assert named in ended.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--turns", "0"], r"turns: .*1"),
        (["--deadline", "0"], r"deadline: .*0"),
        (["--policy", "zigzag"], r"policy: 'zigzag' is none of caterpillar, full, beam:K"),
        (["--policy", "full", "--branch", "10"], r"policy full .* use fewer turns or beam:K"),
        (["--candidate", "world:nobody"], r"world:nobody: .*world:oracle"),
        (["--candidate", "two words=world:blind"], r"'two words' cannot name a candidate: .* without blanks"),
        (["--candidate", "=world:blind"], r"'' cannot name a candidate"),
        (["--candidate", "a\u202eb=world:blind"], r"'a.u202eb' cannot name a candidate: .* visible signs"),
        (["--candidate", "openai:m@http://127.0.0.1:1/v1?key=1"], r"the address of 127.0.0.1 holds a `\?` or `#`"),
        (["--candidate", "nonsense"], r"no role or model is called 'nonsense'.*`interalign roles list`"),
        (["--candidate", "a=world:blind", "--candidate", "a=world:oracle"], r"two candidates .*NAME=MODEL"),
        (["--candidate", "no.such.module:role"], r"'no.such.module:role'"),
        (["--judge", "openai:gpt-4o-mini"], r"OPENAI_API_KEY"),
        (["--config", "absent.yaml"], r"absent.yaml: .*No such file"),
        (["--personas", "absent.jsonl"], r"absent.jsonl: .*No such file"),
    ],
)
def test_settings_that_cannot_work_end_with_2_and_write_nothing(
    cli: Cli, tmp_path: Path, words: list[str], message: str
) -> None:
    ended = cli("simulate", "r.db", *words)
    assert (ended.code, ended.out) == (2, "")
    assert re.match(rf"interalign: .*{message}", one_line(ended.err))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "turns: 2\ncolour: red\n",
            "colour: no such setting; there are workers, engine, turns, user, candidate, .*, base_url, .*, max_usd",
        ),
        ("turns: many\n", "turns: expected an integer, got 'many'$"),
        ("turns: [2\n", "cannot be read as YAML .*line 2"),
        ("- turns\n", "expected `name: value` lines, got a list"),
        (
            "parameters: {judge: {extra_body: {since: 2024-01-01}}}",
            "parameters.judge.extra_body: cannot be sent as JSON",
        ),
        ("parameters: {judge: {extra_body: {x: .nan}}}", "parameters.judge.extra_body: cannot be sent as JSON"),
        ("parameters: {judge: {extra_body: {model: x}}}", "parameters.judge.extra_body: model cannot be set here"),
        ("parameters: {judge: {extra_body: {n: 3}}}", "parameters.judge.extra_body: n would pay for replies"),
        ("parameters: {judge: {temperature: .inf}}", "parameters.judge.temperature: .*finite"),
        ("baseurl: http://localhost:1/v1\n", "baseurl: no such setting; did you mean base_url\\?$"),
        ("turns: 2\n\ud800".encode("utf-8", "surrogatepass"), "cannot be read as YAML"),
    ],
)
def test_a_bad_configuration_file_is_named_with_what_is_wrong(
    cli: Cli, tmp_path: Path, yaml: str | bytes, message: str
) -> None:
    (tmp_path / "bad.yaml").write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())
    ended = cli("simulate", "r.db", "--config", "bad.yaml")
    assert ended.code == 2
    assert re.match(f"interalign: bad.yaml: {message}", one_line(ended.err))


def test_the_command_line_wins_over_the_configuration_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("turns: 2\ntrees: 1\nbranch: 3\ncandidate: world:oracle\n")
    assert cli("simulate", "r.db", "--config", "run.yaml", "--branch", "2").code == 0
    with Store.open(tmp_path / "r.db") as store:
        (tree,) = store.judged_trees()
    assert [(node.by, node.hinted) for node in tree.tree.nodes if node.turn == 1] == [
        ("user", False), ("oracle", True), ("oracle", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{not json}", "people.jsonl, line 2: not JSON"),
        ("[1]", "people.jsonl, line 2: expected a JSON object, got list"),
        ('{"personality": "calm"}', "people.jsonl, line 2: profile: "),
        ('{"profile": [], "personality": "calm"}', "people.jsonl, line 2: profile: "),
        (
            '{"profile": "I sing.", "personality": "calm"}',
            "people.jsonl, line 2: profile: expected a list of sentences",
        ),
        ('{"profile": ["I sing."], "personality": "calm", "age": 3}', "people.jsonl, line 2: age: "),
        (
            '{"id": "p1", "profile": ["I sing."], "personality": "calm"}',
            "people.jsonl, line 2: id 'p1' is already used",
        ),
    ],
)
@pytest.mark.parametrize(
    "words", [["personas", "stats", "people.jsonl"], ["simulate", "r.db", "--personas", "people.jsonl"]]
)
def test_a_bad_persona_is_named_by_file_line_and_field(
    cli: Cli, tmp_path: Path, words: list[str], row: str, message: str
) -> None:
    good = '{"id": "p1", "profile": ["I like tea."], "personality": "calm"}\n'
    (tmp_path / "people.jsonl").write_text(good + row + "\n")
    ended = cli(*words)
    assert (ended.code, ended.out) == (2, "")
    assert one_line(ended.err).startswith(f"interalign: {message}")


OPENING = [
    ["report"],
    ["view"],
    ["judge", "--judge", "world:judge"],
    ["export", "--format", "sft", "--out", "o.jsonl"],
]


@pytest.mark.parametrize("words", OPENING, ids=lambda words: words[0])
def test_a_run_that_does_not_exist_is_refused_and_not_made(cli: Cli, tmp_path: Path, words: list[str]) -> None:
    ended = cli(words[0], "absent.db", *words[1:])
    assert (ended.code, ended.out) == (2, "")
    assert "absent.db" in one_line(ended.err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [*OPENING, ["simulate"]], ids=lambda words: words[0])
def test_a_file_that_is_no_run_is_refused_and_left_alone(cli: Cli, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "notes.db").write_text("not a database " * 10)
    ended = cli(words[0], "notes.db", *words[1:])
    assert (ended.code, ended.out) == (2, "")
    assert "notes.db is not a run file (not SQLite)" in one_line(ended.err)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.db"]
    assert (tmp_path / "notes.db").read_text() == "not a database " * 10


def test_a_finished_simulation_says_what_it_did_on_standard_error(cli: Cli) -> None:
    ended = cli("simulate", "r.db", *SMALL)
    assert (ended.code, ended.out) == (0, "")
    # A turn of the paper's shape: user, inducer, two replies, and both orders before the judge.
    said = "2 of 2 trees done in r.db; 24 calls made, 0 answered from the ledger; `interalign view r.db` shows them"
    assert one_line(ended.err) == said


def test_a_finished_run_makes_no_call_when_it_is_asked_for_again(cli: Cli, run_db: Path, tmp_path: Path) -> None:
    cli("export", "run.db", "--format", "messages", "--out", "before.jsonl")
    ended = cli("simulate", "run.db", *SMALL)
    assert (ended.code, ended.err) == (0, "2 of 2 trees done in run.db; 0 calls made, 0 answered from the ledger\n")
    cli("export", "run.db", "--format", "messages", "--out", "after.jsonl")
    assert (tmp_path / "after.jsonl").read_bytes() == (tmp_path / "before.jsonl").read_bytes()


def test_other_settings_on_a_run_are_refused_with_what_changed_and_how_to_go_on(cli: Cli, run_db: Path) -> None:
    ended = cli("simulate", "run.db", *SMALL, "--seed", "7")
    assert ended.code == 2
    assert re.fullmatch(r"interalign: .*run\.db .*seed.*--fork.*", one_line(ended.err))


def test_a_fork_goes_on_with_other_settings_and_leaves_the_run_alone(cli: Cli, run_db: Path, tmp_path: Path) -> None:
    before = run_db.read_bytes()
    assert cli("simulate", "run.db", *SMALL, "--seed", "7", "--fork", "other.db").code == 0
    assert run_db.read_bytes() == before
    with Store.open(tmp_path / "other.db") as store:
        assert [(tree.seed, tree.status) for tree in store.trees()] == [(7, "done"), (7, "done")]


def test_more_trees_extend_a_run(cli: Cli, run_db: Path) -> None:
    ended = cli("simulate", "run.db", "--trees", "3", "--turns", "2")
    assert (ended.code, ended.err) == (
        0,
        "3 of 3 trees done in run.db; 12 calls made, 0 answered from the ledger; `interalign view run.db` shows them\n",
    )


def test_a_tree_that_fails_is_named_and_the_others_are_done(cli: Cli) -> None:
    candidate = f"{__name__}:{fails_in_the_second_tree.__name__}"
    ended = cli("simulate", "r.db", "--trees", "3", "--turns", "2", "--candidate", f"picky={candidate}")
    assert (ended.code, ended.out) == (1, "")
    counted, failed, advice = ended.err.splitlines()
    assert counted.startswith("2 of 3 trees done in r.db")
    assert failed.startswith("failed: t00001: ")
    assert "this candidate does not like the second tree" in failed
    assert advice == "1 trees failed; run the same command again to retry just these"


def test_a_second_process_on_a_run_ends_with_3_and_names_the_first(cli: Cli, run_db: Path) -> None:
    with Store.create_or_open(run_db):
        ended = cli("simulate", "run.db", *SMALL)
    assert (ended.code, ended.out) == (3, "")
    assert re.fullmatch(r"interalign: .*run\.db is being written by process \d+; .*", one_line(ended.err))


def test_a_run_can_be_read_while_it_is_written(cli: Cli, run_db: Path) -> None:
    with Store.create_or_open(run_db):
        assert cli("export", "run.db", "--format", "sft", "--out", "o.jsonl").code == 0


def test_an_interrupted_run_ends_with_3_and_the_same_command_finishes_it(tmp_path: Path) -> None:
    words = [Path(sys.executable).with_name("interalign"), "simulate", "r.db", "--trees", "120", "--turns", "4"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and trees_done(tmp_path / "r.db") < 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 3
    assert one_line(err) == "interalign: interrupted; what was finished is kept, run the same command again to go on"
    done = trees_done(tmp_path / "r.db")
    assert 3 <= done < 120
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, trees_done(tmp_path / "r.db")) == (0, 120), again.stderr


def trees_done(run: Path) -> int:
    """Finished trees in a run file; 0 while there is none."""
    if not run.exists():
        return 0
    with Store.open(run) as store:
        return sum(tree.status == "done" for tree in store.trees())


def test_debug_shows_where_an_error_comes_from(cli: Cli) -> None:
    ended = cli("report", "absent.db", "--debug")
    *trace, last = ended.err.splitlines()
    assert (ended.code, trace[0]) == (2, "Traceback (most recent call last):")
    assert any("run_file.py" in line for line in trace)
    assert re.match(r"interalign: .*absent\.db does not exist", last)


def test_the_exit_code_is_true_where_standard_error_takes_nothing_any_more(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("interalign")
    for words, code in ((["simulate", "r.db", *SMALL], 0), (["simulate", "r.db", "--turns", "3"], 2)):
        with Path("/dev/full").open("w") as full:
            assert subprocess.run([program, *words], cwd=tmp_path, stderr=full, check=False).returncode == code


def test_an_error_that_nobody_foresaw_is_one_line_too_and_not_taken_for_the_end_of_a_run(cli, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1122334455")
    # Nothing of ours is known to do this; the platform's own calls can.
    monkeypatch.setattr("os.fstat", lambda handle: {}["sk-canary-1122334455"])
    ended = cli("simulate", "r.db", "--trees", "1", "--turns", "1")
    monkeypatch.undo()
    assert ended.code == 3
    assert ended.err == (
        "interalign: unexpected KeyError: '(key)'; what was finished is kept. --debug shows where: please report it\n"
    )


def test_the_address_in_the_configuration_file_wins_over_the_one_in_the_environment(cli, monkeypatch) -> None:
    with fault_server.serving() as named, fault_server.serving() as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        Path("run.yaml").write_text(f"candidate: openai:m\nbase_url: {named.url}\ntrees: 1\nturns: 1\n")
        assert cli("simulate", "r.db", "--config", "run.yaml").code == 0
        assert (len(named.asked), len(other.asked)) == (2, 0)
        assert cli("simulate", "s.db", "--trees", "1", "--turns", "1", "--candidate", "openai:m").code == 0
        assert (len(named.asked), len(other.asked)) == (2, 2)


def test_an_export_writes_the_file_and_says_how_many_rows(cli: Cli, run_db: Path, tmp_path: Path) -> None:
    ended = cli("export", "run.db", "--format", "messages", "--out", "o.jsonl")
    # Two trees of two turns with two replies each: the reply not continued in turn 1 and both of turn 2 are leaves.
    assert ended == (0, "", "6 messages rows written to o.jsonl\n")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert sorted(len(row["messages"]) for row in rows) == [2, 2, 4, 4, 4, 4]


@pytest.mark.parametrize("fmt", ["sft", "dpo", "kto", "rm", "listwise"])
def test_an_export_without_rows_is_an_empty_file_and_one_line_that_says_why(cli: Cli, tmp_path: Path, fmt: str) -> None:
    cli("simulate", "single.db", "--trees", "1", "--turns", "2", "--branch", "1")
    ended = cli("export", "single.db", "--format", fmt, "--out", "o.jsonl")
    assert (ended.code, ended.out) == (0, "")
    assert re.match(r"o\.jsonl is empty: .{10,}", one_line(ended.err))
    assert (tmp_path / "o.jsonl").read_bytes() == b""


def test_an_export_by_a_judge_who_said_nothing_names_those_who_did(cli: Cli, run_db: Path) -> None:
    ended = cli("export", "run.db", "--format", "dpo", "--out", "o.jsonl", "--judge", "openai:other")
    assert ended.code == 2
    assert "'openai:other'; it has world:judge" in one_line(ended.err)


def test_an_export_to_a_folder_that_is_not_there_leaves_nothing(cli: Cli, run_db: Path, tmp_path: Path) -> None:
    ended = cli("export", "run.db", "--format", "dpo", "--out", "absent/o.jsonl")
    assert ended.code == 2
    assert "absent/o.jsonl: cannot be written" in one_line(ended.err)
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_trees_can_be_judged_again_by_another_judge(cli: Cli, run_db: Path) -> None:
    ended = cli("judge", "run.db", "--judge", "world:judge?noise=0.5")
    assert (ended.code, ended.out) == (0, "")
    # Two trees, two turns, one pair in both orders.
    assert "8 calls made" in one_line(ended.err)
    with Store.open(run_db) as store:
        assert store.judges() == ["world:judge", "world:judge?noise=0.5"]


def test_the_report_as_json_is_all_there_is_on_standard_output(cli: Cli, run_db: Path) -> None:
    ended = cli("report", "run.db", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert (found["schema"], found["run"]["name"], found["candidates"]) == (1, "run", [])


def test_an_evaluation_reports_every_candidate_by_turn(cli: Cli) -> None:
    words = ["--candidate", "world:blind", "--candidate", "best=world:oracle", "--limit", "4", "--turns", "3"]
    ended = cli("evaluate", "e.db", *words)
    assert (ended.code, ended.out) == (0, "")
    assert one_line(ended.err).startswith("8 of 8 trees done in e.db; 72 calls made")
    found = json.loads(cli("report", "e.db", "--json").out)
    assert [(one["name"], one["n_cases"], len(one["al"])) for one in found["candidates"]] == [
        ("blind", 4, 3),
        ("best", 4, 3),
    ]
    assert found["candidates"][1]["al_mean"] > found["candidates"][0]["al_mean"]


def test_the_html_report_is_one_file(cli: Cli, run_db: Path, tmp_path: Path) -> None:
    ended = cli("report", "run.db", "--html", "r.html")
    assert ended == (0, "", "report written to r.html\n")
    assert "<html" in (tmp_path / "r.html").read_text()


def test_a_simulation_does_not_go_on_in_the_file_of_an_evaluation(cli: Cli) -> None:
    cli("evaluate", "e.db", "--candidate", "world:blind", "--limit", "1", "--turns", "1")
    ended = cli("simulate", "e.db", *SMALL)
    assert ended.code == 2
    assert "holds a evaluation" in one_line(ended.err) or "holds an evaluation" in one_line(ended.err)


@pytest.mark.parametrize("name", ["turn", "tree", "personas"])
def test_a_graph_is_printed_as_mermaid(cli: Cli, name: str) -> None:
    ended = cli("graph", name)
    assert (ended.code, ended.err) == (0, "")
    assert "graph TD;" in ended.out
    assert "__start__" in ended.out


def test_the_turn_graph_shows_who_speaks_when(cli: Cli) -> None:
    drawn = cli("graph").out
    speaking = (
        "user",
        "after_user",
        "inducer",
        "before_candidates",
        "candidates",
        "after_candidates",
        "judge",
        "annotate",
    )
    for arrow in (f"{before} --> {after}" for before, after in pairwise(speaking)):
        assert f"\t{arrow};" in drawn


def test_an_unknown_graph_is_answered_with_the_known_ones(cli: Cli) -> None:
    ended = cli("graph", "moebius")
    assert (ended.code, ended.out) == (2, "")
    assert one_line(ended.err) == "interalign: no graph is called 'moebius'; there are turn, tree, personas"


def test_roles_are_listed_with_what_they_are(cli: Cli) -> None:
    ended = cli("roles", "list")
    assert (ended.code, ended.err) == (0, "")
    names = [line.partition("\t")[0].partition("[")[0] for line in ended.out.splitlines()]
    world = ["user", "inducer", "judge", "personas", "blind", "average", "attentive", "oracle"]
    assert names[:8] == [f"world:{name}" for name in world]
    assert "beam:K\tbranching policy, built in\n" in ended.out
    assert "sft\texport format, built in\n" in ended.out


def test_a_role_is_checked_by_its_name(cli: Cli) -> None:
    assert cli("roles", "check", "world:oracle").out.startswith("world:oracle: a chat model")
    ended = cli("roles", "check", f"{__name__}:{fails_in_the_second_tree.__name__}")
    assert (ended.code, ended.err) == (0, "")
    assert "can sit as user, inducer or candidate" in ended.out
    assert cli("roles", "check", "world:nobody").code == 2


def test_personas_are_generated_counted_and_split_by_profile(cli: Cli, tmp_path: Path) -> None:
    assert cli("personas", "generate", "--n", "20", "--out", "p.jsonl") == (0, "", "20 personas written to p.jsonl\n")
    stats = dict(line.split("\t") for line in cli("personas", "stats", "p.jsonl").out.splitlines())
    assert (stats["personas"], stats["profiles"]) == ("20", "20")
    ended = cli("personas", "split", "p.jsonl", "--train", "t.jsonl", "--heldout", "h.jsonl", "--share", "0.25")
    counts = [len((tmp_path / name).read_text().splitlines()) for name in ("t.jsonl", "h.jsonl")]
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith(f"{counts[0]} personas written to t.jsonl, {counts[1]} to h.jsonl\n")
    assert "cosine of the held-out profiles to the nearest training profile: mean 0." in ended.err
    assert min(counts) > 0
    rows = [(tmp_path / name).read_text().splitlines() for name in ("p.jsonl", "t.jsonl", "h.jsonl")]
    assert sorted(rows[1] + rows[2]) == sorted(rows[0])


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
def test_personas_of_ones_own_are_imported_with_ids(mark: str, cli: Cli, tmp_path: Path) -> None:
    row = '{"profile": ["I like tea."], "personality": "calm"}'
    (tmp_path / "mine.jsonl").write_text(f"{mark}{row}\n\n", encoding="utf-8")
    assert cli("personas", "import", "mine.jsonl", "--out", "p.jsonl").err == "1 personas written to p.jsonl\n"
    (line,) = (tmp_path / "p.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert re.fullmatch(r"p[0-9a-f]{8}", row.pop("id"))
    assert row == {"profile": ["I like tea."], "personality": "calm", "source": "file"}


def test_personas_of_ones_own_need_a_user_model_that_understands_them(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"profile": ["I like tea."], "personality": "calm"}\n')
    ended = cli("simulate", "r.db", *SMALL, "--personas", "mine.jsonl")
    assert ended.code == 2
    assert re.match(r"interalign: --user world:user understands only .*--user", one_line(ended.err))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]


def test_the_installed_command_ends_with_the_same_codes(command: Cli) -> None:
    assert command("--version") == (0, "interalign 0.1.0\n", "")
    ended = command("report", "absent.db")
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    one_line(ended.err)


WITHOUT_THE_EXTRA = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        extra = "torch transformers trl peft accelerate datasets huggingface_hub tokenizers safetensors"
        if name.partition(".")[0] in extra.split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from interalign.cli import app
for line in sys.argv[1:]:
    try:
        app(line.split())
    except SystemExit as end:
        print(end.code)
"""


def without_the_training_extra(*lines: str, cwd: Path) -> tuple[list[str], list[str]]:
    """Run command lines, one after the other, in a Python in which nothing of the extra `train` can be imported.

    Returns the lines on standard output, which after each command has its exit code, and those on standard error.
    """
    words = [sys.executable, "-c", WITHOUT_THE_EXTRA, *lines]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_without_the_training_extra_trees_grow_and_are_exported_and_measured(tmp_path: Path) -> None:
    said, messages = without_the_training_extra(
        "simulate run.db --trees 1 --turns 2",
        "export run.db --format sft --out sft.jsonl",
        "evaluate eval.db --candidate world:oracle --limit 2 --turns 2",
        "report eval.db --html report.html",
        cwd=tmp_path,
    )
    assert said == ["0"] * 4, messages


def test_without_the_training_extra_a_command_that_needs_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sft.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]}\n'
    )
    (tmp_path / "base").mkdir()
    said, messages = without_the_training_extra(
        "train sft --model base --data sft.jsonl --out tuned",
        "simulate r.db --trees 1 --turns 1 --candidate hf:base",
        cwd=tmp_path,
    )
    assert said == ["2", "2"]
    refusals = [message for message in messages if message.startswith("interalign: ")]
    assert ["pip install 'interalign[train]'" in message for message in refusals] == [True, True]
