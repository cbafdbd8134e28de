"""Randomness is addressed, not drawn: every random choice has a seed made from where it is made."""

import hashlib
import random


def addressed_seed(*address: str | int) -> int:
    """A 63-bit seed for this address (run seed, tree, node, purpose, ...): same address, same seed, always."""
    text = "\x1f".join(f"{type(part).__name__[0]}{part}" for part in address)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def addressed_rng(*address: str | int) -> random.Random:
    """A generator seeded by this address."""
    return random.Random(addressed_seed(*address))
