"""Teach a chat model to find out, while it talks, what this user likes, and to act on it."""

__version__ = "0.1.0"
