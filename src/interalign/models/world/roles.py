"""The world's roles as chat models: `world:user`, `world:inducer`, `world:judge`, `world:oracle`, ..."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from string import ascii_uppercase
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from interalign.config import Runtime
from interalign.errors import ConfigError, did_you_mean
from interalign.model_spec import ModelSpec
from interalign.models.base import ChatModel, Parameters
from interalign.models.world import judge, prompts
from interalign.models.world.candidate import POLICIES, Policy, candidate_reply
from interalign.models.world.inducer import induce
from interalign.models.world.people import Person, read_person
from interalign.models.world.self_generation import write_people
from interalign.models.world.user import ANSWERS, toss, user_message
from interalign.records import Reply
from interalign.tree import Message

Speak = Callable[[Sequence[Message], Random], str]


class WorldModel:
    """A role of the world: a pure function of messages and seed. `parameters` change nothing."""

    def __init__(self, name: str, speak: Speak) -> None:
        self.name = name
        self._speak = speak

    async def __call__(self, messages: Sequence[Message], parameters: Parameters, seed: int) -> Reply:
        """One reply; ConfigError if the messages are not those of this role's prompts."""
        text = self._speak(prompts.without_note(messages), Random(seed))
        return Reply(
            text=text,
            model=self.name,
            finish_reason="stop",
            prompt_tokens=sum(message.content.count(" ") + 1 for message in messages),
            completion_tokens=text.count(" ") + 1,
        )


class _Kind(NamedTuple):
    """How a role is made from the numbers of its query, and which ones it takes."""

    what: str
    make: Callable[[Mapping[str, float]], Speak]
    takes: tuple[str, ...] = ()


def world_model(name: str) -> ChatModel:
    """The world's role `world:NAME`, such as `judge?noise=0.2`, without that `world:`; errors as in `from_spec`."""
    return from_spec(ModelSpec.parse(f"world:{name}"))


def from_spec(spec: ModelSpec, runtime: Runtime | None = None) -> ChatModel:
    """The world's role of this name. ConfigError for a name, a query parameter or a value that does not exist."""
    kind = _KINDS.get(spec.name)
    if kind is None:
        near = did_you_mean(spec.name, _KINDS)
        raise ConfigError(f"{spec.known_as}: there is no {spec.name!r} in the world; choose from {_listing()}{near}")
    return WorldModel(spec.known_as, kind.make(_numbers(spec, kind.takes)))


def world_models() -> dict[str, str]:
    """What there is in the world: the spec of each role with the numbers it takes, and what it is."""
    return {_usage(name): kind.what for name, kind in _KINDS.items()}


def _usage(name: str) -> str:
    query = "&".join(f"{key}=0..1" for key in _KINDS[name].takes)
    return f"{name}[?{query}]" if query else name


def _numbers(spec: ModelSpec, takes: tuple[str, ...]) -> dict[str, float]:
    try:
        if spec.known_as.endswith("?"):
            raise ValueError("a question mark and nothing after it")
        pairs = parse_qsl(spec.query, keep_blank_values=True, strict_parsing=True) if spec.query else []
        numbers = {key: float(value) for key, value in pairs}
    except ValueError:
        raise ConfigError(f"{spec.known_as}: cannot read {spec.query!r}; write numbers, as in {_listing()}") from None
    for key, value in numbers.items():
        if key not in takes:
            raise ConfigError(f"{spec.known_as}: no parameter {key!r} there; choose from {_listing()}")
        if not 0 <= value <= 1:
            raise ConfigError(f"{spec.known_as}: {key} is a probability, from 0 to 1")
    if len(numbers) < len(pairs):
        raise ConfigError(f"{spec.known_as}: a parameter is given twice")
    return numbers


def _listing() -> str:
    return ", ".join(f"world:{_usage(name)}" for name in _KINDS)


