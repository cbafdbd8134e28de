"""The shipped population: `people` to simulate with, the `aloe` cases to evaluate on, and what a run keeps of them."""

import json
from collections import Counter
from pathlib import Path

import pytest
from loopback import completion, serving

import interalign as ia
from interalign import people
from interalign.api import view_export
from interalign.errors import ConfigError
from interalign.people import aloe_cases, load_personas, personalities, profiles
from interalign.people.source import persona_source
from interalign.personas import Persona, dump_personas, parse_personas
from interalign.store import Store

IDS_OF_P001 = [
    *("p001-s05", "p001-s11", "p001-s13", "p001-s29", "p001-s32"),
    *("p001-s37", "p001-s45", "p001-s46", "p001-s48", "p001-s60"),
]
FIRST_CASES = ["p089-s71", "p112-s72", "p113-s67", "p127-s66", "p134-s72"]


def test_the_pool_is_351_profiles_with_ten_personalities_each() -> None:
    pool = people.people(0)
    assert len(pool) == 3510
    assert set(Counter(persona.profile for persona in pool).values()) == {10}
    assert len({persona.id for persona in pool}) == 3510
    assert {persona.source for persona in pool} == {"people"}


@pytest.mark.parametrize("seed", [0, 1])
def test_all_profiles_are_met_before_one_is_met_again(seed: int) -> None:
    pool = people.people(seed)
    for number in range(10):
        assert len({persona.profile for persona in pool[351 * number : 351 * (number + 1)]}) == 351


def test_the_seed_decides_the_order_and_nothing_else() -> None:
    first, second = people.people(0), people.people(1)
    assert first == people.people(0)
    assert first[:351] != second[:351]
    assert set(first) == set(second)


def test_ids_are_made_of_the_profile_and_the_personality() -> None:
    known = {persona.id: persona for persona in people.people(0)}
    texts = {each.id: each.text for each in personalities("train")}
    first = next(persona for name, persona in known.items() if name.startswith("p001-"))
    assert first.personality == texts[first.id.partition("-")[2]]
    assert first.profile[0] == "Cannot eat gluten since a diagnosis two years ago."


def test_ids_stay_as_they_are_in_run_files() -> None:
    drawn = sorted(persona.id for persona in people.people(0) if persona.id.startswith("p001-"))
    assert drawn == IDS_OF_P001
    assert [case.id for case in aloe_cases()[:5]] == FIRST_CASES


def test_the_cases_are_20_profiles_with_five_personalities_each_and_the_first_20_all_differ() -> None:
    cases = aloe_cases()
    assert len(cases) == 100
    assert set(Counter(case.profile for case in cases).values()) == {5}
    assert len({case.profile for case in cases[:20]}) == 20
    assert len({case.id for case in cases}) == 100


def test_no_profile_and_no_personality_of_a_case_is_in_the_training_pool() -> None:
    train, heldout = people.people(0), aloe_cases()
    assert {case.profile for case in heldout} & {persona.profile for persona in train} == set()
    assert {case.personality for case in heldout} & {persona.personality for persona in train} == set()
    assert (len(profiles("train")), len(profiles("heldout"))) == (351, 20)
    assert (len(personalities("train")), len(personalities("heldout"))) == (64, 10)


