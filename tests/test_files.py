"""Files are written whole or not at all, and no output of a command destroys a run, an input or another output."""

import ast
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import pytest
import typer
from test_structure import SOURCES

from interalign import api
from interalign.cli import app
from interalign.errors import ConfigError
from interalign.files import COMPANIONS, refuse_folder, refuse_outputs, write_atomically
from interalign.store import Store

Cli = Callable[..., Any]

COMMANDS = {
    "simulate": "simulate {run} --config {config} --prices {prices} --personas {personas} "
    "--prompts {folder} --rubric {data} --system {data} --max-tokens 999999 --budget {out}",
    "evaluate": "evaluate {eval} --candidate world:blind --cases {personas} --config {config} --prices {prices} "
    "--prompts {folder} --rubric {data} --system {data} --max-tokens 999999 --budget {out}",
    "judge": "judge {run} --judge world:judge --prices {prices} --max-tokens 999999 --budget {out}",
    "audit": "audit {run} --judge world:judge --prices {prices} --max-tokens 999999 --budget {out}",
    "export": "export {run} --format dpo --out {out} --panel-weights {data}",
    "train": "train grpo --model {model} --data {data} --out {folder} --config {config} --judge openai:m "
    "--personas {run} --prices {prices} --prompts {model} --rubric {prices} --max-tokens 999999 --budget {out}",
    "report": "report {run} --html {out} --md {second} --csv {third} --prices {prices} --no-worse-than {eval} "
    "--panel-weights {data}",
    "compare": "compare {eval}",
    "power": "power {eval} --delta 0.5",
    "fidelity": "fidelity {run} --real {eval}",
    "trace": "trace {run} --endpoint http://127.0.0.1:9",
    "view": "view {run} --export {out} --instructions {data}",
    "personas generate": "personas generate --n 2 --out {out} --model world:personas "
    "--seeds {personas} --prompts {folder} --prices {prices}",
    "personas import": "personas import {personas} --out {out} --personalities {personas}",
    "personas filter": "personas filter {personas} --out {out} --add-to {data}",
    "personas split": "personas split {personas} --train {out} --heldout {second}",
    "rounds": "rounds {folder} --model {model} --personas {personas} --cases {personas} --config {config} "
    "--train-config {config} --prices {prices} --prompts {model} --rubric {data} --system {data} "
    "--max-tokens 999999 --budget {out}",
    "merge": "merge {out} {run}",
    "calibrate": "calibrate {run} --against truth --html {out}",
    "labels ask": "labels {run} ask --instructions {data}",
    "labels import": "labels {run} import {data} --instructions {data}",
    "labels export": "labels {run} export {out}",
    "import": "import {data} {out} --personas {personas}",
    "demo": "demo --no-train --out {folder}",
}
"""How each command that reads or writes files is called, with everything it can be told to read."""
READS = (
    "config",
    "train_config",
    "prices",
    "data",
    "file",
    "model",
    "personas",
    "personalities",
    "seeds",
    "cases",
    "prompts",
    "rubric",
    "system",
    "inputs",
    "add_to",
    "others",
    "no_worse_than",
    "panel_weights",
    "runs",
    "real",
    "instructions",
)
"""Parameters that name what a command reads; `run` is the run file, which is not replaced but gone on with."""
NO_FILES = {"graph", "labels plan", "roles list", "roles check", "roles probe", "personas stats"}
FOLDERS = {"train", "demo", "rounds"}


class Named(NamedTuple):
    """A parameter of a command that names a file or folder."""

    name: str
    option: str
    """How it is written; empty for an argument."""


def commands(app: typer.Typer = app, words: str = "") -> Iterator[tuple[str, list[Named]]]:
    """Every command of the command line by its words, with what it is told of files."""
    for command in app.registered_commands:
        assert command.callback
        name = command.name or command.callback.__name__
        yield f"{words} {name}".strip(), list(files_of(command.callback))
    for group in app.registered_groups:
        assert group.typer_instance
        yield from commands(group.typer_instance, f"{words} {group.name}".strip())


