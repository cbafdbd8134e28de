"""`openai:` models: against a real OpenAI-compatible server, and against one that does everything wrong."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import loopback
import pytest
from calls_seen import calls_of, trees_of

import interalign as ia
from interalign.agents.templates import builtin_prompts
from interalign.models.openai import openai_model

KEY = "sk-canary-1357913579"
ONE = ("--trees", "1", "--turns", "1", "--candidate", "openai:m", "--concurrency", "1")


class Served(NamedTuple):
    """A model served by `transformers serve`."""

    model: str
    """Its folder, which is also its name in requests."""
    url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A tiny Llama that babbles in the world's words, behind a real server in a process of its own on loopback."""
    pytest.importorskip("fastapi")
    pytest.importorskip("torch")
    import torch
    from transformers import GenerationConfig

    from interalign.training.world_base_model import BaseRecipe, new_model, world_tokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = world_tokenizer()
    torch.manual_seed(0)
    model = new_model(tokenizer, BaseRecipe(width=32, heads=2))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=True, **ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = Path(sys.executable).with_name("transformers")
    options = ["--device", "cpu", "--host", "127.0.0.1", "--port", port, "--default-seed", "0"]
    log = (folder.parent / "server.log").open("w")
    process = subprocess.Popen([program, "serve", folder, *options], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process, Path(log.name))
        yield Served(str(folder), f"http://127.0.0.1:{port}/v1")
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the server never came up: {log.read_text()}")


def settings(**more: object) -> Path:
    """A configuration file with short replies."""
    file = Path("short.yaml")
    parameters = {"candidate": {"temperature": 1.0, "max_tokens": 12}, "judge": {"temperature": 0, "max_tokens": 8}}
    file.write_text(json.dumps({"parameters": parameters, **more}))
    return file


@pytest.mark.slow
def test_simulate_export_and_evaluate_run_through_a_real_server(served: Served, cli) -> None:
    model = ("--candidate", f"tiny=openai:{served.model}", "--base-url", served.url, "--config", settings())
    ended = cli("simulate", "run.db", "--trees", "3", "--turns", "3", *model)
    done, cut = ended.err.splitlines()  # replies of a model with random weights are as long as they may be
    assert ended.code == 0
    assert done.startswith("3 of 3 trees done in run.db; 54 calls made, 0 answered from the ledger")
    assert cut == "cut at the length limit: candidate 18"
    asked = calls_of("run.db", "candidate")
    assert len(asked) == 18
    assert len({call.reply for call in asked}) > 10
    with ia.open_run("run.db") as run:
        replies = [run.reply_of(call.key) for call in asked]
        usage = run.usage()["candidate"]
    assert {reply.model.removesuffix("@main") for reply in replies} == {served.model}  # the suffix before 5.24
    assert {reply.finish_reason for reply in replies} <= {"stop", "length"}
    assert all(0 < reply.completion_tokens <= 12 for reply in replies)
    assert usage.completion_tokens == sum(reply.completion_tokens for reply in replies)
    assert usage.prompt_tokens > usage.completion_tokens

    for name in ("sft", "dpo", "messages"):
        assert cli("export", "run.db", "--format", name, "--out", f"{name}.jsonl", "--keep-cut").code == 0
    pairs = [json.loads(line) for line in Path("dpo.jsonl").read_text().splitlines()]
    assert pairs
    texts = {node.text for judged in trees_of("run.db") for node in judged.tree.nodes}
    assert all(pair["chosen"][0]["content"] in texts and pair["rejected"][0]["content"] in texts for pair in pairs)

    ended = cli("evaluate", "eval.db", "--limit", "3", "--turns", "3", *model)
    assert ended.code == 0
    (found,) = json.loads(cli("report", "eval.db", "--json").out)["candidates"]
    assert (found["name"], found["n_cases"], found["missing"]) == ("tiny", 3, 0)
    assert all(1 <= level <= 5 for level in found["al"])

    again = cli("simulate", "run.db", "--trees", "3", "--turns", "3", *model)
    assert again.err.splitlines()[0] == "3 of 3 trees done in run.db; 0 calls made, 0 answered from the ledger"


@pytest.mark.slow
def test_a_served_model_that_cannot_judge_is_a_judge_whose_every_word_is_missing(served: Served, cli) -> None:
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "2", "--config", settings()).code == 0
    judge = f"openai:{served.model}"
    ended = cli("judge", "run.db", "--judge", judge, "--base-url", served.url)
    assert ended.code == 0
    # Two turns, both orders, three times each.
    assert "12 calls made" in ended.err
    (judged,) = trees_of("run.db")
    verdicts = judged.by_judge(judge).verdicts
    assert [verdict.outcome for verdict in verdicts] == ["missing", "missing"]
    assert all(len(order.replies) == 3 for verdict in verdicts for order in verdict.orders)
    assert cli("export", "run.db", "--format", "dpo", "--out", "dpo.jsonl", "--judge", judge).code == 0
    assert Path("dpo.jsonl").read_bytes() == b""


