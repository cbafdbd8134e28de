"""Personas: who the simulated user is, and the JSON lines they are kept in."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from interalign.errors import DataError


class Persona(BaseModel):
    """One user to simulate: a profile (facts about the person) plus a personality (how the person talks)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    profile: tuple[str, ...] = Field(min_length=1)
    """Facts about the person, one sentence each; two personas with equal profiles are not independent cases."""
    personality: str = Field(min_length=1)
    """How the person talks and likes to be talked to."""
    source: str = "file"
    """Where the persona comes from: `world`, `people`, `file`, or the model that wrote it."""
    meta_json: str = Field(default="", alias="meta", repr=False)
    """`meta` as JSON text: plug-ins are handed personas, and must not be able to change one."""

    @property
    def meta(self) -> dict[str, JsonValue]:
        """What else is known, such as further columns of an imported row: shown in the viewer, in no prompt of ours."""
        meta: dict[str, JsonValue] = json.loads(self.meta_json) if self.meta_json else {}
        return meta

    @field_validator("meta_json", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> str:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ValueError("expected a mapping of names to JSON values")
        try:
            return json.dumps(value, allow_nan=False) if value else ""
        except TypeError as error:
            raise ValueError(f"cannot be written as JSON ({error})") from None

    @model_serializer(mode="wrap")
    def _with_meta(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A persona that has none is written as it was before there was such a field: runs of then go on.
        dumped: dict[str, Any] = dump(self)
        dumped.pop("meta_json", None)
        dumped.pop("meta", None)
        return {**dumped, "meta": self.meta} if self.meta_json else dumped


def parse_personas(lines: Iterable[str], name: str = "personas") -> tuple[Persona, ...]:
    """Personas from JSON lines; blank lines are skipped, a missing `id` becomes a hash of the content.

    Raises DataError naming `name`, the line number and the field for a bad row or an id seen twice.
    """
    personas: dict[str, Persona] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        persona = _parse_row(line, f"{name}, line {number}")
        if persona.id in personas:
            raise DataError(
                f"{name}, line {number}: id {persona.id!r} is already used above; give each persona its own"
            )
        personas[persona.id] = persona
    if not personas:
        raise DataError(f"{name}: no persona in it; expected one JSON object a line")
    return tuple(personas.values())


def _parse_row(line: str, where: str) -> Persona:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    row.setdefault("id", content_id(row))
    try:
        return Persona.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        wrong = "expected a list of sentences" if first["type"] == "tuple_type" else first["msg"]
        raise DataError(f"{where}: {field}: {wrong}") from None


def content_id(row: Mapping[str, Any]) -> str:
    """The id of a row that has none: `p` and a hash of it."""
    return "p" + hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:8]


def dump_personas(personas: Iterable[Persona]) -> Iterator[str]:
    """JSON lines (with line ends) that `parse_personas` reads back unchanged."""
    for persona in personas:
        yield persona.model_dump_json() + "\n"


def content_hash(personas: Iterable[Persona]) -> str:
    """16 hex characters for these personas in this order."""
    return hashlib.sha256("".join(dump_personas(personas)).encode()).hexdigest()[:16]


def by_profile(personas: Sequence[Persona]) -> dict[tuple[str, ...], list[Persona]]:
    """Personas grouped by profile: the unit of independence for splits and intervals."""
    groups: dict[tuple[str, ...], list[Persona]] = {}
    for persona in personas:
        groups.setdefault(persona.profile, []).append(persona)
    return groups