def files_of(function: Callable[..., object]) -> Iterator[Named]:
    for name, hint in get_type_hints(function, include_extras=True).items():
        kind, *more = get_args(hint) if get_origin(hint) is Annotated else [hint]
        info = more[0] if more else None
        called = getattr(info, "metavar", None) or ""
        if Path in (kind, *get_args(kind)) or any(word in called for word in ("FILE", "FOLDER", "DIR", ".db")):
            declared = [each for each in getattr(info, "param_decls", None) or () if each.startswith("--")]
            is_argument = type(info).__name__ == "ArgumentInfo"
            yield Named(name, "" if is_argument else next(iter(declared), f"--{name.replace('_', '-')}"))


def outputs(*, folders: bool = True) -> Iterator[object]:
    """Every parameter by which a command is told where to write; a new one is found by itself."""
    for words, files in commands():
        for parameter in files:
            if parameter.name not in (*READS, "run", "fork") and (folders or words not in FOLDERS):
                yield pytest.param(words, parameter, id=f"{words} {parameter.option}")


class Folder:
    """A folder with a run, another one, and everything that commands read (`filled`)."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.names = {
            name: at / file
            for name, file in {
                "run": "run.db", "other": "other.db", "eval": "eval.db", "config": "sim.yaml", "prices": "prices.yaml",
                "personas": "people.jsonl", "data": "dpo.jsonl", "model": "base", "out": "out.x", "second": "second.x",
                "third": "third.x",
                "folder": "made",
            }.items()
        }  # fmt: skip

    def words(self, command: str, parameter: Named | None = None, value: Path | str = "") -> list[str]:
        """The command line, with this value for the parameter."""
        words = COMMANDS[command].format(**{name: str(path) for name, path in self.names.items()}).split()
        if parameter is not None:
            words[self.place(command, words, parameter)] = str(value)
        return words

    def place(self, command: str, words: list[str], parameter: Named) -> int:
        """Where the value of a parameter stands in the command line; an argument comes first."""
        first = len(command.split()) + command.startswith("labels ")  # whose run stands before the command
        return words.index(parameter.option) + 1 if parameter.option else first

    def contents(self) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(self.at)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.at.rglob("*"))
        }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied into the folder of each test."""
    folder = Folder(tmp_path_factory.mktemp("filled"))
    names = folder.names
    api.simulate(names["run"], trees=2, turns=4)
    shutil.copy(names["run"], names["other"])
    names["config"].write_text("turns: 1\n")
    names["prices"].write_text("openai:m: {prompt: 1, completion: 1}\n")
    api.personas_generate(names["personas"], n=3, heldout=False, seed=0)
    api.export(names["run"], names["data"], format="dpo")
    names["model"].mkdir()
    return folder.at


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Folder:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return Folder(tmp_path)


def refused(ended: Any, *parts: str) -> None:
    """Exit 2, nothing on standard output, one line on standard error that says all this."""
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert [part for part in parts if part not in ended.err] == [], ended.err


# Every command ------------------------------------------------------------------------------------


def test_every_command_that_knows_a_file_is_tried_here() -> None:
    with_files = {words for words, files in commands() if files}
    assert with_files - NO_FILES == set(COMMANDS), "say in COMMANDS how the command is called"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_tried_with_every_file_that_it_can_be_told(command: str) -> None:
    options = {each.option for each in dict(commands())[command]} - {"", "--fork"}
    assert options - set(COMMANDS[command].split()) == set()


@pytest.mark.parametrize(("command", "parameter"), outputs())
@pytest.mark.parametrize("target", ["run", "other"])
def test_no_output_is_written_over_a_run(command: str, parameter: Named, target: str, folder: Folder, cli: Cli) -> None:
    before = folder.contents()
    refused(cli(*folder.words(command, parameter, folder.names[target])), folder.names[target].name)
    assert folder.contents() == before


@pytest.mark.parametrize(("command", "parameter"), outputs(folders=False))
@pytest.mark.parametrize("suffix", COMPANIONS)
def test_no_output_takes_a_name_that_a_run_uses_for_itself(
    command: str, parameter: Named, suffix: str, folder: Folder, cli: Cli
) -> None:
    beside = folder.names["other"].with_name(f"other.db{suffix}")
    before = folder.contents()
    refused(cli(*folder.words(command, parameter, beside)), beside.name, "other.db")
    assert folder.contents() == before


