"""A file of recorded conversations, to trees: every row is read or named, none is dropped unseen.

Rows belong to one tree if they name the same conversation, system message, persona and first user message; those that
name no conversation, if the other three are equal. Within a tree equal beginnings are one path, which branches where
rows part.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from interalign.conversations.chat import Chat, read_chat
from interalign.conversations.formats.base import ConversationFormat, RecordedRow, id_of
from interalign.conversations.merging import Branch, TreeBuilder
from interalign.errors import ConfigError, DataError
from interalign.people.table import Bad, TableRow, holds_json_lines, plain, read_table, stream_lines
from interalign.personas import Persona, content_id
from interalign.records import simulated_tree
from interalign.registries import CONVERSATION_FORMATS
from interalign.tree import JudgedTree

_LONGEST_ID: Final = 200
_NAMED: Final = 20
"""Bad rows that are named; of the others only the number is told."""
_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)
_UNREADABLE: Final = (LookupError, TypeError, AttributeError)
"""What a format of a plug-in raises that does not look at what it gets."""


class LazyTrees(NamedTuple):
    """Trees that are built each time they are looked at, one at a time in memory."""

    run: str
    builders: Mapping[str, TreeBuilder]
    """By the id of the tree."""

    def each(self) -> Iterator[JudgedTree]:
        """The trees, in the order in which they were met."""
        return (builder.build(tree, self.run) for tree, builder in self.builders.items())


class ImportedTrees(NamedTuple):
    """What became of a file."""

    found: LazyTrees
    personas: tuple[Persona, ...]
    format: str
    rows: int
    conversations: int
    """Those that were read: one a row, two of a pair, one a reply of a logged request."""
    skipped: tuple[str, ...]
    """Rows that were left out, each with its place and the reason."""

    turns: int
    """Turns of the longest conversation."""

    @property
    def trees(self) -> tuple[JudgedTree, ...]:
        """All trees at once."""
        return tuple(self.found.each())

    def __str__(self) -> str:
        trees = len(self.found.builders)
        left_out = f"; left out: {_listed(self.skipped)}" if self.skipped else ""
        return (
            f"{self.conversations} conversation{'s' * (self.conversations != 1)} of {self.rows - len(self.skipped)} "
            f"row{'s' * (self.rows - len(self.skipped) != 1)} imported into {trees} tree{'s' * (trees != 1)} "
            f"(read as {self.format}){left_out}"
        )


def import_trees(
    path: Path,
    run: str,
    *,
    format: str = "auto",  # noqa: A002  (the option's name)
    skip_bad: bool = False,
    known: Mapping[str, Persona] | None = None,
) -> ImportedTrees:
    """The conversations of a file in any known format, as trees of the run of this name.

    `known`: personas by the ids that rows name. Raises DataError that names all bad rows, unless `skip_bad`, and
    ConfigError for a file that cannot be read, or a format that is not known or not told apart.
    """
    name, chosen, rows = _read_file(path, format)
    found = _Trees(path.name, known or {})
    bad: list[str] = []
    read = 0
    for row in rows:
        read += 1
        try:
            found.add(row, chosen)
        except ValueError as error:
            bad.append(f"{row.where}: {error}")
    if bad and not skip_bad:
        raise DataError(f"{path}: mend these rows, or leave them out with --skip-bad: {_listed(bad)}")
    if not found.builders:
        raise DataError(f"{path}: no conversation is left without these rows: {_listed(bad)}")
    trees, personas = LazyTrees(run, dict(found.named())), tuple(found.personas.values())
    return ImportedTrees(trees, personas, name, read, found.conversations, tuple(bad), found.turns)


def _listed(bad: Sequence[str]) -> str:
    """How many rows are bad, and the first 20 of them by their places, those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for row in bad[:_NAMED]:
        where, _, reason = row.partition(": ")
        by_reason.setdefault(reason, []).append(where)
    named = [f"{', '.join(places)}: {reason}" for reason, places in by_reason.items()]
    more = [f"and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
    return f"{len(bad)} row{'s' * (len(bad) != 1)} ({'; '.join([*named, *more])})"


def _read_file(path: Path, given: str) -> tuple[str, ConversationFormat, Iterator[TableRow]]:
    """The format by name, and the rows of the file, those of a log taken apart."""
    known = {name: _format(name) for name in CONVERSATION_FORMATS.names()}
    known = known if given == "auto" else {given: _format(given)}
    own = next((name for name, each in known.items() if each.rows and path.name.endswith(each.suffix)), None)
    if own is None and holds_json_lines(path):  # read twice rather than kept
        name = given if given != "auto" else _recognised(path, partial(stream_lines, path), known)
        return name, known[name], _parts(stream_lines(path), known[name])
    rows = _whole(read_table(path)) if own is None else _by_library(path, known[own])
    if not rows:
        raise DataError(f"{path}: no conversation in it")
    name = own or (given if given != "auto" else _recognised(path, partial(iter, rows), known))
    return name, known[name], _parts(_emptied(rows), known[name])


def _whole(rows: list[TableRow]) -> list[TableRow]:
    """The rows; of a JSON array of messages, which is one conversation, a single row."""
    is_array = rows[:1] != [] and rows[0].where.startswith("row ")
    if is_array and all(isinstance(row.value, Mapping) and {"role", "content"} <= row.value.keys() for row in rows):
        return [TableRow("row 1", [row.value for row in rows])]
    return rows


def _format(name: str) -> ConversationFormat:
    found, _ = CONVERSATION_FORMATS.load(name)
    if not isinstance(found, ConversationFormat):
        raise ConfigError(f"--format {name}: not a ConversationFormat")
    return found


def _by_library(path: Path, chosen: ConversationFormat) -> list[TableRow]:
    if not path.is_file():
        raise ConfigError(f"{path}: cannot be read (no such file)")
    assert chosen.rows is not None
    return [TableRow(f"row {number}", plain(row)) for number, row in enumerate(chosen.rows(path), start=1)]


def _recognised(path: Path, rows: Callable[[], Iterator[TableRow]], known: Mapping[str, ConversationFormat]) -> str:
    """The format that recognises most rows; the first of those that recognise equally many."""
    counts = Counter[str](dict.fromkeys(known, 0))
    for row in rows():
        first = next((name for name, each in known.items() if _recognises(each, row.value)), None)
        counts.update([first] if first else [])
    name, count = counts.most_common(1)[0]
    if count == 0:
        raise DataError(f"{path}: the format is not known: {_first(next(rows()))}; give --format {'|'.join(known)}")
    return name


def _first(row: TableRow) -> str:
    value = row.value
    if isinstance(value, Bad):
        return f"the first row is {value.reason}"
    if not isinstance(value, Mapping):
        return f"the first row is {json.dumps(value)[:40]}"
    if "role" in value and "content" in value:
        return 'each row is one message; put those of a conversation into one row, as {"messages": [...]}'
    return f"the first row has {', '.join(list(value)[:10]) or 'nothing'}"


def _recognises(each: ConversationFormat, value: Any) -> bool:
    try:
        return not isinstance(value, Bad) and each.recognises(value)
    except _UNREADABLE:
        return False


def _emptied(rows: list[TableRow]) -> Iterator[TableRow]:
    """The rows, which are not kept: what is read of them takes their place in memory."""
    rows.reverse()
    while rows:
        yield rows.pop()


def _parts(rows: Iterable[TableRow], chosen: ConversationFormat) -> Iterator[TableRow]:
    """The rows, and in place of one that holds many its own ones: `row 1, part 3`."""
    for row in rows:
        parts = [row.value] if chosen.parts is None or isinstance(row.value, Bad) else [*chosen.parts(row.value)]
        if len(parts) == 1 and parts[0] is row.value:
            yield row
        else:
            yield from (TableRow(f"{row.where}, part {number}", part) for number, part in enumerate(parts, start=1))
            if not parts:
                yield TableRow(row.where, Bad("holds no conversation"))


class _Trees:
    """The trees of a file as its rows are added."""

    def __init__(self, file: str, known: Mapping[str, Persona]) -> None:
        self.builders: dict[tuple[str | None, str | None, str, str], TreeBuilder] = {}
        """By the conversation's name, system message, persona and first user message."""
        self.personas: dict[str, Persona] = {}
        self.conversations = 0
        self.turns = 0
        self._file = file
        self._known = known

    def add(self, row: TableRow, chosen: ConversationFormat) -> None:
        """Add a row, whole or not at all; ValueError says why it cannot be used."""
        said = _read(chosen, row.value)
        chats = [_chat(path) for path in said.paths]
        columns = row.value if isinstance(row.value, Mapping) else {}
        persona, persona_id = self._persona(columns)
        keys = [(said.tree, chat.system, persona_id, chat.messages[0].text) for chat in chats]
        preferred = list(_preferred(said, chats, columns))
        for chosen_at, rejected_at, _ in preferred:
            _refuse_no_pair(chats[chosen_at], chats[rejected_at])
            self._refuse_contradiction(keys[chosen_at], chats[chosen_at], chats[rejected_at])
        if said.label is not None:
            self._refuse_other_label(keys[0], chats[0], label=said.label)
        rest = {name: value for name, value in columns.items() if name not in said.used}
        source = {"file": self._file, "line": row.where, **_named(id_of(columns))}
        _refuse_unwritable([rest, [message.extra for chat in chats for message in chat.messages]])
        if persona is not None:
            self.personas[persona.id] = persona
        leaves = [self._add(key, chat, said.by, source) for key, chat in zip(keys, chats, strict=True)]
        for chosen_at, rejected_at, margin in preferred:
            self.builders[keys[0]].prefer(leaves[chosen_at], leaves[rejected_at], margin)
        if said.label is not None:
            self.builders[keys[0]].labels[leaves[0]] = said.label
        self._number(self.builders[keys[0]], leaves[0], columns, is_of_prompt=said.prefers or bool(said.values))
        for leaf in leaves if rest else ():
            leaf.rests.append({**source, "columns": rest})
        self.conversations += len(chats)
        self.turns = max(self.turns, *((len(chat.messages) + 1) // 2 for chat in chats))

    def _add(
        self, key: tuple[str | None, str | None, str, str], chat: Chat, by: str | None, source: dict[str, JsonValue]
    ) -> Branch:
        builder = self.builders.setdefault(key, TreeBuilder(chat.system, key[2]))
        return builder.add(chat, by, source)

    def _number(self, tree: TreeBuilder, leaf: Branch, row: Mapping[str, Any], *, is_of_prompt: bool) -> None:
        """Give messages of an export of ours the ids that they had; its `node` may be that of the prompt."""
        if isinstance(row.get("node"), str) and row.get("tree"):
            at = leaf.parent if is_of_prompt else leaf
            assert at is not None
            tree.number(at, row["node"])

    def _refuse_contradiction(self, key: tuple[str | None, str | None, str, str], chosen: Chat, rejected: Chat) -> None:
        tree = self.builders.get(key)
        if tree is not None and tree.has_preferred(tree.find(rejected), tree.find(chosen)):
            raise ValueError("prefers the reply that a row above rejects in favour of the other")

    def _refuse_other_label(self, key: tuple[str | None, str | None, str, str], chat: Chat, *, label: bool) -> None:
        tree = self.builders.get(key)
        before = None if tree is None else tree.label_of(tree.find(chat))
        if before is not None and before != label:
            raise ValueError(f"labels the reply {str(label).lower()}, and a row above labels it {str(before).lower()}")

    def _persona(self, row: Mapping[str, Any]) -> tuple[Persona | None, str]:
        """The persona that a row describes or names, None if it is not known, and its id, empty for none."""
        given = row.get("persona")
        if isinstance(given, str) and _is_id(given):
            return self._known.get(given), given
        described = given if isinstance(given, Mapping) else row if {"profile", "personality"} <= row.keys() else None
        if described is None:
            return None, ""
        persona = _described(described, whole=described is given)
        if self.personas.get(persona.id, persona) != persona:
            raise ValueError(f"persona: {persona.id!r} is another one in a row above")
        return persona, persona.id

    def named(self) -> Iterator[tuple[str, TreeBuilder]]:
        """The trees in the order in which they were met, with their ids: their own names where these can be ids."""
        taken: set[str] = set()
        names = [key[0] if key[0] is not None and _is_id(key[0]) else None for key in self.builders]
        own = {place: _free(name, taken) for place, name in enumerate(names) if name is not None}
        for place, builder in enumerate(self.builders.values()):
            yield own.get(place) or _free(simulated_tree(place), taken), builder


def _read(chosen: ConversationFormat, value: Any) -> RecordedRow:
    if isinstance(value, Bad):
        raise ValueError(value.reason)
    if not _recognises(chosen, value):
        raise ValueError(f"is not in this format ({chosen.title})")
    try:
        return chosen.read(value)
    except _UNREADABLE as error:
        raise ValueError(f"cannot be read in this format ({type(error).__name__}: {error})") from error


def _chat(messages: Sequence[Any]) -> Chat:
    try:
        return read_chat(messages)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _preferred(
    said: RecordedRow, chats: Sequence[Chat], row: Mapping[str, Any]
) -> Iterator[tuple[int, int, float | None]]:
    """Which path of a row is preferred to which, and by how much, if the row says so."""
    if said.label is not None and chats[0].messages[-1].role == "user":
        raise ValueError("label: there is no reply that it could be of")
    if said.prefers:
        yield 0, 1, _margin(row)
    for (one, value), (other, than) in combinations(enumerate(said.values), 2):
        if value is not None and than is not None and value != than:
            if chats[one].messages[-1].text == chats[other].messages[-1].text:
                raise ValueError(f"completions: number {one + 1} and {other + 1} are the same, and their scores differ")
            yield (one, other, value - than) if value > than else (other, one, than - value)


def _refuse_no_pair(chosen: Chat, rejected: Chat) -> None:
    """ValueError unless the two are one conversation but for their last reply."""
    if chosen.system != rejected.system:
        raise ValueError("chosen and rejected have different system messages")
    before, after = chosen.messages[:-1], rejected.messages[:-1]
    if [(each.role, each.text) for each in before] != [(each.role, each.text) for each in after]:
        raise ValueError("chosen and rejected differ in more than their last reply")
    if "user" in (chosen.messages[-1].role, rejected.messages[-1].role):
        raise ValueError("chosen and rejected do not both end with a reply")
    if (chosen.messages[-1].text, chosen.messages[-1].tools) == (
        rejected.messages[-1].text,
        rejected.messages[-1].tools,
    ):
        raise ValueError("chosen and rejected are the same")


def _margin(row: Mapping[str, Any]) -> float | None:
    value = row.get("margin")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _described(row: Mapping[str, Any], *, whole: bool) -> Persona:
    """The persona in these columns; ValueError says what is wrong with it."""
    fields = dict(row) if whole else {name: row[name] for name in ("profile", "personality")}
    if isinstance(fields.get("profile"), str):
        fields["profile"] = [fields["profile"]]
    try:
        persona = Persona.model_validate({"id": content_id(fields), **fields})
        persona.model_dump_json()
    except (ValidationError, PydanticSerializationError, UnicodeError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = "cannot be written as UTF-8 text" if first is None else first["msg"]
        where = ".".join(["persona", *(str(part) for part in (first["loc"] if first else ()))])
        raise ValueError(f"{where}: {reason}") from None
    if not _is_id(persona.id):
        raise ValueError(f"persona.id: {persona.id[:40]!a} is no id; give one of visible signs without blanks")
    return persona


def _refuse_unwritable(value: Any) -> None:
    """ValueError for what annotations cannot hold, such as lists within lists within lists by the hundred."""
    try:
        _JSON.validate_python(value)
    except (ValidationError, RecursionError):
        raise ValueError("is nested too deeply") from None


def _is_id(name: str) -> bool:
    """Whether a name can be the id of a tree or a persona."""
    return name.isprintable() and not any(sign.isspace() for sign in name) and 0 < len(name) <= _LONGEST_ID


def _named(own: str | None) -> dict[str, JsonValue]:
    return {} if own is None else {"id": own}


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of `NAME#2`, `NAME#3`... that is not taken; taken from now on."""
    numbered = (name if number == 1 else f"{name}#{number}" for number in range(1, len(taken) + 2))
    found = next(each for each in numbered if each not in taken)
    taken.add(found)
    return found
