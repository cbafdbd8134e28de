"""Persona files as others write them, to personas: every row is read or named, none is dropped unseen."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from interalign.errors import ConfigError, DataError, did_you_mean
from interalign.people.formats.base import Draft, PersonaFormat, facts, text
from interalign.people.pool import personalities
from interalign.people.table import Bad, TableRow, read_table
from interalign.personas import Persona, content_id
from interalign.registries import PERSONA_FORMATS
from interalign.seeds import addressed_rng

_NAMED: Final = 20
"""Bad rows that are named; of the others only the number is told."""
_MAPPED: Final = ("id", "profile", "personality")
_NO_PERSONALITY: Final = "has no personality"
_WAY_OUT: Final = (
    "draw a personality for each with --personalities people (or a FILE of your own), or name its column with "
    "--map profile=COLUMN,personality=COLUMN"
)


class Imported(NamedTuple):
    """What became of a file."""

    personas: tuple[Persona, ...]
    format: str
    drawn: int
    """Personas whose personality was drawn."""
    skipped: tuple[str, ...]
    """Rows that were left out, each with its line and the reason."""

    def __str__(self) -> str:
        profiles = len({persona.profile for persona in self.personas})
        said = [f"read as {self.format}"] if self.format != "ours" else []
        said += [f"{self.drawn} personalities drawn"] if self.drawn else []
        said += [f"{profiles} different profiles"] if profiles < len(self.personas) else []
        left_out = f"; {_listed(self.skipped)} left out" if self.skipped else ""
        return (f" ({', '.join(said)})" if said else "") + left_out


def import_personas(
    path: Path,
    *,
    format: str = "auto",  # noqa: A002  (the option's name)
    columns: Sequence[str] = (),
    pool: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
) -> Imported:
    """The personas of a file in any known format.

    `columns`: `profile=COLUMN` and the like; several for `profile` are put together. `pool`: a file of personalities,
    or `people`; one is drawn for each persona without, by its profile and `seed`. Raises DataError that names all bad
    rows, ConfigError for a format that is not known or not told apart.
    """
    rows = read_table(path)
    if not rows:
        raise DataError(f"{path}: no persona in it")
    name, chosen = _format(path, rows, format, columns)
    talk = read_personalities(pool) if pool else ()
    found: dict[str, Persona] = {}
    bad: list[str] = []
    drawn = 0
    for row in rows:
        try:
            persona, is_drawn = _persona(row.value, chosen, "file" if name in ("ours", "map") else name, talk, seed)
            if persona.id in found:
                raise ValueError(f"id {persona.id!r} is already used above")
        except ValueError as error:
            bad.append(f"{row.where}: {error}")
            continue
        found[persona.id] = persona
        drawn += is_drawn
    if bad and not skip_bad:
        raise DataError(_refusal(path, bad, len(rows)))
    if not found:
        raise DataError(f"{path}: no persona is left; {_listed(bad)} cannot be used")
    return Imported(tuple(found.values()), name, drawn, tuple(bad))


def read_personalities(source: str) -> tuple[str, ...]:
    """The training personalities of the shipped pool (`people`), or those of a file: texts, or rows with one."""
    if source == "people":
        return tuple(each.text for each in personalities("train"))
    path = Path(source)
    texts: list[str] = []
    bad: list[str] = []
    for row in read_table(path):
        try:
            texts.append(_personality(row.value))
        except ValueError as error:
            bad.append(f"{row.where}: {error}")
    if bad:
        raise DataError(f"{path}: {_listed(bad)} cannot be read as personalities; give a text a line")
    if not texts:
        raise DataError(f"{path}: no personality in it")
    return tuple(dict.fromkeys(texts))


def _personality(value: Any) -> str:
    if isinstance(value, Bad):
        raise ValueError(value.reason)
    if isinstance(value, Mapping):
        name = next((name for name in ("personality", "text") if name in value), None)
        if name is None:
            raise ValueError("personality: is missing")
        return text(value[name], name)
    return text(value, "text")


def _format(path: Path, rows: Sequence[TableRow], given: str, columns: Sequence[str]) -> tuple[str, PersonaFormat]:
    if columns:
        if given != "auto":
            raise ConfigError("--map says which columns are read, and so does --format; give one of them")
        return "map", _mapped(path, rows, columns)
    if given != "auto":
        found, _ = PERSONA_FORMATS.load(given)
        if not isinstance(found, PersonaFormat):
            raise ConfigError(f"--format {given}: not a PersonaFormat")
        return given, found
    return _recognised(path, rows)


def _recognised(path: Path, rows: Sequence[TableRow]) -> tuple[str, PersonaFormat]:
    """The format that recognises most rows; the first of those that recognise equally many."""
    known = {name: PERSONA_FORMATS.load(name)[0] for name in PERSONA_FORMATS.names()}
    counts = Counter[str](dict.fromkeys(known, 0))
    for row in rows:
        first = next((name for name, each in known.items() if _recognises(each, row.value)), None)
        counts.update([first] if first else [])
    name, count = counts.most_common(1)[0]
    if count == 0:
        raise DataError(
            f"{path}: the format is not known: the first row {_shown(rows[0])}; name the columns with "
            f"--map profile=COLUMN,personality=COLUMN, or give --format {'|'.join(known)}"
        )
    return name, known[name]


def _shown(row: TableRow) -> str:
    if isinstance(row.value, Bad):
        return f"is {row.value.reason}"
    if isinstance(row.value, Mapping):
        return f"has {', '.join(list(row.value)[:10])}" if row.value else "is empty"
    return f"is a {type(row.value).__name__}"


def _mapped(path: Path, rows: Sequence[TableRow], columns: Sequence[str]) -> PersonaFormat:
    """A format of the user's own: these columns."""
    pairs = []
    for part in (part for given in columns for part in given.split(",")):
        name, sign, column = part.partition("=")
        if not sign or name.strip() not in _MAPPED or not column.strip():
            raise ConfigError(f"--map {part}: expected NAME=COLUMN with a NAME of {', '.join(_MAPPED)}")
        pairs.append((name.strip(), column.strip()))
    there = dict.fromkeys(name for row in rows if isinstance(row.value, Mapping) for name in row.value)
    for _, column in pairs:
        if column not in there:
            raise ConfigError(
                f"--map: {path} has no column {column!r}; it has {', '.join(there) or 'none'}"
                f"{did_you_mean(column, list(there))}"
            )
    profile = [column for name, column in pairs if name == "profile"] or ["profile"]
    others = {name: column for name, column in pairs if name != "profile"}
    return PersonaFormat("a map of columns", lambda row: True, lambda row: _by_map(row, profile, others))