@pytest.mark.parametrize(("source", "split"), [("people", "heldout"), ("aloe", "train")])
def test_the_two_sides_of_the_split_are_not_mixed_up(source: str, split: str) -> None:
    with pytest.raises(ConfigError, match=r"`people` are for `simulate --personas`, and the cases `aloe`"):
        load_personas(source, split=split, n=1, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "r.db", "--personas", "people"),
        ("evaluate", "r.db", "--candidate", "world:blind", "--cases", "aloe"),
    ],
)
def test_the_worlds_user_and_judge_do_not_understand_the_pool(cli, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = cli(*words)
    assert ended.code == 2
    assert "--user world:user understands only the embedded world's personas" in ended.err
    assert list(tmp_path.iterdir()) == []


async def says_hello(ask: ia.UserAsk) -> ia.Said:
    return ia.Said(text=f"Hello, I am {ask.persona.id}.")


async def answers(ask: ia.CandidateAsk) -> ia.Said:
    return ia.Said(text="Hello!")


class Likes:
    async def compare(self, ask: ia.Comparison) -> ia.ChoiceOpinion:
        return ia.ChoiceOpinion(value="A", replies=("It is first.",))

    async def score(self, ask: ia.Scoring) -> ia.ScoreOpinion:
        return ia.ScoreOpinion(value=3, replies=("It is fair.",))


likes = Likes()
SEATS = {
    "user": f"{__name__}:says_hello",
    "candidate": f"c={__name__}:answers",
    "judge": f"{__name__}:likes",
}


def test_a_simulation_meets_the_pool_by_its_name(tmp_path: Path) -> None:
    done = ia.simulate(tmp_path / "r.db", personas="people", inducer="none", trees=3, turns=1, **SEATS)
    assert (done.done, done.failed) == (3, {})
    with Store.open(tmp_path / "r.db") as run:
        assert list(run.personas()) == [persona.id for persona in people.people(0)[:3]]
        assert run.run is not None
        assert run.run.identity["personas"] == people.source_identity("people")


def test_an_evaluation_meets_the_cases_by_the_same_name_in_yaml(cli, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(
        f"cases: aloe\nlimit: 2\nturns: 1\nuser: {SEATS['user']}\ncandidate: ['{SEATS['candidate']}']\n"
        f"judge: {SEATS['judge']}\n"
    )
    ended = cli("evaluate", "e.db", "--config", "e.yaml")
    assert ended.code == 0
    assert ended.err.startswith(
        "aloe: 100 cases, 20 held-out profiles; cosine to the nearest training profile of `people`: mean 0."
    )
    assert "by TF-IDF of words" in ended.err
    with Store.open(tmp_path / "e.db") as run:
        assert list(run.personas()) == FIRST_CASES[:2]


def test_other_cases_are_begun_without_a_word_on_similarity(cli) -> None:
    assert "cosine" not in cli("evaluate", "e.db", "--candidate", "world:blind", "--limit", "1", "--turns", "1").err


def test_the_source_on_record_names_the_version_and_the_content() -> None:
    assert people.source_identity("aloe").startswith(f"aloe:{people.VERSION}:sha256:")
    assert persona_source("people", ()) == people.source_identity("people")


PLAIN = Persona(id="p", profile=("Keeps bees.",), personality="Dry.")


def test_a_persona_without_meta_is_written_as_it_always_was() -> None:
    assert PLAIN.model_dump() == {"id": "p", "profile": ("Keeps bees.",), "personality": "Dry.", "source": "file"}
    assert PLAIN.model_dump_json() == '{"id":"p","profile":["Keeps bees."],"personality":"Dry.","source":"file"}'
    assert persona_source("mine.jsonl", [PLAIN]) == "sha256:86130c1ce946bd65"


def test_meta_is_kept_in_files_and_run_files(tmp_path: Path) -> None:
    known = Persona(
        id="p", profile=("Keeps bees.",), personality="Dry.", meta={"age": 28, "talks": [{"history": ["hi"]}]}
    )
    assert parse_personas(dump_personas([known])) == (known,)
    (tmp_path / "p.jsonl").write_text("".join(dump_personas([known])))
    ia.simulate(tmp_path / "r.db", personas=str(tmp_path / "p.jsonl"), inducer="none", trees=1, turns=1, **SEATS)
    with Store.open(tmp_path / "r.db") as run:
        assert run.persona("p") == known


def test_meta_cannot_be_changed_by_whom_it_is_handed_to() -> None:
    known = Persona(id="p", profile=("Keeps bees.",), personality="Dry.", meta={"age": 28})
    known.meta["age"] = 3
    assert known.meta == {"age": 28}
    assert PLAIN.meta == {}


@pytest.mark.parametrize("meta", [3, "x", {"a": float("nan")}, {"a": {1}}, None])
def test_meta_that_is_no_json_mapping_is_refused(meta: object) -> None:
    with pytest.raises(ValueError, match="meta"):
        Persona.model_validate({"id": "p", "profile": ["Keeps bees."], "personality": "Dry.", "meta": meta})


def test_meta_is_shown_by_the_viewer_and_stands_in_no_prompt(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        json.dumps({"profile": ["Keeps bees."], "personality": "Dry.", "meta": {"zip": "SW1A-<b>"}}) + "\n"
    )
    seats = dict.fromkeys(("user", "inducer", "candidate", "judge"), "openai:m")
    with serving(lambda body: completion("Good. Verdict: A")) as server:
        runtime = ia.Runtime(base_url=server.url)
        ia.simulate(tmp_path / "r.db", personas=str(tmp_path / "p.jsonl"), trees=1, turns=1, runtime=runtime, **seats)
    sent = [message["content"] for body in server.asked for message in body["messages"]]
    assert any("Keeps bees." in text for text in sent)
    assert not any("SW1A" in text for text in sent)
    view_export(tmp_path / "r.db", tmp_path / "v.html")
    page = (tmp_path / "v.html").read_text()
    assert "SW1A-&lt;b&gt;" in page
