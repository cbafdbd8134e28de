"""The run file: one SQLite database per run. All SQL of the project is in this package."""

from interalign.store.store import Store

__all__ = ["Store"]
