"""The protocol between a run and the worker processes of an `hf:` model: JSON lines, all ASCII.

To a worker goes one line that says which model to load, then one line a batch, a list of calls. From it comes
`{"loaded": true}` or `{"error": ...}`, and then, for each batch, any of

    {"begun": [0, 2]}                prefill of these calls, by their place in the batch, has begun
    {"call": 0, "reply": {...}}      a reply
    {"call": 2, "error": {...}}      or an error, by the name of its class
    {"warning": "..."}               something for the user to know
    {"done": true}                   every call of the batch is answered
"""

import json
from typing import Any

from interalign.errors import BadContentError, ConfigError, FailedTreeError, InteralignError, StopError
from interalign.models.base import Parameters
from interalign.models.local.request import GenerationJob
from interalign.records import Reply
from interalign.tree import Message

_ERRORS = {kind.__name__: kind for kind in (ConfigError, FailedTreeError, StopError)}


def line_of(value: Any) -> bytes:
    """A JSON value as one line; lone surrogates are escaped and so come through as they are."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def job_out(job: GenerationJob) -> dict[str, Any]:
    """A call, for the worker."""
    return {
        "messages": [[message.role, message.content] for message in job.messages],
        "parameters": job.parameters.model_dump(mode="json", exclude_defaults=True),
        "seed": job.seed,
    }


def job_in(said: dict[str, Any]) -> GenerationJob:
    """A call, in the worker."""
    messages = [Message(role=role, content=content) for role, content in said["messages"]]
    return GenerationJob(messages, Parameters.model_validate(said["parameters"]), said["seed"])


def answer_out(job: GenerationJob) -> dict[str, Any]:
    """The reply to a call that is done, or its error."""
    error = job.future.exception()
    return {"reply": job.future.result().model_dump(mode="json")} if error is None else error_out(error)


def answer_in(job: GenerationJob, said: dict[str, Any]) -> None:
    """Give the call its reply or its error."""
    if "error" in said:
        job.future.set_exception(error_in(said))
    else:
        job.future.set_result(Reply.model_validate(said["reply"]))


def error_out(error: BaseException) -> dict[str, Any]:
    """An error, for the run."""
    said: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, BadContentError):
        said |= {"reply": error.reply, "tokens": error.tokens}
    return {"error": said}


def error_in(said: dict[str, Any]) -> InteralignError:
    """The same error, in the run."""
    error = said["error"]
    if error["kind"] == BadContentError.__name__:
        prompt, reply = error["tokens"]
        return BadContentError(error["message"], error["reply"], (prompt, reply))
    return _ERRORS.get(error["kind"], StopError)(error["message"])
