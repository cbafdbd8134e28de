"""Export formats, one a file: from a judged tree to training rows. `registries.FORMATS` names them."""

from interalign.training.formats.base import ExportFormat, Row, UserSeat, message, place, transcript

__all__ = ["ExportFormat", "Row", "UserSeat", "message", "place", "transcript"]
