"""What servers answer to a chat completion, each as it was met somewhere, and what it means.

Texts are shortened and details replaced. The table is read by the pure functions; at the end the kinds that need a
server are sent over loopback.
"""

import asyncio
import gzip
import json
from typing import Any

import fault_server
import pytest

import interalign as ia
from interalign.errors import BadContentError, FailedTreeError, InteralignError, StopError
from interalign.models.faults import AttemptContext, Transient, fault_of_status, read_reply
from interalign.models.openai import openai_model

ASKED = AttemptContext("http://s/v1", "openai:m", 3)
SENT = ("temperature", "top_p", "max_tokens", "seed", "model", "messages", "stream")
KINDS = {Transient: "again", BadContentError: "bad", StopError: "stop", FailedTreeError: "tree"}


def met(status: int, body: Any, headers: dict[str, str] | None = None) -> str:
    """`reply TEXT`, or the kind of fault and its message: `again`, `bad`, `stop` or `tree`."""
    text = body if isinstance(body, str) else json.dumps(body)
    try:
        if status == 200:
            return f"reply {read_reply(ASKED, text.encode()).text}"
        raise fault_of_status(ASKED, status, headers or {}, text, SENT)
    except (Transient, InteralignError) as fault:
        return f"{KINDS[type(fault)]} {fault}"


def choice(finish: object = "stop", **message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}


def answer(*choices: dict[str, Any], **top: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 20, "completion_tokens": 5}
    return {"id": "x", "object": "chat.completion", "model": "m", "choices": list(choices), "usage": usage, **top}


RYE = choice(content="Try rye.")
GOOD = json.dumps(answer(RYE))


def sse(*events: object, done: bool = True) -> str:
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
    return "\n\n".join([*lines, *(["data: [DONE]"] if done else [])]) + "\n\n"


def delta(finish: str | None = None, **piece: Any) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "delta": piece, "finish_reason": finish}],
    }


STREAM = (delta(role="assistant", content=""), delta(content="Try "), delta(content="rye."), delta("stop"))


def error(message: object, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


# Replies, however they come

READ: dict[str, Any] = {
    "as it should be": answer(RYE),
    "parts of text": answer(choice(content=[{"type": "text", "text": "Try "}, {"type": "text", "text": "rye."}])),
    "parts, reasoning left out": answer(
        choice(content=[{"type": "reasoning", "text": "SECRET"}, {"type": "text", "text": "Try rye."}])
    ),
    "parts, thinking left out": answer(
        choice(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "S"}]}, {"text": "Try rye."}])
    ),
    "parts, plain strings": answer(choice(content=["Try ", "rye."])),
    "parts, output_text": answer(choice(content=[{"type": "output_text", "text": "Try rye."}])),
    "one part, no list": answer(choice(content={"type": "text", "text": "Try rye."})),
    "text in the second choice": answer(choice(content=None), choice(content="Try rye.")),
    "legacy text": answer({"index": 0, "text": "Try rye.", "finish_reason": "stop"}),
    "message null, delta": answer({"message": None, "delta": {"content": "Try rye."}, "finish_reason": "stop"}),
    "no finish reason": answer({"message": {"content": "Try rye."}}),
    "finish reason null": answer(choice(None, content="Try rye.")),
    "error null": answer(RYE, error=None),
    "base_resp of success": answer(RYE, base_resp={"status_code": 0, "status_msg": "success"}),
    "beside reasoning": answer(choice(content="Try rye.", reasoning_content="The user likes bread.")),
    "usage null": answer(RYE, usage=None),
    "NaN beside it": GOOD.replace('"id": "x"', '"id": NaN, "score": -Infinity'),
    "a byte order mark": "\ufeff" + GOOD,
    "empty lines before it": "\n\n   \n" + GOOD,
    "[DONE] behind it": GOOD + "\n\ndata: [DONE]\n\n",
    "text behind it": GOOD + "\nserved by gateway 3",
    "twice": GOOD + GOOD,
    "twice, in lines": GOOD + "\n" + GOOD,
    "in a list": f"[{GOOD}]",
    "in a text": json.dumps(GOOD),
    "in a gateway's own object": {"code": 0, "msg": "ok", "data": answer(RYE)},
    "a message that is a text": answer({"index": 0, "message": "Try rye.", "finish_reason": "stop"}),
    "a stream of two choices": sse(
        {"choices": [{"index": 1, "delta": {"content": "No"}}]},
        *STREAM,
        {"choices": [{"index": 1, "delta": {"content": "!"}}]},
    ),
    "a stream that begins with no choice": sse({"choices": [], "prompt_filter_results": []}, *STREAM),
    "a stream that says when to retry": "retry: 3000\n\n" + sse(*STREAM),
    "a line break in a text": GOOD.replace("Try rye.", "Try rye.").replace('"id": "x"', '"id": "x\ny"'),
    "a stream": sse(*STREAM),
    "a stream without [DONE]": sse(*STREAM, done=False),
    "a stream without an end reason": sse(*STREAM[:3]),
    "a stream with CRLF": sse(*STREAM).replace("\n", "\r\n"),
    "a stream without blank lines": sse(*STREAM).replace("\n\n", "\n"),
    "a stream with comments": sse(": OPENROUTER PROCESSING", *STREAM[:2], ": keep-alive", *STREAM[2:]),
    "a stream with events named": sse(*STREAM).replace("data:", "event: message\ndata:"),
    "a stream whose usage comes last": sse(*STREAM, {"choices": [], "usage": {"completion_tokens": 5}}),
    "a stream, the whole message at its end": sse(*STREAM[:3], answer(RYE)),
    "a stream of one whole answer": sse(answer(RYE)),
    "JSON behind comments": f": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n{GOOD}\n",
    "chunks as JSON lines": "\n".join(map(json.dumps, STREAM)),
    "lines in Ollama's own form": '{"model":"m","message":{"content":"Try "},"done":false}\n'
    '{"message":{"content":"rye."},"done":true,"done_reason":"stop"}\n',
}


