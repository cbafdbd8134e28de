"""`personas import`: sets as others publish them. Every row is read or named, and nothing is dropped unseen."""

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interalign.errors import ConfigError, DataError
from interalign.people.formats.base import facts, sentences
from interalign.people.importing import import_personas, read_personalities
from interalign.personas import dump_personas, parse_personas
from interalign.registries import PERSONA_FORMATS

TALK = "Writes short notes."
SHAPES: dict[str, tuple[Any, tuple[str, ...], str | None, dict[str, Any]]] = {
    "ours": (
        {"id": "a", "profile": ["Keeps bees."], "personality": "Dry.", "age": 3},
        ("Keeps bees.",), "Dry.", {"age": 3},
    ),
    "aloe": ("He is 33. He brews beer.", ("He is 33.", "He brews beer."), None, {}),
    "personahub": ({"persona": "A nurse who draws maps", "n": 1}, ("A nurse who draws maps",), None, {"n": 1}),
    "nemotron": (
        {"uuid": "u1", "professional_persona": "Keeps books.", "persona": "Swims.", "hobbies_and_interests": "Chess.",
         "hobbies_and_interests_list": "['chess']", "age": 28},
        ("Swims.", "Keeps books.", "Chess."), None, {"hobbies_and_interests_list": "['chess']", "age": 28},
    ),
    "personachat": (
        {"personality": ["i keep bees.", "i like tea."], "utterances": [{"history": ["hello"]}]},
        ("i keep bees.", "i like tea."), None, {"utterances": [{"history": ["hello"]}]},
    ),
    "personamem": (
        {"persona_id": 4, "short_persona": "A gardener", "expanded_persona": '{"home": {"city": "Oslo"}, "age": 40}',
         "user_query": "Tea?"},
        ("A gardener", "home city: Oslo", "age: 40"), None, {"persona_id": 4, "user_query": "Tea?"},
    ),
    "personalens": (
        {"user_id": "u7", "demographics": {"age": "25-34"}, "Books": {"genre": ["crime", "poems"]}, "v": 2},
        ("age: 25-34", "Books genre: crime, poems"), None, {"user_id": "u7", "v": 2},
    ),
    "prefeval": (
        {"preference": "I never eat nuts.", "question": "Which cake?", "explanation": "x"},
        ("I never eat nuts.",), None, {"question": "Which cake?", "explanation": "x"},
    ),
    "tau2": (
        {"id": "0", "user_scenario": {"persona": None, "instructions": {
            "domain": "retail", "reason_for_call": "You want a refund.", "known_info": "You are Mia. You live in Rome.",
            "unknown_info": None}}},
        ("You want a refund.", "You are Mia.", "You live in Rome."), None,
        {"user_scenario": {"persona": None, "instructions": {
            "domain": "retail", "reason_for_call": "You want a refund.", "known_info": "You are Mia. You live in Rome.",
            "unknown_info": None}}},
    ),
    "sotopia": (
        {"pk": "s1", "first_name": "Ann", "last_name": "Lee", "age": 30, "occupation": "Baker", "public_info": "Sings.",
         "personality_and_values": "Ann is warm.", "decision_making_style": "Analytical", "mbti": "INTP"},
        ("name: Ann Lee", "age: 30", "occupation: Baker", "Sings."), "Ann is warm. Decision making style: Analytical.",
        {"mbti": "INTP"},
    ),
}  # fmt: skip
"""A row in the shape of each format, made up by hand: facts, personality and meta that come of it."""


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def talks(folder: Path) -> str:
    return str(written(folder / "talks.jsonl", TALK))


def test_every_built_in_format_has_a_row_here() -> None:
    assert set(SHAPES) == set(PERSONA_FORMATS.built_in)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("told", ["auto", "by name"])
