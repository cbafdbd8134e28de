"""Bad rows of a file, all told at once: one refusal that names them with their reasons."""

from collections.abc import Iterator
from contextlib import contextmanager

from interalign.errors import DataError

_SHOWN = 20
"""As many bad rows are told with their reasons; of more, how many."""


class BadRows:
    """What is wrong with the rows of a file, row by row."""

    def __init__(self, name: str, unit: str) -> None:
        """`name` of the file, and what the rows' numbers count (`line`, `row`)."""
        self.count = 0
        self._name = name
        self._unit = unit
        self._first: list[tuple[int, str]] = []

    @contextmanager
    def noted(self, number: int) -> Iterator[None]:
        """A DataError inside is this row's reason, and goes no further."""
        try:
            yield
        except DataError as error:
            self.count += 1
            if len(self._first) < _SHOWN:
                self._first.append((number, str(error)))

    def refuse(self, total: int) -> None:
        """Raise one DataError if a row of `total` was bad."""
        if self.count == 1:
            ((number, reason),) = self._first
            raise DataError(f"{self._name}, {self._unit} {number}: {reason}")
        if self.count:
            raise DataError(
                f"{self._name}: {self.count} of {total} rows cannot be trained on: {'; '.join(self._told())}"
            )

    def _told(self) -> Iterator[str]:
        """Every row by its number; no reason is told twice, nor the advice that follows the semicolon in one."""
        seen: dict[str, int] = {}
        for number, reason in self._first:
            what, _, advice = reason.partition("; ")
            if what in seen:
                yield f"{self._unit} {number}: as {self._unit} {seen[what]}"
                continue
            yield f"{self._unit} {number}: {what if advice and advice in seen else reason}"
            seen[what] = number
            seen[advice] = number
        if self.count > _SHOWN:
            yield f"and {self.count - _SHOWN} more"
