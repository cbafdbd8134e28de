"""Chat models of LangChain in our seats."""

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

import interalign as ia
from interalign.models.langchain import LangChainModel, langchain_model

TALK = [
    ia.Message(role="system", content="Be kind."),
    ia.Message(role="user", content="Hi."),
    ia.Message(role="assistant", content="Hello."),
    ia.Message(role="user", content="And?"),
]


class Canned(BaseChatModel):
    """A LangChain chat model at the edge of the network: one answer, and a note of what it was asked."""

    answer: Any
    base_url: str = ""
    failures: list[Exception] = []
    asked: list[tuple[list[tuple[str, str]], dict[str, Any]]] = []

    @property
    def _llm_type(self) -> str:
        return "canned"

    def _generate(self, messages: list[BaseMessage], stop=None, run_manager=None, **settings: Any) -> ChatResult:
        self.asked.append(([(message.type, message.text) for message in messages], settings))
        if self.failures:
            raise self.failures.pop()
        if isinstance(self.answer, Exception):
            raise self.answer
        return ChatResult(generations=[ChatGeneration(message=self.answer)])


def ask(answer: object, parameters: ia.Parameters | None = None):
    chat = Canned(answer=answer)
    model = LangChainModel("canned:one", chat)
    return asyncio.run(model(TALK, parameters or ia.Parameters(), 5)), chat


def test_a_reply_comes_with_its_name_its_end_and_its_tokens() -> None:
    message = AIMessage(
        content="Well.",
        response_metadata={"model_name": "one-2026", "finish_reason": "stop"},
        usage_metadata={"input_tokens": 9, "output_tokens": 2, "total_tokens": 11},
    )
    reply, chat = ask(message, ia.Parameters(temperature=0.5, max_tokens=7, extra_body={"top_k": 3}))
    assert reply.model_dump() == {
        "text": "Well.", "model": "one-2026", "finish_reason": "stop", "prompt_tokens": 9, "completion_tokens": 2,
        "server": "canned", "sends": 1,
    }  # fmt: skip
    ((said, settings),) = chat.asked
    assert said == [("system", "Be kind."), ("human", "Hi."), ("ai", "Hello."), ("human", "And?")]
    assert settings == {"temperature": 0.5, "max_tokens": 7, "top_k": 3}


def test_content_in_blocks_is_read_as_its_text_and_a_model_without_a_name_keeps_ours() -> None:
    reply, _ = ask(AIMessage(content=[{"type": "text", "text": "One. "}, {"type": "text", "text": "Two."}]))
    assert (reply.text, reply.model, reply.finish_reason) == ("One. Two.", "canned:one", None)


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({"finish_reason": "STOP"}, "stop"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"done_reason": "length"}, "length"),
        ({}, None),
    ],
)
def test_the_end_of_a_reply_is_told_as_the_same_whatever_the_provider_calls_it(facts, kept: str | None) -> None:
    reply, _ = ask(AIMessage(content="Well.", response_metadata=facts))
    assert reply.finish_reason == kept


def test_a_reply_says_which_address_gave_it_and_after_how_many_requests() -> None:
    chat = Canned(answer=AIMessage(content="Well."), base_url="http://me:hidden@provider.example/v1?key=hidden")
    failures: list[Exception] = [ConnectionError("reset")]
    chat.failures = failures
    reply = asyncio.run(LangChainModel("canned:one", chat)(TALK, ia.Parameters(), 5))
    assert (reply.server, reply.sends) == ("http://provider.example/v1", 2)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (AIMessage(content="He", response_metadata={"finish_reason": "error"}), "broke off"),
        (AIMessage(content="He", response_metadata={"stop_reason": "refusal"}), "refused"),
        (AIMessage(content=" \n"), "answered nothing"),
        (AIMessage(content="", tool_calls=[{"name": "look", "args": {}, "id": "1"}]), "tool call where text was due"),
        (AIMessage(content="", additional_kwargs={"refusal": "I cannot."}), r"refused \(I cannot.\)"),
        (AIMessage(content="He", response_metadata={"finish_reason": "content_filter"}), r"refused \(content filter\)"),
    ],
)
def test_a_reply_that_cannot_be_used_is_bad_content(message: AIMessage, said: str) -> None:
    with pytest.raises(ia.BadContentError, match=said):
        ask(message)


def test_an_error_of_the_provider_ends_this_conversation_only_and_is_quoted_in_one_line() -> None:
    with pytest.raises(ia.FailedTreeError, match=r"canned:one: ValueError: too long: 9 tokens$"):
        ask(ValueError("too long:\n  9 tokens"))


def test_an_error_of_our_own_is_passed_on_as_it_is() -> None:
    with pytest.raises(ia.StopError, match="the budget is spent"):
        ask(ia.StopError("the budget is spent"))


@pytest.mark.parametrize("spec", ["nobody:model", "anthropic_without_package:claude"])
def test_a_provider_that_is_not_there_is_refused_in_one_line(spec: str) -> None:
    with pytest.raises(ia.ConfigError, match="a plug-in is MODULE:ATTRIBUTE") as caught:
        langchain_model(spec)
    assert "\n" not in str(caught.value)


def test_a_chat_model_object_can_be_named_as_a_plug_in(cli) -> None:
    from calls_seen import trees_of

    assert (
        cli("simulate", "run.db", "--trees", "1", "--turns", "1", "--candidate", "scripted_roles:fake_chat").code == 0
    )
    (judged,) = trees_of("run.db")
    assert [leaf.text for leaf in judged.tree.leaves()] == ["What do you like?"] * 2