@pytest.mark.parametrize("body", READ.values(), ids=READ)
def test_a_reply_is_read_in_whatever_wrapping_it_comes(body: Any) -> None:
    assert met(200, body) == "reply Try rye."


def test_the_count_of_a_stream_is_that_of_its_end() -> None:
    ends = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 5}}
    reply = read_reply(ASKED, sse(*STREAM, ends).encode())
    assert (reply.prompt_tokens, reply.completion_tokens, reply.finish_reason, reply.model) == (20, 5, "stop", "m")


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 20.0, "completion_tokens": 5.0}, (20, 5)),
        ({"prompt_tokens": None, "completion_tokens": -1}, (0, 0)),
        ({"input_tokens": 20, "output_tokens": 5}, (20, 5)),
        ({"prompt_tokens": "many"}, (0, 0)),
        ([], (0, 0)),
    ],
)
def test_tokens_are_what_the_server_counted(usage: object, counted: tuple[int, int]) -> None:
    reply = read_reply(ASKED, json.dumps(answer(RYE, usage=usage)).encode())
    assert (reply.prompt_tokens, reply.completion_tokens) == counted


# How a reply ended

ENDINGS = {
    "stop": [
        "stop",
        "STOP",
        "eos",
        "eos_token",
        "end_turn",
        "stop_sequence",
        "tool_calls",
        "function_call",
        "FinishReason.STOP",
        "FINISH_REASON_STOP",
        {"type": "stop", "matched": 7},
    ],
    "length": ["length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "Length"],
    None: [None, "", "null", "none", "FINISH_REASON_UNSPECIFIED", 0],
}


@pytest.mark.parametrize(("told", "kept"), [(told, kept) for kept, names in ENDINGS.items() for told in names])
def test_the_names_of_an_ending_are_kept_as_the_usual_one(told: object, kept: str | None) -> None:
    assert read_reply(ASKED, json.dumps(answer(choice(told, content="Try rye."))).encode()).finish_reason == kept


@pytest.mark.parametrize(
    ("told", "said"),
    [
        *(
            (name, "broke off")
            for name in ("error", "abort", "insufficient_system_resource", "network_error", "unknown")
        ),
        *((name, "broke off") for name in ("other", "ERROR", "cancelled", "something_new")),
        *((name, "refused") for name in ("content_filter", "SAFETY", "safety", "sensitive", "RECITATION", "refusal")),
        *((name, "refused") for name in ("PROHIBITED_CONTENT", "guardrail_intervened")),
    ],
)
def test_a_reply_that_a_filter_or_a_fault_ended_is_never_used(told: str, said: str) -> None:
    assert met(200, answer(choice(told, content="You could try a"))).startswith(f"bad openai:m {said}")


BAD: dict[str, tuple[Any, str]] = {
    "null": (answer(choice(content=None)), "answered nothing"),
    "blank": (answer(choice(content=" \n")), "answered nothing"),
    "no choices": (answer(), "gave no choices"),
    "choices null": (answer(choices=None), "gave no choices"),
    "a refusal": (answer(choice(content=None, refusal="I cannot.")), "refused (I cannot.)"),
    "a tool call": (answer(choice("tool_calls", content=None, tool_calls=[{"id": "1"}])), "tool call"),
    "reasoning_content only": (answer(choice(content=None, reasoning_content="Try.")), "the field reasoning_content"),
    "reasoning only": (answer(choice(content="", reasoning="Try.")), "the field reasoning: turn its thinking off"),
    "reasoning only, cut": (answer(choice("length", content="", reasoning="Try.")), "max_tokens ended the reply"),
    "parts of reasoning only": (
        answer(choice(content=[{"type": "thinking", "thinking": "x"}])),
        "parts that are no text",
    ),
    "half a reply with its error": (
        answer({**choice("error", content="You could"), "error": {"code": 502, "message": "Provider disconnected"}}),
        "broke off (Provider disconnected)",
    ),
    "an error beside a reply": (answer(RYE, **error("upstream reset")), "broke off (upstream reset)"),
    "a stream with an error in it": (
        sse(*STREAM[:2], {"error": {"code": 502, "message": "Provider disconnected"}}, done=False),
        "broke off (Provider disconnected)",
    ),
    "a stream that a filter ended": (sse(*STREAM[:2], delta("content_filter")), "refused (content filter)"),
    "a stream of reasoning only": (sse(delta(reasoning_content="Hm."), delta("stop")), "the field reasoning_content"),
}


@pytest.mark.parametrize(("body", "said"), BAD.values(), ids=BAD)
def test_what_holds_no_usable_reply_is_bad_content(body: Any, said: str) -> None:
    outcome = met(200, body)
    assert outcome.startswith("bad openai:m ")
    assert said in outcome


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "nothing at all"),
        (" \n ", "nothing at all"),
        ("<html><head><title>Sign in</title></head><body>x</body></html>", "a page in place of an answer: Sign in"),
        ("<!DOCTYPE html><html><body><h1>Welcome &amp; hello</h1></body></html>", "Welcome & hello"),
        ('{"choices": [{"mess', '{"choices": [{"mess'),
        ("ok", "ok"),
        ('{"status": "ok"}', '{"status": "ok"}'),
        ('{"object": "list", "data": []}', '{"object": "list", "data": []}'),
        ("[]", "[]"),
        ("null", "null"),
        (json.dumps({"error": "something"}), "something"),
        (json.dumps({"detail": "something"}), "something"),
        (sse(*STREAM[:3], done=False), "data:"),
        (": keep-alive\n\n", ": keep-alive"),
    ],
)
def test_what_is_no_chat_completion_is_quoted_and_asked_for_again(body: str, said: str) -> None:
    with pytest.raises(Transient) as fault:
        read_reply(ASKED, body.encode())
    assert fault.value.no_answer
    assert said in str(fault.value)


