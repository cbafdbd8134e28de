"""The same conversations by four programs, one process each; `bench/speed.py` starts them and compares.

    python bench/peers.py NAME --url http://127.0.0.1:PORT/v1 [--conversations N] [--turns K] [--concurrency C]

- `bare`: a loop over AsyncOpenAI, as one would write it for a single experiment;
- `langgraph`: a state machine of the same shape with ChatOpenAI in its nodes;
- `interalign`: `interalign.simulate`, everything on record;
- `persistence`: interalign as it is, and its graphs and roles with nothing kept, in turn, to see what keeping costs.

A turn is six calls: user, inducer, the hinted and the plain candidate, the judge in both orders. All four send the same
prompts (the server's sum over them says so). A few conversations go first, to import and to connect; then one line of
JSON says what the others took: CPU seconds of this process alone, seconds, calls, bytes on disk. `persistence` says the
CPU seconds of its recorded and unrecorded rounds instead: what lies side by side in one process can be told apart even
on a machine whose speed changes from one second to the next.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from fake_server import Served

import interalign as ia
from interalign.agents.judge import parse_verdict
from interalign.agents.templates import builtin_prompts
from interalign.agents.transcripts import as_script
from interalign.config import Runtime, SimulationSettings
from interalign.models.world import world_personas
from interalign.seeds import addressed_rng

MODEL = "fake"
WARM = 2
"""Conversations before the clock starts."""
ROUNDS = 8
"""How often `persistence` measures both ways."""
CREATIVE, STRICT = 1.0, 0.0
"""Temperatures of those who talk and of those who take notes and judge: interalign's defaults."""

Chat = list[dict[str, str]]
Say = Callable[[Chat, float], Awaitable[str]]


class Work(NamedTuple):
    """What is to be done."""

    url: str
    conversations: int
    turns: int
    concurrency: int


class Took(NamedTuple):
    """What it took."""

    cpu: float
    """Seconds, user and system, of this process."""
    wall: float
    """Seconds."""
    calls: int
    disk: int
    """Bytes of the run file."""
    server: dict[str, Any]
    """Its counters."""


class Clock:
    """Runs from the moment the warm-up is over."""

    def __init__(self, url: str) -> None:
        self._server = Served(url)
        self.took: Took | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the block."""
        self._server.reset()
        cpu, wall = time.process_time(), time.monotonic()
        yield
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        seen = self._server.counters()
        self.took = Took(cpu, wall, seen["requests"], 0, seen)


@contextmanager
def unmeasured() -> Iterator[None]:
    """The warm-up."""
    yield


# What a researcher writes ----------------------------------------------------------------------------


def user_chat(persona: ia.Persona, chat: Chat) -> Chat:
    """The conversation from the persona's side."""
    sides = {"user": "assistant", "assistant": "user"}
    prompts = builtin_prompts()
    greeting = {"role": "assistant", "content": prompts.render("user_begin")}
    seen = [{"role": sides[said["role"]], "content": said["content"]} for said in [greeting, *chat]]
    return [{"role": "system", "content": prompts.render("user", persona=persona)}, *seen]


def noting(chat: Chat) -> Chat:
    """The conversation as a script, for the inducer."""
    script = as_script([ia.Message.model_validate(said) for said in chat])
    return [{"role": "user", "content": builtin_prompts().render("inducer", conversation=script)}]


def asking(chat: Chat, prompt: str, **values: Any) -> Chat:
    """The conversation with its last message wrapped into a prompt."""
    return [
        *chat[:-1],
        {"role": "user", "content": builtin_prompts().render(prompt, message=chat[-1]["content"], **values)},
    ]


def judging(chat: Chat, persona: ia.Persona, first: str, second: str) -> Chat:
    """The judge's prompt for one order."""
    return asking(chat, "judge_compare", persona=persona, first=first, second=second)


def taken(tree: int, turn_path: str, replies: Sequence[str]) -> int:
    """Which reply the conversation goes on with: a coin, the same that interalign throws."""
    return addressed_rng(0, f"t{tree:05}", turn_path, "continue").choice(range(len(replies)))


def http_client(work: Work) -> Any:
    """The SDK's own HTTP client, with as many connections as calls in flight."""
    import openai

    limits = type(openai.DEFAULT_CONNECTION_LIMITS)  # httpx's, whichever httpx this SDK has
    return openai.DefaultAsyncHttpxClient(
        limits=limits(max_connections=work.concurrency, max_keepalive_connections=work.concurrency)
    )