def test_a_row_of_each_format_is_read_and_told_apart(name: str, told: str, tmp_path: Path) -> None:
    row, profile, personality, meta = SHAPES[name]
    pool = talks(tmp_path)
    found = import_personas(written(tmp_path / "f.jsonl", row), format="auto" if told == "auto" else name, pool=pool)
    (persona,) = found.personas
    assert (found.format, persona.profile, persona.personality) == (name, profile, personality or TALK)
    assert (persona.meta, found.drawn) == (meta, personality is None)
    assert persona.source == ("file" if name == "ours" else name)


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_imported_is_read_and_imported_again_unchanged(name: str, cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", SHAPES[name][0])
    talks(tmp_path)
    assert cli("personas", "import", "f.jsonl", "--out", "one.jsonl", "--personalities", "talks.jsonl").code == 0
    assert cli("personas", "import", "one.jsonl", "--out", "two.jsonl").code == 0
    first = (tmp_path / "one.jsonl").read_text()
    assert (tmp_path / "two.jsonl").read_text() == first
    assert "".join(dump_personas(parse_personas(first.splitlines()))) == first


@pytest.mark.parametrize("name", [name for name in SHAPES if SHAPES[name][2] is None])
def test_what_lacks_a_personality_is_refused_with_the_way_out(name: str, cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", SHAPES[name][0])
    ended = cli("personas", "import", "f.jsonl", "--out", "o.jsonl")
    assert ended.code == 2
    assert "f.jsonl: no row says how the person talks; draw a personality for each with --personalities people" in (
        ended.err
    )
    assert not (tmp_path / "o.jsonl").exists()


BAD = [{"a": 1}, {"id": "a", "profile": ["Keeps bees."], "personality": "Dry."}, {"b": 1},
       {"id": "c", "profile": [""], "personality": "Dry."}]  # fmt: skip


def test_all_bad_rows_are_named_at_once(cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", *BAD)
    ended = cli("personas", "import", "f.jsonl", "--out", "o.jsonl")
    assert (ended.code, ended.err) == (
        2,
        "interalign: f.jsonl: 3 rows (line 1: profile: is missing; line 3: profile: is missing; line 4: profile: entry "
        "1 is empty) cannot be used; mend them, or leave them out with --skip-bad\n",
    )
    assert not (tmp_path / "o.jsonl").exists()


def test_bad_rows_are_left_out_if_that_is_asked_for_and_named_all_the_same(cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", *BAD)
    ended = cli("personas", "import", "f.jsonl", "--out", "o.jsonl", "--skip-bad")
    assert ended.code == 0
    assert ended.err.startswith("1 personas written to o.jsonl; 3 rows (line 1: profile: is missing; line 3: ")
    assert [json.loads(line)["id"] for line in (tmp_path / "o.jsonl").read_text().splitlines()] == ["a"]


def test_of_many_bad_rows_the_first_20_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "f.jsonl", BAD[1], *[{"x": 1}] * 25)
    with pytest.raises(DataError) as refused:
        import_personas(path)
    assert "25 rows (line 2: " in str(refused.value)
    assert "line 21: profile: is missing; and 5 more)" in str(refused.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ("3", "line 2: expected an object"),
        ('{"profile": 3, "personality": "Dry."}', "line 2: profile: expected a list of facts or a text, got a number"),
        ('{"profile": [], "personality": "Dry."}', "line 2: profile: is empty"),
        ('{"profile": ["a", null], "personality": "Dry."}', "line 2: profile: entry 2: expected a text, got nothing"),
        ('{"profile": "Sings.", "personality": " "}', "line 2: personality: is empty"),
        ('{"profile": "Sings.", "personality": null}', "line 2: personality: expected a text, got nothing"),
        ('{"profile": "Sings."}', "line 2: has no personality"),
        ('{"id": "a", "profile": "Sings.", "personality": "Dry."}', "line 2: id 'a' is already used above"),
        ('{"id": [], "profile": "Sings.", "personality": "Dry."}', "line 2: id: expected a text"),
        ('{"profile": "Sings. \\ud800", "personality": "Dry."}', "line 2: holds half a character"),
        ('{"profile": "Sings.", "personality": "Dry.", "x": "\\ud800"}', "line 2: holds half a character"),
        ('{"profile": "Sings.", "personality": "Dry.", "x": 1, "meta": {"x": 2}}', "line 2: x: stands in the row and"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_field(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"id": "a", "profile": ["Keeps bees."], "personality": "Dry."}\n' + line + "\n")
    with pytest.raises(DataError, match="1 row ") as refused:
        import_personas(path)
    assert reason in str(refused.value)
    assert len(import_personas(path, skip_bad=True).personas) == 1


TABLE = 'id,who,style,town\na,Keeps bees. Likes tea.,Dry.,Oslo\nb,Paints boats.,"Warm, long sentences.",Rome\n'


@pytest.mark.parametrize("sign", [",", "\t", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_by_a_map_of_its_columns(sign: str, mark: str, tmp_path: Path) -> None:
    text = (
        TABLE
        if sign == ","
        else TABLE.replace('"Warm, long sentences."', "Warm; x" if sign == "\t" else "Warm").replace(",", sign)
    )
    (tmp_path / "t.csv").write_text(mark + text, encoding="utf-8")
    found = import_personas(tmp_path / "t.csv", columns=["profile=who,personality=style"])
    assert [persona.profile for persona in found.personas] == [("Keeps bees.", "Likes tea."), ("Paints boats.",)]
    assert found.personas[0].meta == {"id": "a", "town": "Oslo"}
    assert import_personas(tmp_path / "t.csv", columns=["profile=who", "personality=style,id=id"]).personas[1].id == "b"


def test_several_columns_make_one_profile(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    found = import_personas(tmp_path / "t.csv", columns=["profile=who,profile=town,personality=style"])
    assert found.personas[0].profile == ("Keeps bees.", "Likes tea.", "Oslo")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["profile=wo,personality=style"], r"has no column 'wo'; it has id, who, style, town; did you mean who\?"),
        (["who"], "--map who: expected NAME=COLUMN with a NAME of id, profile, personality"),
        (["age=town"], "--map age=town: expected NAME=COLUMN"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(columns: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    with pytest.raises(ConfigError, match=message):
        import_personas(tmp_path / "t.csv", columns=columns)


def test_a_table_with_our_names_needs_no_map_and_its_bad_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('profile,personality\n"Sings.\nKnits.",Dry.\nRows, fast,Dry.\n,Dry.\n')
    with pytest.raises(DataError, match=r"2 rows \(line 4: has 3 cells, but the head has 2 names.*; line 5: profile"):
        import_personas(tmp_path / "t.csv")
    (persona,) = import_personas(tmp_path / "t.csv", skip_bad=True).personas
    assert persona.profile == ("Sings.", "Knits.")


ROW = {"profile": ["Keeps bees."], "personality": "Dry."}


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (json.dumps([ROW, {**ROW, "personality": "Warm."}]).encode(), 2),
        (json.dumps([ROW], indent=2).encode(), 1),
        (json.dumps(ROW, indent=2).encode(), 1),
        (gzip.compress(json.dumps(ROW).encode(), mtime=0), 1),
        (json.dumps(ROW).encode("utf-16"), 1),
        (b"\r\n" + json.dumps(ROW).encode() + b"\r\n", 1),
    ],
)
def test_json_of_any_layout_gzip_and_utf_16_are_read(content: bytes, count: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    assert len(import_personas(tmp_path / "f").personas) == count


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([{**ROW, "age": 3.5, "n": float("nan")}]), tmp_path / "f.parquet")
    (persona,) = import_personas(tmp_path / "f.parquet").personas
    assert (persona.profile, persona.meta) == (("Keeps bees.",), {"age": 3.5, "n": None})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no persona in it"),
        (b"\n \n", "no persona in it"),
        (b"PAR1 broken", "cannot be read as Parquet"),
        (b"\x1f\x8b broken", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (
            b'{"name": "x", "n": 3}\n',
            r"the format is not known: the first row has name, n; name the columns with --map",
        ),
        (b"SQLite format 3\0\xff", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_personas_is_refused_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refused:
        import_personas(tmp_path / "f")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Keeps bees", ["Keeps bees"]),
        ("Keeps bees. Likes tea.", ["Keeps bees.", "Likes tea."]),
        ("Met Dr. Smith in the U.S. Army. Left!", ["Met Dr. Smith in the U.S. Army.", "Left!"]),
        ("Has 2.5 acres e.g. for bees. 3 cats.", ["Has 2.5 acres e.g. for bees.", "3 cats."]),
        ('Says "no." Often.', ['Says "no."', "Often."]),
        ("- Sings\n- Knits\n", ["Sings", "Knits"]),
        ("\u79c1\u306f\u6b4c\u3046\u3002\u5bdd\u308b\u3002", ["\u79c1\u306f\u6b4c\u3046\u3002", "\u5bdd\u308b\u3002"]),
        ("i sing. i knit.", ["i sing. i knit."]),
    ],
)
def test_a_text_is_divided_at_its_sentence_ends_and_nowhere_else(text: str, found: list[str]) -> None:
    assert list(sentences(text)) == found


@pytest.mark.parametrize("cell", ['["Sings.", "Knits."]', "['Sings.', 'Knits.']"])
def test_a_list_written_out_in_a_cell_is_a_list(cell: str) -> None:
    assert facts(cell, "profile") == ("Sings.", "Knits.")


def test_personalities_are_drawn_by_the_profile_and_the_seed_not_by_the_place_in_the_file(tmp_path: Path) -> None:
    rows = [{"persona": f"Number {number}"} for number in range(30)]

    def drawn(seed: int, *rows: Any) -> dict[str, str]:
        found = import_personas(written(tmp_path / "f.jsonl", *rows), pool="people", seed=seed).personas
        return {persona.profile[0]: persona.personality for persona in found}

    first = drawn(0, *rows)
    assert drawn(0, *reversed(rows)) == first
    assert drawn(1, *rows) != first
    assert set(first.values()) <= set(read_personalities("people"))


def test_personalities_of_a_file_are_texts_or_rows_with_one(tmp_path: Path) -> None:
    path = written(tmp_path / "f.jsonl", "Dry.", {"personality": "Warm."}, {"id": "s", "text": "Slow."})
    assert read_personalities(str(path)) == ("Dry.", "Warm.", "Slow.")
    with pytest.raises(DataError, match=r"1 row \(line 2: personality: is missing\) cannot be read as personalities"):
        read_personalities(str(written(path, "Dry.", {"a": 1})))


def test_a_format_of_a_plug_in_is_read_by_its_address(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo.py").write_text(
        "from interalign.people.formats.base import Draft, PersonaFormat\n"
        "FORMAT = PersonaFormat('zoo', lambda row: 'animal' in row, lambda row: Draft((row['animal'],), 'Dry.'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    written(tmp_path / "f.jsonl", {"animal": "Is a crane."})
    assert cli("personas", "import", "f.jsonl", "--out", "o.jsonl", "--format", "zoo:FORMAT").code == 0
    assert json.loads((tmp_path / "o.jsonl").read_text())["profile"] == ["Is a crane."]


def test_a_row_that_a_plug_in_stumbles_over_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ark.py").write_text(
        "from interalign.people.formats.base import Draft, PersonaFormat\n"
        "FORMAT = PersonaFormat('ark', lambda row: True, lambda row: Draft((row['animal'],), 'Dry.'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"line 1: cannot be read in this format \(KeyError: 'animal'\)"):
        import_personas(written(tmp_path / "f.jsonl", {"a": 1}), format="ark:FORMAT")


@pytest.mark.parametrize("name", ["personahubb", "zoo"])
def test_a_format_that_is_not_known_is_refused_with_those_that_are(name: str, cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", {"persona": "x"})
    ended = cli("personas", "import", "f.jsonl", "--out", "o.jsonl", "--format", name)
    assert ended.code == 2
    assert "personahub" in ended.err


def test_the_output_is_neither_the_input_nor_the_pool(cli, tmp_path: Path) -> None:
    written(tmp_path / "f.jsonl", {"persona": "x"})
    talks(tmp_path)
    for out in ("f.jsonl", "talks.jsonl"):
        ended = cli("personas", "import", "f.jsonl", "--out", out, "--personalities", "talks.jsonl")
        assert ended.code == 2
        assert "is read by this command" in ended.err


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=6,
)
NAMES = ["profile", "personality", "id", "persona", "meta", "source", "preference", "user_scenario", "first_name",
         "age", "demographics", "expanded_persona", "professional_persona", "occupation", "persona"]  # fmt: skip
ROWS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), VALUES, max_size=5) | VALUES


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=6), name=st.sampled_from(["auto", *SHAPES]))
def test_whatever_rows_hold_each_is_read_or_named(rows: list[Any], name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "f.jsonl", *rows)
    if len(rows) == 1 and isinstance(rows[0], list):
        rows = rows[0]  # a file of one array is the array of its rows
    try:
        found = import_personas(path, format=name, pool="people", skip_bad=True)
    except DataError:
        return
    assert len(found.personas) + len(found.skipped) == len(rows)
    written_out = "".join(dump_personas(found.personas))
    assert parse_personas(written_out.split("\n")) == found.personas
    (tmp_path / "o.jsonl").write_text(written_out, encoding="utf-8")
    assert import_personas(tmp_path / "o.jsonl").personas == found.personas


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_bytes_a_file_holds_it_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    with suppress(ConfigError):
        assert import_personas(tmp_path / "f", pool="people").personas