# Errors, in whatever status and words

QUOTA: dict[str, tuple[int, Any]] = {
    "OpenRouter, a key's limit": (403, error("Key limit exceeded (total limit).", code=403)),
    "Moonshot, inactive": (
        429,
        error("Your account org-x is not active, current state: suspended", type="account_inactive"),
    ),
    "Gemini, a place": (400, [error("User location is not supported for the API use.", status="FAILED_PRECONDITION")]),
    "a bare 402": (402, ""),
    "403, exceeded": (403, {"error": "quota exceeded"}),
    "OpenAI": (
        429,
        error(
            "You exceeded your current quota, please check your plan and billing details.",
            type="insufficient_quota",
            code="insufficient_quota",
        ),
    ),
    "Anthropic, as 400": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
            },
        },
    ),
    "Anthropic, a limit of one's own": (
        400,
        error(
            "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
            type="invalid_request_error",
        ),
    ),
    "DeepSeek": (402, error("Insufficient Balance", type="unknown_error", code="invalid_request_error")),
    "Moonshot": (
        429,
        error(
            "Your account is suspended, please check your plan and billing details", type="exceeded_current_quota_error"
        ),
    ),
    "MiniMax": (429, error("insufficient balance (1008)", type="insufficient_balance_error", http_code="429")),
    "MiniMax, as 200": (
        200,
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
    ),
    "Zhipu": (429, error("您的账户已欠费,请充值后重试", code="1113")),
    "Zhipu, as 200": (200, {"code": 1113, "msg": "Your account is in arrears"}),
    "Zhipu, a window": (429, error("Usage limit reached for 5 hour.", code="1308")),
    "DashScope": (400, error("Access denied, please make sure your account is in good standing.", code="Arrearage")),
    "SiliconFlow": (403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}),
    "a gateway": (403, {"code": "INSUFFICIENT_BALANCE", "message": "Insufficient account balance"}),
    "Volcengine": (
        403,
        error("The request failed because your account has an overdue balance.", code="AccountOverdueError"),
    ),
    "xAI, none yet": (
        403,
        {
            "code": "The caller does not have permission",
            "error": "Your newly created team doesn't "
            "have any credits yet. You can purchase credits on https://console.x.ai",
        },
    ),
    "xAI, used up": (
        429,
        {
            "code": "Some resource has been exhausted",
            "error": "Your team has either used all available credits or reached its monthly spending limit.",
        },
    ),
    "Together": (402, error("Credit limit exceeded, please navigate to billing to upgrade", type="credit_limit")),
    "Hugging Face": (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
    "NVIDIA": (402, {"status": 402, "title": "Payment Required", "detail": "Account 'x': Cloud credits expired"}),
    "OpenRouter": (
        402,
        error(
            "This request requires more credits, or fewer max_tokens. You requested up to 100 tokens, "
            "but can only afford 9.",
            code=402,
        ),
    ),
    "OpenRouter, as 401": (401, error("Insufficient credits. Add more using https://openrouter.ai/credits", code=401)),
    "OpenRouter, a day": (
        429,
        error("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000", code=429),
    ),
    "OpenRouter, data policy": (404, error("No endpoints found matching your data policy.", code=404)),
    "Groq, tokens a day": (
        429,
        error(
            "Rate limit reached for model `m` on tokens per day (TPD): Limit 100000, Used "
            "99336, Requested 1500. Please try again in 12m2.3s.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    "OpenAI, requests a day": (
        429,
        error("Rate limit reached for m on requests per day (RPD): Limit 200, Used 200.", code="rate_limit_exceeded"),
    ),
    "Gemini, a day": (
        429,
        [
            error(
                "Quota exceeded for metric: generate_content_free_tier_requests, limit: 50",
                status="RESOURCE_EXHAUSTED",
                code=429,
                details=[{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}],
            )
        ],
    ),
    "Gemini, prepaid": (429, [error("Your prepayment credits are depleted.", status="RESOURCE_EXHAUSTED", code=429)]),
    "GitHub": (
        429,
        error(
            "Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 4000 seconds.",
            code="RateLimitReached",
        ),
    ),
    "Cerebras": (
        429,
        {
            "message": "Requests per day limit exceeded - too many requests sent.",
            "param": "quota",
            "type": "too_many_requests_error",
            "code": "request_quota_exceeded",
        },
    ),
    "Cloudflare": (
        429,
        {
            "success": False,
            "errors": [{"code": 4006, "message": "you have used up your daily free allocation of 10,000 neurons"}],
        },
    ),
    "Bedrock": (429, error("litellm.RateLimitError: Too many tokens per day, please wait before trying again.")),
    "LiteLLM": (400, error("Budget has been exceeded! Current cost: 0.11, Max budget: 0.1", type="budget_exceeded")),
    "Cohere": (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}),
    "Ollama": (403, {"error": "this model requires a subscription, upgrade for access"}),
    "a place": (403, error("Country, region, or territory not supported", code="unsupported_country_region_territory")),
    "with status 500": (500, error("Your quota is exhausted")),
    "with status 503": (503, {"detail": "Monthly limit reached"}),
}


