"""Which calls are behind a message, a note, a verdict or a score: they are found by their places."""

import json
from collections.abc import Container, Sequence
from typing import get_args

from interalign.config import HookPoint
from interalign.records import CallRecord
from interalign.tree import Annotation, Node

_HOOKS: tuple[HookPoint, ...] = get_args(HookPoint)


class TreeCalls:
    """The calls of one tree, in the order they were asked. Nothing is found for what was made without a call."""

    def __init__(self, records: Sequence[CallRecord] = (), failed: CallRecord | None = None) -> None:
        """`failed`: the call that the tree failed on, if it was one."""
        self._records = records
        self._failed = failed
        self._by_key = {record.key: record for record in records}
        self._at: dict[tuple[str, str], list[CallRecord]] = {}
        for record in records:
            self._at.setdefault((record.place.node, record.place.role), []).append(record)

    def beyond(self, nodes: Container[str]) -> list[CallRecord]:
        """Those of turns that were not finished: at no node of these, the one that the tree failed on at last."""
        unfinished = [one for one in self._records if any(at not in nodes for at in one.place.node.split("|"))]
        return unfinished + ([] if self._failed is None else [self._failed])

    def of_message(self, node: Node) -> list[CallRecord]:
        """Those that asked for this message: the one that was taken, after those that could not be used."""
        taken = self._by_key.get(node.call or "")
        if taken is None:  # an imported tree may name calls that are not in this file
            return []
        place = taken.place
        return [one for one in self._at[place.node, place.role] if one.place.sample < place.sample] + [taken]

    def of_note(self, note: Annotation, user: Node) -> list[CallRecord]:
        """Those of the inducer or the hook that noted just this in the turn of `user`."""
        if note.by == "inducer":
            return self._at.get((user.id, "inducer"), [])
        at_this_turn = [self._at.get((user.id, point), []) for point in _HOOKS]
        return [one for calls in at_this_turn for one in calls if one.asked == note.by and _noted(one, note)]

    def of_judge(self, judge: str, asked_about: str, replies: Sequence[str]) -> list[CallRecord]:
        """Those in which the judge of this name said `replies` about `asked_about`, a node or `first|second`.

        Several judges may have been asked there, and a model may answer to a shorter name than it was given.
        """
        found = self._at.get((asked_about, "judge"), []) or self._listing(*asked_about.split("|"))
        named = [one for one in found if one.asked == judge]
        said = [one for one in named or found if one.reply.text in replies]
        return said or named

    def _listing(self, first: str, *second: str) -> list[CallRecord]:
        """The calls in which a judge ranked these two among others, in the order of which `first` comes first."""
        lists = [one for one in self._records if one.place.role == "judge" and one.place.node.count("|") > 1]
        places = [(one, one.place.node.split("|")) for one in lists]
        return [
            one
            for one, shown in places
            if second and {first, *second} <= set(shown) and shown.index(first) < shown.index(second[0])
        ]


def _noted(call: CallRecord, note: Annotation) -> bool:
    """Whether this call of a hook gave the note; a call that could not be used gave none."""
    if call.error is not None:
        return False
    given = json.loads(call.reply.text).get(note.node, {})
    return note.name in given and given[note.name] == note.value