@pytest.mark.parametrize(("command", "parameter"), outputs())
def test_no_output_is_written_over_what_the_command_reads_or_writes_besides(
    command: str, parameter: Named, folder: Folder, cli: Cli
) -> None:
    before = folder.contents()
    plain = folder.words(command)
    others = [word for word in plain if word in map(str, folder.names.values())]
    mine = plain[folder.place(command, plain, parameter)]
    for other in others:
        if other != mine:
            refused(cli(*folder.words(command, parameter, other)), Path(other).name)
    assert folder.contents() == before


@pytest.mark.parametrize(("command", "parameter"), outputs())
def test_an_output_of_a_folder_that_is_not_there_or_is_a_file_is_one_line(
    command: str, parameter: Named, folder: Folder, cli: Cli
) -> None:
    before = folder.contents()
    refused(cli(*folder.words(command, parameter, folder.names["prices"] / "x")), "prices.yaml")
    if command not in FOLDERS:
        refused(cli(*folder.words(command, parameter, folder.at / "absent" / "x")), "its folder must exist")
        refused(cli(*folder.words(command, parameter, folder.names["model"])), "is a folder; name a file to write")
    assert folder.contents() == before


# By whatever name ---------------------------------------------------------------------------------


def names_of(run: Path) -> dict[str, Path]:
    """The run under other names."""
    folder = run.parent
    (folder / "sub").mkdir()
    (folder / "link").symlink_to(run)
    (folder / "of-link").symlink_to("link")
    (folder / "sub" / "hard").hardlink_to(run)
    (folder / "folder-link").symlink_to(folder)
    return {
        "link": folder / "link", "link of a link": folder / "of-link", "hard link": folder / "sub" / "hard",
        "dots": folder / "sub" / ".." / run.name, "linked folder": folder / "folder-link" / run.name,
        "relative": Path(os.path.relpath(run)),
    }  # fmt: skip


def test_a_run_is_known_by_whatever_name(folder: Folder, cli: Cli) -> None:
    for which in ("run", "other"):
        run, before = folder.names[which], folder.names[which].read_bytes()
        for name, path in names_of(run).items():
            refused(cli("export", folder.names["run"], "--format", "dpo", "--out", path), "give another path")
            assert run.read_bytes() == before, name
        refused(cli("export", folder.names["run"], "--format", "dpo", "--out", f"{run}/"), run.name)
        for made in ("link", "of-link", "folder-link"):
            (folder.at / made).unlink()
        shutil.rmtree(folder.at / "sub")


def test_an_input_is_known_by_whatever_name(folder: Folder, cli: Cli) -> None:
    personas, before = folder.names["personas"], folder.names["personas"].read_bytes()
    for path in (personas, *names_of(personas).values()):
        refused(cli("personas", "filter", personas, "--out", path), "is read by this command")
        refused(cli("personas", "split", personas, "--train", "t", "--heldout", path), "is read by this command")
    assert personas.read_bytes() == before
    assert not (folder.at / "t").exists()


@pytest.mark.parametrize("second", ["x", "./x", "sub/../x", "link", "X", "folder-link/x", "folder-link/X"])
def test_two_outputs_of_a_command_are_two_files_also_before_they_are_there(
    second: str, folder: Folder, cli: Cli
) -> None:
    (folder.at / "sub").mkdir()
    (folder.at / "link").symlink_to("x")
    (folder.at / "folder-link").symlink_to(folder.at)
    refused(
        cli("personas", "split", folder.names["personas"], "--train", "x", "--heldout", second), "x", "are one file"
    )
    assert not (folder.at / "x").exists()


def test_files_that_are_there_and_differ_in_letter_case_only_are_two_outputs(folder: Folder, cli: Cli) -> None:
    for name in ("x", "X"):
        (folder.at / name).touch()
    if (folder.at / "x").samefile(folder.at / "X"):
        pytest.skip("this file system ignores letter case")
    assert cli("personas", "split", folder.names["personas"], "--train", "x", "--heldout", "X").code == 0


def test_an_input_in_other_letters_is_no_input_where_letter_case_counts(folder: Folder, cli: Cli) -> None:
    shouted = folder.at / "PEOPLE.jsonl"
    if shouted.exists():
        pytest.skip("this file system ignores letter case")
    assert cli("personas", "filter", folder.names["personas"], "--out", shouted).code == 0


