"""Local weights as a chat model: `hf:PATH_OR_ID[?history=N&max_new_tokens=N&dtype=NAME&max_batch=N&...]`.

Calls that arrive while a batch is running form the next one. One thread runs the batches, so the event loop stays free,
and a reply depends on its own prompt, settings and seed, not on who shared its batch, nor on what was read before: keys
and values of prompts and replies are kept (prefixes.py), so that the next turn reads only what is new. With `workers`
that many processes do so side by side (process.py, worker.py), and a conversation stays with the one that knows it.
"""

from interalign.models.local.engine import last_turns
from interalign.models.local.model import LocalModel, from_spec, hf_model
from interalign.models.local.options import LocalOptions

__all__ = ["LocalModel", "LocalOptions", "from_spec", "hf_model", "last_turns"]
