"""Text as it may safely be looked at: nothing in it can hide, reorder or end what stands around it."""

from markupsafe import Markup

from interalign.visible_text import shown

__all__ = ["shown", "visible"]


def visible(value: object) -> object:
    """For a template environment's `finalize`: every text it prints as `shown`; markup and other values as they are."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
