"""The version of interalign."""

__version__ = "0.1.0"