async def bare(work: Work, clock: Clock) -> None:
    """A loop over AsyncOpenAI: one client, a semaphore, results in a list."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=work.url, api_key="none", max_retries=0, http_client=http_client(work))
    slots = asyncio.Semaphore(work.concurrency)
    pairs: list[tuple[Chat, str, str]] = []

    async def ask(messages: Chat, temperature: float) -> str:
        async with slots:
            reply = await client.chat.completions.create(model=MODEL, messages=messages, temperature=temperature)
        return reply.choices[0].message.content.strip()

    async def talk(tree: int, persona: ia.Persona) -> None:
        chat: Chat = []
        path = "u"
        for _ in range(work.turns):
            said = await ask(user_chat(persona, chat), CREATIVE)
            chat.append({"role": "user", "content": said})
            hint = await ask(noting(chat), STRICT)
            first, second = await asyncio.gather(
                ask(asking(chat, "candidate_hint", hint=hint), CREATIVE), ask(list(chat), CREATIVE)
            )
            forward, backward = await asyncio.gather(
                ask(judging(chat, persona, first, second), STRICT), ask(judging(chat, persona, second, first), STRICT)
            )
            verdicts = parse_verdict(forward), parse_verdict(backward)
            if verdicts == ("A", "B"):
                pairs.append((list(chat), first, second))
            elif verdicts == ("B", "A"):
                pairs.append((list(chat), second, first))
            index = taken(tree, path, (first, second))
            chat.append({"role": "assistant", "content": (first, second)[index]})
            path = f"{path[:-1]}{index + 1}/u"

    async with client:
        for count, running in ((WARM, unmeasured), (work.conversations, clock.running)):
            with running():
                people = world_personas("train", count, 0)
                await asyncio.gather(*(talk(tree, persona) for tree, persona in enumerate(people)))


class State(TypedDict, total=False):
    """State of the plain state machine."""

    tree: int
    persona: ia.Persona
    turn: int
    path: str
    chat: Chat
    hint: str
    replies: tuple[str, str]
    pairs: list[tuple[Chat, str, str]]


def plain_machine(say: Say, turns: int) -> Any:
    """user -> inducer -> candidates -> judge, and round again."""
    from langgraph.graph import END, START, StateGraph

    async def user(state: State) -> State:
        said = await say(user_chat(state["persona"], state["chat"]), CREATIVE)
        return {"chat": [*state["chat"], {"role": "user", "content": said}], "turn": state["turn"] + 1}

    async def inducer(state: State) -> State:
        return {"hint": await say(noting(state["chat"]), STRICT)}

    async def candidates(state: State) -> State:
        chat = state["chat"]
        hinted = asking(chat, "candidate_hint", hint=state["hint"])
        first, second = await asyncio.gather(say(hinted, CREATIVE), say(chat, CREATIVE))
        return {"replies": (first, second)}

    async def judge(state: State) -> State:
        chat, (first, second) = state["chat"], state["replies"]
        forward, backward = await asyncio.gather(
            say(judging(chat, state["persona"], first, second), STRICT),
            say(judging(chat, state["persona"], second, first), STRICT),
        )
        verdicts, pairs = (parse_verdict(forward), parse_verdict(backward)), state["pairs"]
        if verdicts == ("A", "B"):
            pairs = [*pairs, (chat, first, second)]
        elif verdicts == ("B", "A"):
            pairs = [*pairs, (chat, second, first)]
        index = taken(state["tree"], state["path"], state["replies"])
        reply = {"role": "assistant", "content": state["replies"][index]}
        return {"pairs": pairs, "chat": [*chat, reply], "path": f"{state['path'][:-1]}{index + 1}/u"}

    async def again(state: State) -> str:
        return "user" if state["turn"] < turns else END

    graph = StateGraph(State)
    graph.add_sequence([user, inducer, candidates, judge])
    graph.add_edge(START, "user")
    graph.add_conditional_edges("judge", again, ["user", END])
    return graph.compile()


async def langgraph(work: Work, clock: Clock) -> None:
    """A plain LangGraph machine with ChatOpenAI: one client, a semaphore, results in the state."""
    from langchain_openai import ChatOpenAI

    http = http_client(work)
    model = ChatOpenAI(model=MODEL, base_url=work.url, api_key="none", max_retries=0, http_async_client=http)
    slots = asyncio.Semaphore(work.concurrency)

    async def say(messages: Chat, temperature: float) -> str:
        async with slots:
            reply = await model.ainvoke(messages, temperature=temperature)
        return str(reply.content).strip()

    machine = plain_machine(say, work.turns)

    def talk(tree: int, persona: ia.Persona) -> Awaitable[Any]:
        start = State(tree=tree, persona=persona, turn=0, path="u", chat=[], pairs=[])
        return machine.ainvoke(start, config={"recursion_limit": 5 * work.turns + 5})

    async with http:
        for count, running in ((WARM, unmeasured), (work.conversations, clock.running)):
            with running():
                people = world_personas("train", count, 0)
                await asyncio.gather(*(talk(tree, persona) for tree, persona in enumerate(people)))


# interalign ------------------------------------------------------------------------------------------


def settings(work: Work, conversations: int) -> dict[str, Any]:
    """The same for both of its variants."""
    model = f"openai:{MODEL}"
    seats = {"user": model, "inducer": model, "candidate": [model], "judge": model}
    return {**seats, "trees": conversations, "turns": work.turns, "seed": 0}


def interalign(work: Work, clock: Clock) -> int:
    """`interalign.simulate` with its ledger; bytes of the run file."""
    with tempfile.TemporaryDirectory() as folder:
        recorded(work._replace(conversations=WARM), Path(folder) / "warm.db")
        with clock.running():
            recorded(work, Path(folder) / "run.db")
        return sum(file.stat().st_size for file in Path(folder).glob("run.db*"))


def recorded(work: Work, run: Path) -> None:
    """A simulation in this file."""
    runtime = Runtime(base_url=work.url, concurrency=work.concurrency)
    ended = ia.simulate(run, runtime=runtime, **settings(work, work.conversations))
    assert ended.done == work.conversations, ended.failed


async def unrecorded(work: Work) -> None:
    """The same seats and graphs; calls go straight to the model and nothing is saved."""
    from interalign.graphs.many_trees import each_tree
    from interalign.graphs.policy import branching_policy
    from interalign.graphs.seats import simulation_seats
    from interalign.graphs.tree import Growth, grow_tree
    from interalign.graphs.turn import Conversation
    from interalign.ledger import Ledger
    from interalign.models.resolve import resolve_model
    from interalign.records import Call

    class Unrecorded(Ledger):
        """The limit on calls in flight, and nothing else."""

        def __init__(self) -> None:
            self._limit = asyncio.Semaphore(work.concurrency)

        async def call(self, place: Any, model: Any, messages: Any, parameters: Any, seed: int) -> Call:
            async with self._limit:
                return Call(key="", reply=await model(messages, parameters, seed))

    async def nothing(tree: str, turn: Any) -> None:
        pass

    # From the settings on, as `simulate` does it: seats, personas and connections are part of both.
    model = resolve_model(f"openai:{MODEL}", Runtime(base_url=work.url, concurrency=work.concurrency))
    chosen = SimulationSettings.model_validate(settings(work, work.conversations))
    seats = simulation_seats(chosen, Unrecorded(), lambda spec: model, builtin_prompts())
    growth = Growth(seats=seats, policy=branching_policy(chosen.policy), save=nothing)
    talks = [
        Conversation(tree=f"t{index:05}", case=f"t{index:05}", seed=0, persona=persona, turns=work.turns)
        for index, persona in enumerate(world_personas("train", work.conversations, 0))
    ]
    jobs = ((talk.tree, partial(grow_tree, talk, growth)) for talk in talks)
    await each_tree(jobs, nothing, at_once=2 * work.concurrency)
    await model.close()


def persistence(work: Work) -> dict[str, list[float]]:
    """CPU seconds of all conversations, recorded and unrecorded, in turn; the first round of each is the warm-up."""
    took: dict[str, list[float]] = {"recorded": [], "unrecorded": []}
    prompts = set[int]()
    server = Served(work.url)
    for place in range(1 + ROUNDS):
        for name in list(took) if place % 2 else reversed(took):
            server.reset()
            with tempfile.TemporaryDirectory() as folder:
                cpu = time.process_time()
                if name == "recorded":
                    recorded(work, Path(folder) / "run.db")
                else:
                    asyncio.run(unrecorded(work))
                took[name].append(time.process_time() - cpu)
            prompts.add(server.counters()["prompts"])
    assert len(prompts) == 1, "not the same conversations"
    return {name: seconds[1:] for name, seconds in took.items()}


def main() -> None:
    programs = {"bare": bare, "langgraph": langgraph}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*programs, "interalign", "persistence"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--conversations", type=int, default=20)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=16)
    asked = parser.parse_args()
    work = Work(asked.url, asked.conversations, asked.turns, asked.concurrency)
    if asked.name == "persistence":
        print(json.dumps(persistence(work)))
        return
    clock, disk = Clock(work.url), 0
    if asked.name == "interalign":
        disk = interalign(work, clock)
    else:
        asyncio.run(programs[asked.name](work, clock))
    assert clock.took
    print(json.dumps(clock.took._replace(disk=disk)._asdict()))


if __name__ == "__main__":
    main()
