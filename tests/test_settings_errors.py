"""What is wrong with settings, in one line: the file or the option, the value, and the nearest known name."""

from pathlib import Path

import pytest

import interalign as ia
from interalign import api
from interalign.errors import ConfigError, did_you_mean
from interalign.yaml_file import read_yaml

SMALL = ("--trees", "1", "--turns", "1")


def said(ended: tuple[int, str, str]) -> str:
    """The one line that a refused command says, without the program's name."""
    code, out, err = ended
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1, err
    assert err.startswith("interalign: ")
    return err.removeprefix("interalign: ").rstrip("\n")


@pytest.mark.parametrize(
    ("yaml", "line"),
    [
        ("tres: 3", "tres: no such setting; did you mean trees?"),
        ("Trees: 3", "Trees: no such setting; did you mean trees?"),
        ("max-usdd: 3", "max_usdd: no such setting; did you mean max_usd?"),
        ("conccurency: 3", "conccurency: no such setting; did you mean concurrency?"),
        ("trees: many", "trees: expected an integer, got 'many'"),
        ("trees: 2.5", "trees: expected an integer, got 2.5"),
        ("trees: [3]", "trees: expected an integer, got [3]"),
        ("trees:", "trees: expected an integer, got nothing"),
        ("trees: 0", "trees: must be at least 1, got 0"),
        ("turns: 1001", "turns: must be at most 1000, got 1001"),
        ("deadline: 0", "deadline: must be more than 0, got 0"),
        ("deadline: soon", "deadline: expected a number, got 'soon'"),
        ("user: [a, b]", "user: expected text, got ['a', 'b']"),
        ("user: 3", "user: expected text, got 3"),
        ("base_url: 3", "base_url: expected text, got 3"),
        ("candidate: 3", "candidate: expected a list, got 3"),
        ("candidate: [{nam: a, model: 'world:blind'}]", "candidate.0.nam: no such setting; did you mean name?"),
        ("candidate: [{name: a, model: 'world:blind', modle: x}]",
         "candidate.0.modle: no such setting; did you mean model?"),
        ("candidate: []", "name at least one candidate"),
        ("judging: comparing", "judging: expected one of compare, score, list, got 'comparing'; did you mean compare?"),
        ("policy: fulll", "policy: 'fulll' is none of caterpillar, full, beam:K, best, adaptive, "
                          "adaptive:K, nor MODULE:ATTRIBUTE of a plug-in (branching policy); did you mean full?"),
        ("policy: baem:3", "policy: 'baem:3' is none of caterpillar, full, beam:K, best, adaptive, "
                           "adaptive:K, nor MODULE:ATTRIBUTE of a plug-in (branching policy); did you mean beam:K?"),
        ("policy: full\nbranch: 9", "policy full with branch 9 and 10 turns means 3,486,784,401 leaves a tree; "
                                    "use fewer turns or beam:K"),
        ("parameters: {judge: {temprature: 0}}",
         "parameters.judge.temprature: no such setting; did you mean temperature?"),
        ("parameters: {jugde: {temperature: 0}}", "parameters.jugde: no such setting; did you mean judge?"),
        ("parameters: {judge: {temperature: warm}}", "parameters.judge.temperature: expected a number, got 'warm'"),
        ("parameters: {judge: [1]}", "parameters.judge: expected `name: value` lines, got [1]"),
        ("parameters: [judge]", "parameters: expected `name: value` lines, got ['judge']"),
        ("parameters: {judge: {seed: random}}", "parameters.judge.seed: expected an integer, got 'random'"),
        ("hooks: [a:b]", "hooks: expected `name: value` lines, got ['a:b']"),
        ("hooks: {after_usr: ['a:b']}", "hooks.after_usr: no such setting; did you mean after_user?"),
        ("hooks: {after_user: 'a:b'}", "hooks.after_user: expected a list, got 'a:b'"),
        ("prices: 3", "prices: expected a list, got 3"),
        ("prices: {m: {promt: 1, completion: 1}}", "prices: m.promt: no such setting; did you mean prompt? (write "
         "`m: {prompt: 0.15, completion: 0.6}`, USD per million tokens)"),
        (f"user: {['x' * 200]}", f"user: expected text, got ['{'x' * 55}..."),
        ("trees: 1\nturns: 2\ntrees: 3",
         "cannot be read as YAML ('trees' is given twice, in lines 1 and 3; keep one)"),
        ("parameters:\n  judge: {temperature: 0}\n  judge: {temperature: 1}",
         "cannot be read as YAML ('judge' is given twice, in lines 2 and 3; keep one)"),
        ("parameters: {judge: {top_p: 1, top_p: 0.5}}",
         "cannot be read as YAML ('top_p' is given twice, in lines 1 and 1; keep one)"),
        ("max-usd: 1\nmax_usd: 2", "max_usd is given twice, with `-` and with `_`; keep one"),
        ("", "is empty; write `name: value` lines into it, or do not name it"),
        (" \n\n", "is empty; write `name: value` lines into it, or do not name it"),
        ("- trees\n- turns", "expected `name: value` lines, got a list"),
        ("trees = 3", "expected `name: value` lines, got text"),
        ("3", "expected `name: value` lines, got a number"),
        ("yes: 3", "True cannot be a name: expected `name: value` lines, with text as the name"),
        ("a: 1\n---\nb: 2", "cannot be read as YAML (expected a single document in the stream in line 1, column 1: "
                            "a: 1 ^ but found another document in line 2, column 1: --- ^)"),
        ("a: !!python/object:os.system {}", "cannot be read as YAML (could not determine a constructor for the tag "
                                            "'tag:yaml.org,2002:python/object:os.system' in line 1, column 4: "
                                            "a: !!python/object:os.system {} ^)"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_settings_file_is_named_with_the_file(yaml: str, line: str, cli) -> None:
    Path("sim.yaml").write_text(yaml)
    glue = " " if line.startswith("is empty") else ": "
    assert said(cli("simulate", "r.db", "--config", "sim.yaml")) == f"sim.yaml{glue}{line}"
    assert not Path("r.db").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--trees", "0"), "--trees: must be at least 1, got 0"),
        (("--deadline", "0"), "--deadline: must be more than 0, got 0.0"),
        (("--branch", "65"), "--branch: must be at most 64, got 65"),
        (("--policy", "catterpillar"),
         "--policy: 'catterpillar' is none of caterpillar, full, beam:K, best, adaptive, "
             "adaptive:K, nor MODULE:ATTRIBUTE of a plug-in "
         "(branching policy); did you mean caterpillar?"),
        (("--candidate", "a b=world:blind"),
         "--candidate: 'a b' cannot name a candidate: give a name of visible signs without blanks, /, + and |, "
         "as NAME=MODEL"),
        (("--candidate", "world:orcale"),
         "world:orcale: there is no 'orcale' in the world; choose from "),
    ],
)  # fmt: skip
def test_what_is_wrong_on_the_command_line_is_named_by_its_option(words: tuple[str, ...], line: str, cli) -> None:
    assert said(cli("simulate", "r.db", *words)).startswith(line)
    # What the command line says wins over the file, and the file is then not blamed.
    Path("sim.yaml").write_text("trees: many\npolicy: nonsense\ncandidate: 3\nturns: 1\ndeadline: late\nbranch: x\n")
    fine = ("--trees", "1", "--policy", "full", "--candidate", "world:blind", "--deadline", "9", "--branch", "1")
    assert said(cli("simulate", "r.db", "--config", "sim.yaml", *fine, *words[:1], words[1])).startswith(line)


def test_a_file_is_named_for_what_is_found_wrong_later(cli) -> None:
    for yaml, line in (
        ("judge: opnai:gpt", "sim.yaml: 'opnai:gpt': there is no provider"),
        ("candidate: [a=world:nobody]", "sim.yaml: world:nobody: there is no"),
        ("personas: absent.jsonl", "sim.yaml: absent.jsonl: cannot be read"),
        ("prices: absent.yaml", "sim.yaml: absent.yaml: cannot be read"),
        ("hooks: {after_user: ['nowhere:hook']}", "sim.yaml: 'nowhere:hook': there is no provider"),
    ):
        Path("sim.yaml").write_text(yaml)
        assert said(cli("simulate", "r.db", *SMALL, "--config", "sim.yaml")).startswith(line)
        if "absent" in yaml:  # a dry run asks no model, and so looks for none
            assert said(cli("simulate", "r.db", *SMALL, "--config", "sim.yaml", "--dry-run")).startswith(line)
    Path("sim.yaml").write_text("judge: world:judge\n")
    words = ("--config", "sim.yaml", "--judge", "world:nobody")
    assert said(cli("simulate", "r.db", *words)).startswith("world:nobody: there is no")


def test_comments_alone_are_a_settings_file_that_sets_nothing(cli) -> None:
    Path("sim.yaml").write_text("# trees: 3\n")
    assert cli("simulate", "r.db", *SMALL, "--config", "sim.yaml").code == 0


def test_a_name_may_come_again_by_a_merge_and_in_another_mapping(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (("simulate", "r.db", "--config"), "No such file or directory); did you mean sim.yaml?"),
        (("evaluate", "r.db", "--candidate", "world:blind", "--config"), "did you mean sim.yaml?"),
        (("simulate", "r.db", "--prices"), "did you mean sim.yaml?"),
        (("train", "sft", "--model", "m", "--data", "d", "--out", "o", "--config"), "did you mean sim.yaml?"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_settings_file_that_is_not_there_is_named_with_the_one_that_is(words, ends: str, cli) -> None:
    pytest.importorskip("trl")
    Path("sim.yaml").write_text("turns: 1\n")
    line = said(cli(*words, "sim.yml"))
    assert line.startswith("sim.yml: cannot be read (")
    assert line.endswith(ends)
    assert said(cli(*words, "nope.yaml")) == "nope.yaml: cannot be read (No such file or directory)"
    assert said(cli(*words, ".")).startswith(".: cannot be read (Is a directory)")


@pytest.mark.parametrize(
    ("yaml", "line"),
    [
        ("openai:m: {promt: 1, completion: 2}", "openai:m.promt: no such setting; did you mean prompt?"),
        ("openai:m: {prompt: 1}", "openai:m.completion: must be given"),
        ("openai:m: {prompt: 1, completion: 2, longest: 3}",
         "openai:m.longest: no such setting; did you mean longest_reply?"),
        ("openai:m: {prompt: dear, completion: 2}", "openai:m.prompt: expected a number, got 'dear'"),
        ("openai:m: [1, 2]", "openai:m: expected two prices, got [1, 2]"),
        ("openai:m:", "openai:m: expected two prices, got nothing"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_price_table_is_named_with_its_model(yaml: str, line: str, cli) -> None:
    Path("prices.yaml").write_text(yaml)
    assert said(cli("simulate", "r.db", "--prices", "prices.yaml")).startswith(f"prices.yaml: {line} (write `openai:m")


def test_a_price_table_says_twice_or_nothing_is_refused_and_the_nearest_model_is_named(cli) -> None:
    Path("prices.yaml").write_text("openai:m: {prompt: 1, completion: 2}\nopenai:m: {prompt: 3, completion: 4}\n")
    assert "'openai:m' is given twice, in lines 1 and 2" in said(cli("simulate", "r.db", "--prices", "prices.yaml"))
    Path("prices.yaml").write_text("")
    assert said(cli("simulate", "r.db", "--prices", "prices.yaml")).startswith("prices.yaml is empty")
    Path("prices.yaml").write_text("openai:gpt-4o-mini: {prompt: 1, completion: 2}\n")
    words = ("--prices", "prices.yaml", "--candidate", "openai:gpt4o-mini", "--max-usd", "1")
    assert said(cli("simulate", "r.db", *words)).startswith(
        "--max-usd needs the price of openai:gpt4o-mini; the table has openai:gpt-4o-mini: add it, "
        "or did you mean openai:gpt-4o-mini? ("
    )


def test_names_given_to_other_commands_are_answered_with_the_nearest_known(cli) -> None:
    api.simulate("run.db", trees=1, turns=1)
    assert said(cli("graph", "trun")) == (
        "no graph is called 'trun'; there are turn, tree, personas; did you mean turn?"
    )
    ended = cli("export", "run.db", "--format", "dpo", "--out", "o.jsonl", "--judge", "world:jugde")
    assert said(ended) == ("run.db has no verdict by 'world:jugde'; it has world:judge; did you mean world:judge?")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("simulat", "r.db"), "Did you mean 'simulate'?"),
        (("personas", "filtr", "a"), "Did you mean 'filter'?"),
        (("simulate", "r.db", "--tres", "3"), "--trees"),
        (("export", "r.db", "--fromat", "dpo"), "--format"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command_or_option_is_answered_with_the_nearest(
    words: tuple[str, ...], near: str, forks, tmp_path: Path
) -> None:
    assert near in said(forks.run(tmp_path, *words))


def test_the_library_names_the_setting_and_its_value(tmp_path: Path) -> None:
    for settings, line in (
        ({"trees": 0}, "--trees: must be at least 1, got 0"),
        ({"tres": 3}, "tres: no such setting; did you mean trees?"),
        ({"parameters": {"judge": {"temprature": 0}}},
         "parameters.judge.temprature: no such setting; did you mean temperature?"),
        ({"parameters": {"judge": {"temperature": "x"}}}, "parameters.judge.temperature: expected a number, got 'x'"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as refusal:
            ia.simulate(tmp_path / "r.db", **settings)
        assert str(refusal.value) == line


def test_the_nearest_name_is_found_whatever_the_letter_case_and_only_if_it_is_near() -> None:
    assert did_you_mean("TREES", ["trees", "turns"]) == "; did you mean trees?"
    assert did_you_mean("tunrs", ["trees", "turns"]) == "; did you mean turns?"
    assert did_you_mean("colour", ["trees", "turns"]) == ""
    assert did_you_mean("x", []) == ""