@pytest.mark.parametrize(("status", "body"), QUOTA.values(), ids=QUOTA)
def test_a_quota_or_policy_stops_the_run_with_the_servers_words(status: int, body: Any) -> None:
    outcome = met(status, body)
    assert outcome.startswith(("stop http://s/v1: the quota is used up, or the balance (", "stop http://s/v1 may not"))


AGAIN: dict[str, tuple[int, Any]] = {
    "a minute, a day only with an upgrade": (429, error("Limit: 5 requests per minute. Upgrade for 1000 per day")),
    "OpenRouter, upstream": (
        429,
        error("Provider returned error", code=429, metadata={"raw": "m is temporarily rate-limited upstream."}),
    ),
    "DeepSeek": (503, error("Service is too busy.", type="service_unavailable_error")),
    "a quota that may be a minute's": (429, {"error": "quota exceeded"}),
    "nothing said": (429, ""),
    "OpenAI, a minute": (
        429,
        error(
            "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29000, "
            "Requested 2000. Please try again in 2s. Visit https://platform.openai.com/account/billing "
            "to add a payment method.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    "Groq, a minute": (
        429,
        error("Rate limit reached on requests per minute (RPM): Limit 30", code="rate_limit_exceeded"),
    ),
    "Azure": (
        429,
        error(
            "Requests to the ChatCompletions_Create Operation have exceeded call rate limit of your current "
            "OpenAI S0 pricing tier. Please retry after 6 seconds. Please go here: https://aka.ms/oai/quotaincrease "
            "if you would like to further increase the default rate limit.",
            code="429",
        ),
    ),
    "Gemini": (429, [error("Resource has been exhausted (e.g. check quota).", code=429, status="RESOURCE_EXHAUSTED")]),
    "Gemini, a minute": (
        429,
        [
            error(
                "You exceeded your current quota, please check your plan and billing details.",
                code=429,
                status="RESOURCE_EXHAUSTED",
            )
        ],
    ),
    "OpenRouter, a minute": (429, error("Rate limit exceeded: free-models-per-min.", code=429)),
    "Cerebras": (
        429,
        {
            "message": "Tokens per minute limit exceeded - too many tokens processed.",
            "param": "quota",
            "type": "too_many_tokens_error",
            "code": "token_quota_exceeded",
        },
    ),
    "Cohere": (429, {"message": "You are using a Trial key, which is limited to 10 API calls / minute."}),
    "GitHub": (429, error("Rate limit of 10 per 60s exceeded for UserByModelByMinute. Please wait 9 seconds.")),
    "Moonshot": (
        429,
        error("The engine is currently overloaded, please try again later", type="engine_overloaded_error"),
    ),
    "Mistral": (429, {"message": "Service tier capacity exceeded for this model.", "code": "3505"}),
    "Bedrock": (429, {"message": "Too many tokens, please wait before trying again."}),
    "DashScope": (
        429,
        error("Allocated quota exceeded, please increase your quota limit.", code="Throttling.AllocationQuota"),
    ),
    "MiniMax, as 200": (200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit, please retry later"}}),
    "Zhipu, as 200": (200, {"error": {"code": "1305", "message": "model is overloaded"}}),
    "429 as 200": (200, error("busy", code=429)),
    "502 as 200": (200, error("Provider returned error", code=502)),
    "a text for a code": (200, error("bad gateway", code="503")),
    "TGI": (429, {"error": "Model is overloaded", "error_type": "overloaded"}),
    "Anthropic": (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    "llama.cpp": (503, error("Loading model", code=503, type="unavailable_error")),
    "llama.cpp, as 500": (500, {"error": "Loading model"}),
    "Ollama": (400, {"error": "model is loading"}),
    "loading, as 200": (200, error("the model is loading", code="not_ready")),
    "Hugging Face": (503, {"error": "Model m is currently loading", "estimated_time": 20.0}),
    "nginx 502": (502, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"),
    "nginx 504": (504, "<html><head><title>504 Gateway Time-out</title></head></html>"),
    "Cloudflare 520": (520, "error code: 520"),
    "Cloudflare 522": (522, "<!DOCTYPE html><title>x | 522: Connection timed out</title>"),
    "Cloudflare 524": (524, "error code: 524"),
    "Cloudflare 530": (530, "error code: 1033"),
    "a flexible tier": (498, error("Flex tier capacity exceeded")),
    "the client was too slow": (499, ""),
    "a dependency": (424, error("Failed dependency")),
    "GitHub, as 403": (403, {"message": "API rate limit exceeded for user"}),
    "an inner error": (500, error("litellm.InternalServerError: OpenAIException - Connection error.")),
    "nothing at all": (500, ""),
    "vLLM": (500, {"object": "error", "message": "Internal server error", "type": "InternalServerError", "code": 500}),
}


@pytest.mark.parametrize(("status", "body"), AGAIN.values(), ids=AGAIN)
def test_what_passes_is_tried_again(status: int, body: Any) -> None:
    assert met(status, body).startswith("again ")


CONTEXT: dict[str, tuple[int, Any]] = {
    "OpenAI": (
        400,
        error(
            "This model's maximum context length is 512 tokens. However, your messages resulted in 517.",
            code="context_length_exceeded",
        ),
    ),
    "OpenAI, more than a minute holds": (
        429,
        error(
            "Request too large for m on tokens per min (TPM): Limit 10000, "
            "Requested 12000. The input or output tokens must be reduced.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    "Groq": (
        413,
        error(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000, please "
            "reduce your message size and try again.",
            code="rate_limit_exceeded",
        ),
    ),
    "Anthropic": (400, error("prompt is too long: 210000 tokens > 200000 maximum", type="invalid_request_error")),
    "Anthropic, with its reply": (400, error("input length and `max_tokens` exceed context limit: 190000 + 20000")),
    "Gemini": (
        400,
        [
            error(
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).",
                code=400,
                status="INVALID_ARGUMENT",
            )
        ],
    ),
    "vLLM": (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. Please reduce the "
            "length of the messages or completion.",
            "type": "BadRequestError",
            "code": 400,
        },
    ),
    "vLLM, what is left": (
        400,
        {"object": "error", "message": "max_tokens must be at least 1, got -200.", "code": 400},
    ),
    "vLLM, its decoder": (
        400,
        error("The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    ),
    "SGLang": (
        400,
        {"object": "error", "message": "The input (5000 tokens) is longer than the model's context length."},
    ),
    "llama.cpp": (
        400,
        error(
            "the request exceeds the available context size, try increasing it",
            code=400,
            type="exceed_context_size_error",
            n_ctx=4096,
        ),
    ),
    "llama.cpp, as 500": (500, error("Context size has been exceeded.", code=500, type="server_error")),
    "Ollama": (400, {"error": "the input length exceeds the context length"}),
    "LM Studio": (400, {"error": "The model is loaded with context length of only 4096 tokens, which is not enough."}),
    "TGI": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
            "error_type": "validation",
        },
    ),
    "TGI, input alone": (
        422,
        {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"},
    ),
    "Mistral": (
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
            "code": "3051",
        },
    ),
    "Moonshot": (400, error("Invalid request: Your request exceeded model token limit: 8192")),
    "DashScope": (400, error("Range of input length should be [1, 30720]", code="invalid_parameter_error")),
    "Zhipu": (400, error("Prompt 超长", code="1261")),
    "Bedrock": (400, {"message": "Input is too long for requested model."}),
    "Cohere": (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}),
    "as 200": (200, error("This model's maximum context length is 512 tokens", code=400)),
    "as 200, no status": (200, error("This model's maximum context length is 512 tokens")),
}


@pytest.mark.parametrize(("status", "body"), CONTEXT.values(), ids=CONTEXT)
def test_a_conversation_that_is_too_long_fails_its_tree_at_once(status: int, body: Any) -> None:
    outcome = met(status, body)
    assert outcome.startswith("tree ")
    assert "turn 3 is too long for the model: " in outcome


FILTERED: dict[str, tuple[int, Any]] = {
    "LiteLLM": (400, error("litellm.ContentPolicyViolationError: AzureException - The response was filtered")),
    "OpenRouter": (
        403,
        error(
            'm requires moderation on Provider. Your input was flagged for "violence".',
            code=403,
            metadata={"reasons": ["violence"], "flagged_input": "x"},
        ),
    ),
    "Azure": (
        400,
        error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            param="prompt",
            code="content_filter",
            status=400,
            innererror={"code": "ResponsibleAIPolicyViolation"},
        ),
    ),
    "OpenAI": (400, error("Your request was rejected as a result of our safety system.", code="moderation_blocked")),
    "OpenAI, reasoning": (
        400,
        error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"
        ),
    ),
    "DeepSeek": (400, error("Content Exists Risk", type="invalid_request_error")),
    "DashScope": (400, error("Input data may contain inappropriate content.", code="data_inspection_failed")),
    "DashScope, output": (
        400,
        {"code": "DataInspectionFailed", "message": "Output data may contain inappropriate content."},
    ),
    "Moonshot": (400, error("The request was rejected because it was considered high risk", type="content_filter")),
    "Zhipu": (400, error("系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301")),
    "MiniMax, as 200": (200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}),
    "Volcengine": (
        400,
        error(
            "The request failed because the input text may contain sensitive information.",
            code="SensitiveContentDetected",
        ),
    ),
    "StepFun": (451, error("The content you provided or machine outputted is blocked.", type="censorship_blocked")),
    "xAI": (403, {"error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}),
    "Anthropic": (400, error("Output blocked by content filtering policy", type="invalid_request_error")),
    "as 500": (500, error("content policy violation")),
    "as 422": (422, {"detail": "Prompt flagged by moderation"}),
}


@pytest.mark.parametrize(("status", "body"), FILTERED.values(), ids=FILTERED)
def test_a_filtered_request_is_bad_content_for_this_call_only(status: int, body: Any) -> None:
    assert met(status, body).startswith("bad http://s/v1 let a content filter stop openai:m (")


def detail(field: str, kind: str = "extra_forbidden", said: str = "Extra inputs are not permitted") -> dict[str, Any]:
    return {"detail": [{"type": kind, "loc": ["body", field], "msg": said, "input": 7}]}


FIELDS: dict[str, tuple[int, Any, str]] = {
    "a capital": (400, error("Temperature is not supported"), "temperature"),
    "only one value": (400, error("This model only supports temperature=1.0"), "temperature"),
    "to be set": (400, error("You must set temperature to 1"), "temperature"),
    "Bedrock, a key": (400, {"message": "Malformed input request: extraneous key [seed] is not permitted"}, "seed"),
    "Zod": (400, error("Unrecognized key(s) in object: 'seed'"), "seed"),
    "OpenRouter": (404, error("No endpoints found that support the requested parameters: seed"), "seed"),
    "vLLM, as Python": (
        400,
        error("[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}]"),
        "seed",
    ),
    "a union": (
        422,
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "f[x]", "seed"], "msg": "Extra inputs"}]},
        "seed",
    ),
    "vLLM": (400, {"object": "error", "message": json.dumps(detail("seed")["detail"]), "code": 400}, "seed"),
    "Mistral": (422, detail("seed"), "seed"),
    "Mistral, within message": (422, {"object": "error", "message": detail("seed")}, "seed"),
    "pydantic 1": (422, detail("seed", "value_error.extra", "extra fields not permitted"), "seed"),
    "Groq": (400, error("property 'seed' is unsupported", type="invalid_request_error"), "seed"),
    "OpenAI": (
        400,
        error(
            "Unsupported parameter: 'temperature' is not supported with this model.",
            param="temperature",
            code="unsupported_parameter",
        ),
        "temperature",
    ),
    "OpenAI, the value": (
        400,
        error(
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the "
            "default (1) value is supported.",
            param="temperature",
            code="unsupported_value",
        ),
        "temperature",
    ),
    "OpenAI, words only": (
        400,
        error(
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the "
            "default (1) value is supported."
        ),
        "temperature",
    ),
    "OpenAI, long ago": (400, error("Unrecognized request argument supplied: top_k"), "top_k"),
    "OpenAI, unknown": (400, error("Unknown parameter: 'top_k'.", code="unknown_parameter", param="top_k"), "top_k"),
    "Bedrock": (
        400,
        {"message": "This model doesn't support the temperature field. Remove temperature and try again."},
        "temperature",
    ),
    "a router": (400, error("m does not support the 'temperature' parameter"), "temperature"),
    "Anthropic": (400, error("seed: Extra inputs are not permitted", type="invalid_request_error"), "seed"),
    "Anthropic, two": (
        400,
        error("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
        "temperature",
    ),
    "Anthropic, old": (400, error("`temperature` is deprecated for this model."), "temperature"),
    "Gemini": (
        400,
        [
            error(
                'Invalid JSON payload received. Unknown name "seed": Cannot find field.',
                code=400,
                status="INVALID_ARGUMENT",
            )
        ],
        "seed",
    ),
    "Moonshot": (400, error("invalid temperature: only 1 is allowed for this model"), "temperature"),
    "TGI": (
        422,
        {"error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation"},
        "temperature",
    ),
    "Go": (400, {"error": 'json: unknown field "seed"'}, "seed"),
    "Rust": (
        422,
        "Failed to deserialize the JSON body: unknown field `seed`, expected one of `model`, `messages`",
        "seed",
    ),
    "Python": (500, {"detail": "generate() got an unexpected keyword argument 'seed'"}, "seed"),
    "JSON schema": (400, error("Additional properties are not allowed ('seed' was unexpected)"), "seed"),
    "LiteLLM": (
        400,
        error(
            "litellm.UnsupportedParamsError: x does not support parameters: ['seed'], for model=m. To "
            "drop these, set `litellm.drop_params=True`"
        ),
        "seed",
    ),
    "LiteLLM, a mapping": (
        400,
        error("litellm.UnsupportedParamsError: x does not support parameters: {'seed': 5}"),
        "seed",
    ),
    "too large": (
        400,
        error("max_tokens is too large: 9999. This model supports at most 4096 completion tokens"),
        "max_tokens",
    ),
    "a range": (400, error("Range of max_tokens should be [1, 8192]", code="invalid_parameter_error"), "max_tokens"),
    "out of range": (
        400,
        error(
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
            param="temperature",
            code="decimal_above_max_value",
        ),
        "temperature",
    ),
    "behind a router": (
        400,
        error(
            "Provider returned error", code=400, metadata={"raw": json.dumps(error("property 'seed' is unsupported"))}
        ),
        "seed",
    ),
    "not supported": (400, {"message": "Argument not supported: seed"}, "seed"),
    "parameter first": (400, error("Parameter 'seed' is not supported by this model"), "seed"),
}