def test_a_hard_link_to_the_log_of_the_run_that_is_read_is_refused(folder: Folder, tmp_path: Path) -> None:
    with Store.create_or_open(folder.names["run"]):
        for suffix in ("-wal", "-shm", ".lock"):
            beside = folder.at / f"run.db{suffix}"
            (tmp_path / f"hard{suffix[1:]}.x").hardlink_to(beside)
            with pytest.raises(ConfigError, match=r"run\.db uses for itself"):
                refuse_outputs([tmp_path / f"hard{suffix[1:]}.x"], inputs=[folder.names["run"]])


# Runs in use, and what is left of runs -------------------------------------------------------------


def test_a_run_that_another_process_is_writing_is_left_alone(folder: Folder, cli: Cli) -> None:
    code = "import sys, pathlib, interalign.store as s; held = s.Store.create_or_open(pathlib.Path(sys.argv[1])); "
    writing = [sys.executable, "-c", f"{code} print('held', flush=True); input()", folder.names["other"]]
    with subprocess.Popen(writing, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        for suffix in ("", "-wal", "-shm", ".lock"):
            target = folder.at / f"other.db{suffix}"
            assert target.exists()
            refused(cli("export", folder.names["run"], "--format", "dpo", "--out", target), target.name)
            assert target.exists()
        process.communicate("\n")
    assert process.returncode == 0
    with Store.open(folder.names["other"]) as store:
        assert store.count_trees() == {"done": 2}


def test_looking_at_a_run_that_this_process_is_writing_drops_none_of_its_locks(folder: Folder) -> None:
    run = folder.names["other"]
    with Store.create_or_open(run):
        held = locks_of(run)
        assert held
        for path in (run, folder.at / "other.db-wal", folder.at / "other.db-shm"):
            with pytest.raises(ConfigError):
                write_atomically(path, ["rows\n"])
        assert locks_of(run) == held


def locks_of(run: Path) -> list[str]:
    """The locks that this process holds on a run file and what lies beside it, as the kernel lists them."""
    if not Path("/proc/locks").exists():
        pytest.skip("the kernel lists no locks here")
    inodes = {str(path.stat().st_ino) for path in run.parent.glob(f"{run.name}*")}
    fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sorted(
        " ".join(each[1:]) for each in fields if str(os.getpid()) in each and each[5].rpartition(":")[2] in inodes
    )


@pytest.mark.parametrize("suffix", COMPANIONS)
def test_what_is_left_of_a_run_that_is_gone_is_refused(suffix: str, folder: Folder, cli: Cli) -> None:
    left = folder.at / f"gone.db{suffix}"
    left.write_bytes(b"what is left")
    refused(cli("export", folder.names["run"], "--format", "dpo", "--out", left), left.name, "gone.db")
    assert left.read_bytes() == b"what is left"


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_file_is_not_put_beside_a_log_that_may_be_all_that_is_left_of_a_run(
    suffix: str, folder: Folder, cli: Cli
) -> None:
    (folder.at / f"gone.db{suffix}").write_bytes(b"what is left")
    refused(cli("export", folder.names["run"], "--format", "dpo", "--out", folder.at / "gone.db"), f"gone.db{suffix}")
    assert not (folder.at / "gone.db").exists()


@pytest.mark.parametrize("name", ["dpo.jsonl.new", "dpo.jsonl.lock", "fresh.new", "fresh.lock", "wal", "my-wal.jsonl"])
def test_a_name_that_only_looks_like_one_of_a_run_may_be_written(name: str, folder: Folder, cli: Cli) -> None:
    ended = cli("export", folder.names["run"], "--format", "sft", "--out", folder.at / name)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("suffix", COMPANIONS)
def test_no_run_is_begun_under_a_name_that_another_run_uses_for_itself(suffix: str, folder: Folder, cli: Cli) -> None:
    before = folder.contents()
    for words in (["simulate", f"other.db{suffix}"], ["simulate", "run.db", "--fork", f"other.db{suffix}"]):
        refused(cli(*words, "--trees", "1", "--turns", "1"), f"other.db{suffix}")
    assert folder.contents() == before


@pytest.mark.parametrize("name", ["run.new", "run.lock", "run-wal"])
def test_a_run_that_was_begun_under_such_a_name_goes_on(name: str, folder: Folder, cli: Cli) -> None:
    shutil.copy(folder.names["run"], folder.at / name)
    folder.names["run"].unlink()
    ended = cli("simulate", name, "--trees", "2", "--turns", "4")
    assert (ended.code, ended.err) == (0, f"2 of 2 trees done in {name}; 0 calls made, 0 answered from the ledger\n")


@pytest.mark.parametrize("name", ["gone.db.lock", "gone.db.new", "other.db.lock", "gone.db-wal"])
def test_an_empty_file_that_is_left_of_a_run_does_not_become_one(name: str, folder: Folder, cli: Cli) -> None:
    (folder.at / name).touch()
    refused(cli("simulate", name, "--trees", "1", "--turns", "1"), name)
    assert (folder.at / name).read_bytes() == b""


def database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name)")


