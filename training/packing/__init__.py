"""Sequences that begin alike, read once: a token trie laid out for one forward pass (tree packing, prefix sharing)."""