@pytest.mark.parametrize(("status", "body", "field"), FIELDS.values(), ids=FIELDS)
def test_a_field_that_the_server_does_not_take_stops_the_run_and_is_named(status: int, body: Any, field: str) -> None:
    outcome = met(status, body)
    assert outcome.startswith(f"stop http://s/v1: openai:m does not take {field!r} (")
    drop = "take top_k out of" if field == "top_k" else f"{{ROLE: {{{field}: null}}}}"
    assert drop in outcome


KEYS: dict[str, tuple[int, Any]] = {
    "OpenAI": (401, error("Incorrect API key provided", code="invalid_api_key")),
    "Gemini, as 400": (
        400,
        [error("API key not valid. Please pass a valid API key.", code=400, status="INVALID_ARGUMENT")],
    ),
    "Azure": (401, error("Access denied due to invalid subscription key or wrong API endpoint.", code="401")),
    "OpenRouter": (401, error("No auth credentials found", code=401)),
    "Zhipu": (401, error("Authorization Token非法,请确认Authorization Token正确传递。", code="1002")),
    "MiniMax, as 200": (
        200,
        {"base_resp": {"status_code": 1004, "status_msg": "login fail: carry the API secret key"}},
    ),
    "as 403": (403, {"message": "Invalid API key"}),
    "401 as 200": (200, error("who?", code=401)),
    "nothing said": (401, ""),
}