def _user(numbers: Mapping[str, float]) -> Speak:
    answers = numbers.get("answers", ANSWERS)

    def speak(messages: Sequence[Message], rng: Random) -> str:
        sections = prompts.read_prompt(messages[0].content, None)
        person = _person(sections.section("Who you are"), sections.section("How you talk"), "world:user")
        own = [message.content for message in messages if message.role == "assistant"]
        return user_message(person, own, messages[-1].content if own else None, toss(rng), answers=answers)

    return speak


def _person(profile: tuple[str, ...] | None, personality: tuple[str, ...] | None, who: str) -> Person:
    person = read_person(profile or (), "\n".join(personality or ()))
    if person is None:
        raise ConfigError(
            f"{who} understands only the world's personas, in the wording of the packaged prompts; "
            "use --personas world, or name another model for this seat"
        )
    return person


def _inducer(numbers: Mapping[str, float]) -> Speak:
    def speak(messages: Sequence[Message], rng: Random) -> str:
        talk = prompts.read_prompt(messages[-1].content, None).section("The conversation so far")
        if len(messages) == 1 and talk is not None:
            return induce(prompts.read_script(talk))
        last = prompts.read_prompt(messages[-1].content, prompts.END).message
        return induce(prompts.user_texts(messages, last))

    return speak


def _judge(numbers: Mapping[str, float]) -> Speak:
    faults = judge.Faults(**numbers)

    def speak(messages: Sequence[Message], rng: Random) -> str:
        audited = prompts.read_prompt(messages[-1].content, None)
        if (message := audited.section("The message to check")) is not None:
            talker = _person(audited.section("The persona"), audited.section("How the persona talks"), "world:judge")
            return judge.audit(talker, "\n".join(message))
        prompt = prompts.read_prompt(messages[-1].content, prompts.END)
        person = _person(prompt.section("The user ("), prompt.section("How the user talks"), "world:judge")
        texts = prompts.user_texts(messages, prompt.message)
        first, second, single = (prompt.section(name) for name in ("Reply A:", "Reply B:", "The reply:"))
        if "`Ranking:`" in prompt.instructions:
            shown = [prompt.section(f"Reply {letter}:") for letter in ascii_uppercase]
            listed = ["\n".join(each) for each in shown if each is not None]
            return judge.rank(person, texts, listed, faults, rng)
        if first is not None and second is not None:
            return judge.compare(person, texts, "\n".join(first), "\n".join(second), faults, rng)
        if single is not None:
            scores = judge.score_with_aspects if "`Engagement: N`" in prompt.instructions else judge.score
            return scores(person, texts, "\n".join(single), faults, rng)
        raise ConfigError(
            "world:judge answers only the prompts judge_compare.jinja, judge_score.jinja, judge_aspects.jinja, "
            "judge_list.jinja and audit_user.jinja"
        )

    return speak


def _scripted(policy: Policy) -> Callable[[Mapping[str, float]], Speak]:
    def speak(messages: Sequence[Message], rng: Random) -> str:
        prompt = prompts.read_hinted(messages[-1].content)
        notes = prompt.section("What the conversation so far has shown")
        hint = None if notes is None else "\n".join(notes)
        return candidate_reply(policy, prompts.user_texts(messages, prompt.message), hint, rng)

    return lambda numbers: speak


def _personas(numbers: Mapping[str, float]) -> Speak:
    return lambda messages, rng: write_people(messages[-1].content, rng, **numbers)


_WHAT: Final = {
    "blind": "reads nothing, notes neither",
    "average": "often misses what the user has shown",
    "attentive": "mostly uses it, sometimes asks",
    "oracle": "always uses it, always asks for what it lacks",
}
_KINDS: Final = {
    "user": _Kind("user: plays a persona of the world; answers=0 never answers a question", _user, ("answers",)),
    "inducer": _Kind("inducer: notes exactly what the user has shown", _inducer),
    "judge": _Kind("judge: the true score; faults can be planted in it", _judge, ("noise", "position_bias")),
    "personas": _Kind(
        "writer of personas, out of the examples shown; some repeated, some broken", _personas, ("broken", "duplicates")
    ),
    **{name: _Kind(f"candidate: {_WHAT[name]}", _scripted(policy)) for name, policy in POLICIES.items()},
}