def _by_map(row: Any, profile: Sequence[str], others: Mapping[str, str]) -> Draft:
    if not isinstance(row, Mapping):
        raise ValueError("expected an object with named columns")
    for column in (*profile, *others.values()):
        if row.get(column) in (None, ""):
            raise ValueError(f"{column}: is empty")
    personality, name = others.get("personality"), others.get("id")
    return Draft(
        tuple(fact for column in profile for fact in facts(row[column], column)),
        None if personality is None else text(row[personality], personality),
        (*profile, *others.values()),
        None if name is None else str(row[name]),
    )


def _persona(value: Any, chosen: PersonaFormat, source: str, pool: Sequence[str], seed: int) -> tuple[Persona, bool]:
    """The persona in a row, and whether its personality was drawn; ValueError with the reason if there is none."""
    if isinstance(value, Bad):
        raise ValueError(value.reason)
    draft = _read(chosen, value)
    personality = draft.personality
    if personality is None:
        if not pool:
            raise ValueError(_NO_PERSONALITY)
        personality = addressed_rng(seed, "personality", *draft.profile).choice(pool)
    meta, source = _rest(value, draft.used, source)
    row = {"profile": list(draft.profile), "personality": personality, "source": source, "meta": meta}
    try:
        persona = Persona.model_validate({"id": draft.id or content_id(row), **row})
        if Persona.model_validate_json(persona.model_dump_json()) != persona:
            raise ValueError("cannot be written as JSON and read again")
    except (ValidationError, PydanticSerializationError, UnicodeError, RecursionError) as error:
        raise ValueError(_reason(error)) from None
    return persona, draft.personality is None


def _read(chosen: PersonaFormat, value: Any) -> Draft:
    try:
        return chosen.read(value)
    except (LookupError, TypeError, AttributeError) as error:  # a plug-in that did not look at what it got
        raise ValueError(f"cannot be read in this format ({type(error).__name__}: {error})") from error


def _recognises(each: PersonaFormat, value: Any) -> bool:
    try:
        return each.recognises(value)
    except (LookupError, TypeError, AttributeError):
        return False


def _rest(value: Any, used: Sequence[str], source: str) -> tuple[dict[str, Any], str]:
    """The columns that are in no field of a persona, and where the row says that it comes from."""
    rest = {name: each for name, each in value.items() if name not in used} if isinstance(value, Mapping) else {}
    if source == "file" and isinstance(rest.get("source"), str):
        source = rest.pop("source")
    meta = rest.pop("meta") if isinstance(rest.get("meta"), Mapping) else {}
    if both := sorted(meta.keys() & rest.keys()):
        raise ValueError(f"{both[0]}: stands in the row and in its meta")
    return {**meta, **rest}, source


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if isinstance(error, UnicodeError) or "surrogates" in str(error):
        return "holds half a character (a lone surrogate), which cannot be written as UTF-8"
    return "is nested too deeply"


def _refusal(path: Path, bad: Sequence[str], rows: int) -> str:
    lacking = sum(reason.endswith(_NO_PERSONALITY) for reason in bad)
    if lacking == len(bad) == rows:
        return f"{path}: no row says how the person talks; {_WAY_OUT}"
    ways = [_WAY_OUT] if lacking else []
    ways += ["mend them, or leave them out with --skip-bad"] if lacking < len(bad) else []
    return f"{path}: {_listed(bad)} cannot be used; {'; '.join(ways)}"


def _listed(bad: Sequence[str]) -> str:
    return f"{len(bad)} row{'s' if len(bad) > 1 else ''} ({'; '.join(_named(bad))})"


def _named(bad: Sequence[str]) -> Iterator[str]:
    yield from bad[:_NAMED]
    if len(bad) > _NAMED:
        yield f"and {len(bad) - _NAMED} more"