def log_of_a_database(path: Path) -> None:
    other = path.with_name("elsewhere")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE recipes (name)")
        shutil.copy(f"{other}-wal", path)


@pytest.mark.parametrize(
    "make",
    [
        database,
        log_of_a_database,
        lambda path: path.write_bytes(b"SQLite format 3\0"),
        lambda path: path.write_bytes(b"SQLite format 3\0" + b"damaged" * 1000),
        lambda path: path.write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(504)),
    ],
    ids=["database", "write-ahead log", "header only", "damaged", "journal"],
)
def test_a_database_of_another_program_is_never_replaced(
    make: Callable[[Path], object], folder: Folder, cli: Cli
) -> None:
    foreign = folder.at / "recipes"
    make(foreign)
    before = foreign.read_bytes()
    refused(cli("export", folder.names["run"], "--format", "dpo", "--out", foreign), "recipes", "would be overwritten")
    pieces = iter(["x"])
    with pytest.raises(ConfigError, match="would be overwritten"):
        write_atomically(foreign, pieces)
    assert list(pieces) == ["x"]  # refused before anything was computed
    assert foreign.read_bytes() == before


@pytest.mark.parametrize("before", [b"", b"rows\n", b"SQLite is a library\n", b"x" * 5000])
def test_any_other_file_is_replaced(before: bytes, folder: Folder, cli: Cli) -> None:
    (folder.at / "o").write_bytes(before)
    assert cli("export", folder.names["run"], "--format", "messages", "--out", "o").code == 0
    assert (folder.at / "o").read_text().startswith('{"messages"')


def test_a_run_that_began_while_the_rows_were_computed_is_not_replaced(tmp_path: Path) -> None:
    def rows() -> Iterator[str]:
        yield "a row\n"
        database(tmp_path / "o")

    with pytest.raises(ConfigError, match="would be overwritten"):
        write_atomically(tmp_path / "o", rows())
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_the_library_refuses_as_the_commands_do(folder: Folder) -> None:
    run, people = folder.names["run"], folder.names["personas"]
    before = folder.contents()
    for call in (
        lambda: api.export(run, run, format="dpo"),
        lambda: api.export(run, folder.names["other"], format="dpo"),
        lambda: api.write_report_html(api.report(run), run),
        lambda: api.view_export(run, run),
        lambda: api.personas_import(people, people),
        lambda: api.personas_filter(people, people),
        lambda: api.personas_split(people, folder.at / "x", folder.at / "x", share=0.5, seed=0),
        lambda: api.personas_generate(run, n=1, heldout=False, seed=0),
        lambda: api.train("dpo", model="m", data=folder.names["data"], out=folder.names["data"]),
    ):
        with pytest.raises(ConfigError):
            call()
    assert folder.contents() == before


# Links and what is no file -------------------------------------------------------------------------


def test_an_output_that_is_a_link_is_written_where_it_leads_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, target in (("new", "there/a"), ("old", "there/b")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "there" / "b").write_text("before")
    for name in ("new", "old"):
        write_atomically(tmp_path / name, ["after"])
        assert (tmp_path / name).is_symlink()
    assert sorted((path.name, path.read_text()) for path in (tmp_path / "there").iterdir()) == [
        ("a", "after"), ("b", "after"),
    ]  # fmt: skip


