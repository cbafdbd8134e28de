"""Recorded conversations, in the forms that others write them in, to trees."""

from interalign.conversations.importing import ImportedTrees, import_trees

__all__ = ["ImportedTrees", "import_trees"]