@pytest.mark.parametrize(("status", "body"), KEYS.values(), ids=KEYS)
def test_a_wrong_key_stops_the_run(status: int, body: Any) -> None:
    assert met(status, body).startswith("stop http://s/v1 refused the key; set OPENAI_API_KEY and run the same command")


MODELS: dict[str, tuple[int, Any]] = {
    "OpenAI": (404, error("The model `m` does not exist or you do not have access to it.", code="model_not_found")),
    "Ollama": (404, {"error": "model 'm' not found"}),
    "vLLM": (
        404,
        {"object": "error", "message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404},
    ),
    "DeepSeek": (400, error("Model Not Exist", type="invalid_request_error")),
    "Mistral": (400, {"message": "Invalid model: m", "type": "invalid_model"}),
    "OpenRouter": (400, error("m is not a valid model ID", code=400)),
    "OpenRouter, none": (404, error("No endpoints found for m.", code=404)),
    "LiteLLM": (400, error("Invalid model name passed in model=m. Call `/v1/models`")),
    "LM Studio": (404, error("No models loaded. Please load a model in the developer page.")),
    "xAI": (400, {"code": "Client specified an invalid argument", "error": "Model not found: m"}),
    "Azure": (404, error("The API deployment for this resource does not exist.", code="DeploymentNotFound")),
    "Together": (404, error("Unable to access model m. Please visit https://api.together.ai/models")),
    "a wrong path": (404, {"detail": "Not Found"}),
    "a wrong path in nginx": (404, "<html><head><title>404 Not Found</title></head></html>"),
    "a wrong method": (405, {"detail": "Method Not Allowed"}),
}


@pytest.mark.parametrize(("status", "body"), MODELS.values(), ids=MODELS)
def test_a_model_that_is_not_there_stops_the_run_and_is_named(status: int, body: Any) -> None:
    assert met(status, body).startswith(f"stop http://s/v1 has no model 'openai:m' ({status})")


STOPPED: dict[str, tuple[int, Any, dict[str, str], str]] = {
    "http where https is spoken": (
        400,
        "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
        {},
        "http://s/v1 speaks https (400: 400 The plain HTTP",
    ),
    "no permission": (
        403,
        error("You are not allowed to sample from this model"),
        {},
        "refuses access to openai:m (403: You",
    ),
    "a firewall": (403, "<html><head><title>Just a moment...</title></head></html>", {}, "(403: Just a moment...)"),
    "a login page": (
        302,
        "",
        {"location": "https://login.example/?from=x"},
        "elsewhere (302 to https://login.example/)",
    ),
    "moved": (301, "<html><title>301</title></html>", {"location": "https://s/v1"}, "name the right address"),
    "a proxy's login": (407, "", {}, "the proxy before http://s/v1 wants a login (407)"),
    "a captive portal": (511, "<html><title>Log in to the Wi-Fi</title></html>", {}, "(511: Log in to the Wi-Fi)"),
}


@pytest.mark.parametrize(("status", "body", "headers", "said"), STOPPED.values(), ids=STOPPED)
def test_what_only_a_person_can_mend_stops_the_run(status: int, body: Any, headers: dict[str, str], said: str) -> None:
    outcome = met(status, body, headers)
    assert outcome.startswith("stop ")
    assert said in outcome


WORDS: dict[str, tuple[Any, str]] = {
    "an object": (error("Bad thing"), "Bad thing"),
    "a text": ({"error": "Bad thing"}, "Bad thing"),
    "nested": ({"error": {"error": {"message": "Bad thing"}}}, "Bad thing"),
    "a list": ([error("Bad thing")], "Bad thing"),
    "detail": ({"detail": "Bad thing"}, "Bad thing"),
    "detail list": (
        {"detail": [{"loc": ["body", "messages", 0], "msg": "Bad thing", "type": "x"}]},
        "messages: Bad thing",
    ),
    "message list": ({"message": ["Bad thing", "Worse thing"], "error": "Bad Request"}, "Bad thing; Worse thing"),
    "errors": ({"errors": [{"code": 7, "message": "Bad thing"}]}, "Bad thing"),
    "a page": ("<html><head><title>413 Too Large</title></head><body>x</body></html>", "413 Too Large"),
    "a page without a title": ("<html><body><style>b{}</style><p>Bad\n <b>thing</b></p></body></html>", "Bad thing"),
    "plain text": ("Bad thing", "Bad thing"),
    "an unknown object": ({"weather": "bad"}, '{"weather": "bad"}'),
    "what a router's provider said": (
        error("Provider returned error", metadata={"raw": '{"error": "Bad thing"}'}),
        "Provider returned error: Bad thing",
    ),
    "JSON in a text": (error('{"message": "Bad thing"}'), "Bad thing"),
    "an event": ('data: {"error": {"message": "Bad thing"}}\n\n', "Bad thing"),
}


@pytest.mark.parametrize(("body", "said"), WORDS.values(), ids=WORDS)
def test_a_refusal_is_told_in_the_servers_own_words(body: Any, said: str) -> None:
    assert met(400, body) == f"tree http://s/v1 refused a request to openai:m (400): {said}"


def test_the_same_refusal_of_two_requests_is_known_by_what_it_is_the_same_in() -> None:
    one, two = (fault_of_status(ASKED, 400, {}, f'{{"error": "Request {n} is bad"}}') for n in (17, "req4ab"))
    assert isinstance(one, FailedTreeError)
    assert isinstance(two, FailedTreeError)
    assert one.same == two.same == ("http://s/v1", "openai:m", "400", "Request  is bad")
    assert str(one) != str(two)
    assert FailedTreeError("other").same == ()


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (error("Please try again in 6m0s."), 360.0),
        (error("Please try again in 354ms."), 0.354),
        (error("Please retry after 6 seconds."), 6.0),
        (error("Please wait 4000 seconds before retrying."), 4000.0),
        (error("x", details=[{"@type": "RetryInfo", "retryDelay": "34s"}]), 34.0),
        (error("Try again later."), None),
    ],
)
def test_the_wait_may_stand_in_the_words(body: Any, seconds: float | None) -> None:
    fault = fault_of_status(ASKED, 429, {}, json.dumps(body))
    assert isinstance(fault, Transient)
    assert fault.wait == seconds


@pytest.mark.parametrize("named", [True, False])
def test_a_reply_that_comes_packed_though_nobody_asked_for_it_is_read(named: bool) -> None:
    packed = gzip.compress(GOOD.encode()).decode("latin-1")
    headers = {"content-encoding": "gzip"} if named else {}

    async def ask(url: str) -> str:
        model = openai_model("openai:m", ia.Runtime(base_url=url, deadline=2))
        try:
            return (await model([ia.Message(role="user", content="Hi.")], ia.Parameters(), 0)).text
        finally:
            await model.close()

    with fault_server.serving(lambda body: {"bytes": packed, "headers": headers}) as server:
        assert asyncio.run(ask(server.url)) == "Try rye."
    assert "Accept-Encoding: identity" in server.headers[0]
