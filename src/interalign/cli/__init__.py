"""The command line and what a terminal shows."""

from interalign.cli.app import app, main

__all__ = ["app", "main"]