@pytest.mark.slow
def test_a_model_the_server_does_not_have_ends_no_tree_as_done(served: Served, cli) -> None:
    # This server answers 400 to it, which is about this request alone; OpenAI's own 404 stops the run (below).
    ended = cli("simulate", "run.db", *ONE[:4], "--candidate", "openai:nobody", "--base-url", served.url)
    assert ended.code == 1
    assert f"{served.url} refused a request to openai:nobody (400): " in ended.err
    assert "requested 'nobody'" in ended.err


# Faults, each from a real HTTP server


def test_a_refused_key_stops_the_run_in_one_line_and_is_printed_nowhere(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer = loopback.refusal(401, f"Incorrect API key provided: {KEY}. You can find your key at ...")
    with loopback.serving(lambda body: answer) as server:
        ended = cli("simulate", "run.db", *ONE, "--base-url", server.url)
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        asked = len(server.asked)
    assert ended.code == 3
    assert ended.err == (
        f"interalign: {server.url} refused the key; set OPENAI_API_KEY and run the same command again "
        "(401: Incorrect API key provided: (key). You can find your key at ...)\n"
    )
    assert asked == 1
    assert KEY.encode() not in Path("run.db").read_bytes()
    with loopback.serving(lambda body: loopback.completion("Hello. What do you like?")) as server:
        mended = cli("simulate", "run.db", *ONE, "--base-url", server.url)
    assert mended.code == 0


def test_a_model_that_is_not_found_stops_the_run_and_is_named_with_the_server(cli) -> None:
    with loopback.serving(lambda body: loopback.refusal(404, "The model `m` does not exist")) as server:
        ended = cli("simulate", "run.db", *ONE, "--base-url", server.url)
    assert ended.code == 3
    assert ended.err == (
        f"interalign: {server.url} has no model 'openai:m' (404); name one it serves, or mend --base-url "
        "(The model `m` does not exist)\n"
    )


def test_a_server_that_is_not_there_stops_the_run_and_its_address_is_named(cli) -> None:
    with loopback.serving(lambda body: loopback.completion("")) as server:
        pass  # the port is free again, so a connection to it is refused
    ended = cli("simulate", "run.db", *ONE, "--base-url", server.url, "--deadline", "0.5")
    assert ended.code == 3
    assert ended.err.startswith(f"interalign: {server.url} cannot be reached (")
    assert ended.err.endswith("); start the server or mend --base-url, then run again\n")
    assert ended.err.count("\n") == 1


def test_without_a_key_openais_own_server_is_refused_before_anything_starts(cli) -> None:
    ended = cli("simulate", "run.db", *ONE)
    assert ended.code == 2
    assert "set OPENAI_API_KEY, or name your own server with --base-url" in ended.err


def test_a_server_that_does_not_answer_in_time_fails_the_tree(cli) -> None:
    given_up = threading.Event()

    def slow(body):
        given_up.wait(60)
        return loopback.completion("too late")

    with loopback.serving(slow) as server:
        ended = cli("simulate", "run.db", *ONE, "--base-url", server.url, "--deadline", "0.2")
        given_up.set()
    assert ended.code == 1
    assert "did not answer within the deadline; raise --deadline" in ended.err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (loopback.completion(""), "the candidate replied nothing usable, asked 3 times"),
        (loopback.completion(None), "the candidate replied nothing usable, asked 3 times"),
        (loopback.completion(" \n "), "the candidate replied nothing usable, asked 3 times"),
        (loopback.completion(None, refusal="I cannot."), "the candidate replied nothing usable, asked 3 times"),
        (
            loopback.completion(
                None,
                tool_calls=[{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
            ),
            "the candidate replied nothing usable, asked 3 times",
        ),
    ],
    ids=["empty", "null", "blank", "refusal", "tool call"],
)
def test_a_reply_that_cannot_be_used_is_asked_for_three_times_then_its_tree_fails(answer, said: str, cli) -> None:
    with loopback.serving(lambda body: answer) as server:
        ended = cli("simulate", "run.db", *ONE, "--branch", "1", "--base-url", server.url)
        assert len(server.asked) == 3
        first, *again = server.asked
        noted = builtin_prompts().render("again_text", message=first["messages"][-1]["content"])
        assert again == [{**first, "messages": [*first["messages"][:-1], {"role": "user", "content": noted}]}] * 2
    assert ended.code == 1
    assert f"failed: t00000: {said}" in ended.err
    assert [call.sample for call in calls_of("run.db", "candidate")] == [0, 1, 2]
    with loopback.serving(lambda body: loopback.completion("What do you like?")) as server:
        mended = cli("simulate", "run.db", *ONE, "--branch", "1", "--base-url", server.url)
        assert len(server.asked) == 1
    assert mended.code == 0


def test_other_refusals_fail_the_tree_and_quote_the_server_without_the_key(cli, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer = loopback.refusal(400, f"maximum context length is 16 tokens for {KEY}")
    with loopback.serving(lambda body: answer) as server:
        ended = cli("simulate", "run.db", *ONE, "--base-url", server.url)
        assert len(server.asked) <= 2  # the two siblings; the client's own retries are off
    assert ended.code == 1
    assert f"failed: t00000: {server.url} refused a request to openai:m (400): " in ended.err
    assert "maximum context length is 16 tokens for (key)" in ended.err
    assert KEY not in ended.err


def test_a_judge_out_of_form_is_asked_three_times_and_its_verdict_is_missing_never_guessed(cli) -> None:
    with loopback.serving(lambda body: loopback.completion("The first reply is better: A. Verdict: a")) as server:
        judge = ("--judge", "openai:j", "--base-url", server.url)
        ended = cli("simulate", "run.db", "--trees", "1", "--turns", "1", *judge)
        assert len(server.asked) == 6
    assert ended.code == 0
    (judged,) = trees_of("run.db")
    assert [verdict.outcome for verdict in judged.verdicts] == ["missing"]


# What is sent


def test_the_settings_of_a_seat_are_sent_and_what_openai_does_not_know_goes_into_the_body(cli) -> None:
    given = {"temperature": 0.3, "top_p": 0.5, "max_tokens": 9, "seed": 5, "extra_body": {"top_k": 7}}
    parameters = {"candidate": given}
    with loopback.serving(lambda body: loopback.completion("What do you like?")) as server:
        config = ("--config", settings(parameters=parameters))
        ended = cli("simulate", "run.db", *ONE, *config, "--base-url", server.url)
    assert ended.code == 0
    hinted, plain = server.asked
    (asked,) = plain.pop("messages")
    assert plain == {
        "model": "m", "temperature": 0.3, "top_p": 0.5, "max_tokens": 9, "seed": 5, "top_k": 7,
        "stream": False,
    }  # fmt: skip
    assert asked["role"] == "user"
    assert hinted["messages"][0]["content"].endswith("\n[the user's message]\n" + asked["content"])


def test_an_addressed_seed_differs_from_place_to_place_and_is_the_same_whenever_the_run_is_made(cli) -> None:
    config = ("--config", settings(parameters={"candidate": {"seed": "addressed"}}))
    with loopback.serving(lambda body: loopback.completion("What do you like?")) as server:
        for run in ("one.db", "two.db"):
            assert cli("simulate", run, *ONE, *config, "--concurrency", "1", "--base-url", server.url).code == 0
    seeds = [body["seed"] for body in server.asked]
    assert seeds[:2] == seeds[2:]
    assert len(set(seeds)) == 2
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_two_runs_in_one_process_each_have_their_own_connections(tmp_path: Path) -> None:
    # LangChain shares its connections over the process: the second run would meet the first one's closed event loop.
    with loopback.serving(lambda body: loopback.completion("What do you like?")) as server:
        runtime = ia.Runtime(base_url=server.url)
        for name in ("first.db", "second.db"):
            run = ia.simulate(tmp_path / name, trees=4, turns=2, candidate="openai:m", runtime=runtime)
            assert (run.done, run.failed) == (4, {})


def test_the_environment_names_the_server_where_no_option_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback.serving(lambda body: loopback.completion("Hello.")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        model = openai_model("openai:m", ia.Runtime())

        async def ask() -> str:
            reply = await model([ia.Message(role="user", content="Hi.")], ia.Parameters(), 0)
            await model.close()
            return reply.text

        assert asyncio.run(ask()) == "Hello."
    assert os.environ["OPENAI_BASE_URL"] == server.url


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://127.0.0.1:8000/v1", "max_tokens"),
        ("https://openai.com.example.org/v1", "max_tokens"),
    ],
)
def test_the_limit_of_a_reply_is_called_as_the_server_knows_it(url: str, name: str, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "some-key-for-a-server")
    model = openai_model("openai:m", ia.Runtime(base_url=url))
    body = model._body([ia.Message(role="user", content="Hi.")], ia.Parameters(max_tokens=9), 0)
    assert {key: value for key, value in body.items() if key.startswith("max")} == {name: 9}