def exported(folder: Folder, fmt: str = "dpo") -> str:
    api.export(folder.names["run"], folder.at / "expected", format=fmt)
    return (folder.at / "expected").read_text()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_rows_go_to_standard_output_where_that_is_the_file_to_write(name: str, folder: Folder, command: Cli) -> None:
    ended = command("export", "run.db", "--format", "dpo", "--out", name)
    expected = exported(folder)
    assert expected
    assert ended == (0, expected, f"{expected.count(chr(10))} dpo rows written to {name}\n")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_what_a_shell_appends_to_stays_and_a_run_it_appends_to_is_refused(name: str, folder: Folder) -> None:
    words = [Path(sys.executable).with_name("interalign"), "export", "run.db", "--format", "dpo", "--out", name]
    (folder.at / "rows").write_text("before\n")
    with (folder.at / "rows").open("a") as rows:
        assert subprocess.run(words, cwd=folder.at, stdout=rows, check=False).returncode == 0
    assert (folder.at / "rows").read_text() == "before\n" + exported(folder)
    before = folder.names["other"].read_bytes()
    with folder.names["other"].open("a") as run:
        assert subprocess.run(words, cwd=folder.at, stdout=run, check=False).returncode == 2
    assert folder.names["other"].read_bytes() == before


def test_rows_go_through_a_named_pipe_to_who_reads_it(folder: Folder, cli: Cli) -> None:
    pipe = folder.at / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert cli("export", folder.names["run"], "--format", "dpo", "--out", pipe).code == 0
    reader.join()
    assert read == [exported(folder)]
    assert pipe.is_fifo()


def test_dev_null_takes_everything_and_a_full_device_is_one_line(folder: Folder, cli: Cli) -> None:
    people = folder.names["personas"]
    assert cli("export", folder.names["run"], "--format", "dpo", "--out", "/dev/null").code == 0
    assert cli("personas", "split", people, "--train", "/dev/null", "--heldout", "/dev/null").code == 0
    refused(cli("export", folder.names["run"], "--format", "dpo", "--out", "/dev/full"), "make room")
    assert not Path("/dev/null").is_file()


def test_personas_pass_through_a_pipeline(folder: Folder) -> None:
    program, people = Path(sys.executable).with_name("interalign"), folder.names["personas"].read_text()
    words = [program, "personas", "filter", "/dev/stdin", "--threshold", "1", "--out", "/dev/stdout"]
    done = subprocess.run(words, input=people, capture_output=True, text=True, check=True)
    assert done.stdout == people


def test_a_reader_that_has_gone_ends_the_command_without_a_traceback(folder: Folder) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [
        Path(sys.executable).with_name("interalign"),
        "export",
        "run.db",
        "--format",
        "dpo",
        "--out",
        "/dev/stdout",
    ]
    done = subprocess.run(words, cwd=folder.at, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


# Folders ------------------------------------------------------------------------------------------


def test_a_folder_to_write_into_may_be_there_or_be_made(tmp_path: Path) -> None:
    refuse_folder(tmp_path)
    refuse_folder(tmp_path / "a" / "b")
    (tmp_path / "link").symlink_to(tmp_path)
    refuse_folder(tmp_path / "link" / "a")
    (tmp_path / "nowhere").symlink_to("absent")
    with pytest.raises(ConfigError, match="nowhere is no folder"):
        refuse_folder(tmp_path / "nowhere")


def test_the_demo_does_not_begin_where_one_of_its_files_would_replace_a_run(folder: Folder, cli: Cli) -> None:
    shutil.copy(folder.names["run"], folder.names["model"] / "report.html")
    before = folder.contents()
    refused(cli("demo", "--no-train", "--out", folder.names["model"]), "report.html")
    assert folder.contents() == before


# Whole or not at all ------------------------------------------------------------------------------


def test_an_error_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    def rows() -> Iterator[str]:
        yield "a row\n"
        raise ConfigError("no more")

    (tmp_path / "o").write_text("before")
    with pytest.raises(ConfigError, match="no more"):
        write_atomically(tmp_path / "o", rows())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("o", "before")]


def test_every_file_of_the_package_is_written_here() -> None:
    def writes(call: ast.Call) -> bool:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        modes = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        return name in ("write_text", "write_bytes") or (
            name in ("open", "fdopen") and any(set(mode) & set("wax+") and len(mode) <= 3 for mode in modes)
        )

    writing = {path for path, module in SOURCES.items() for node in ast.walk(module)
               if isinstance(node, ast.Call) and writes(node)}  # fmt: skip
    assert writing == {"src/interalign/files.py"}
