"""Local weights as a chat model: `hf:PATH_OR_ID[?history=N&max_new_tokens=N&max_batch=N&dtype=NAME&cache_mb=N]`.

Calls that arrive while a batch is running form the next one. One worker thread runs the batches, so the event loop
stays free, and a reply depends on its own prompt, settings and seed, not on who shared its batch, nor on what was read
before: keys and values of prompts and replies are kept (prefixes.py), so that the next turn reads only what is new.
"""

from interalign.models.local.model import LocalModel, LocalOptions, hf_model, last_turns

__all__ = ["LocalModel", "LocalOptions", "hf_model", "last_turns"]
