"""One budget for several processes of a machine: each leases a part of it in a small SQLite file, under its lock.

A lease is an upper bound of what its holder has spent: calls are counted against it in memory, and the file is looked
at only where it is not enough. What a killed holder did not spend comes back: its run file says what it did.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from interalign.errors import ConfigError, StopError
from interalign.files import refuse_outputs
from interalign.records import Spent
from interalign.store.lock import is_locked

_APPLICATION_ID = 0x49414C42
"""`PRAGMA application_id` of these files (`IALB`)."""
_TABLE = (
    "CREATE TABLE leases (holder TEXT PRIMARY KEY, usd REAL NOT NULL, tokens INTEGER NOT NULL, state TEXT NOT NULL)"
)
"""`holder`: a run file. `state`: `live`; `starved`: it spends nothing now; `closed`: the lease is what it has spent."""


_EXACT = 64
"""Calls at their worst for which a lease is never larger than what is needed: others must not wait for leftovers."""


class More(Enum):
    """What came of asking for a larger lease."""

    granted = "granted"
    may_come = "may come"
    """Not now; but others have parts that they may not spend."""
    never = "never"


class Lease(NamedTuple):
    """What its holder may spend in all."""

    amount: Spent
    others: Spent
    """What the others have spent or leased."""
    more: More


class LeaseFile:
    """The leases of all processes that share a budget, as one of them sees it."""

    def __init__(
        self,
        path: Path,
        holder: Path,
        *,
        max_usd: float | None,
        max_tokens: int | None,
        spent_in: Callable[[Path], Spent | None],
    ) -> None:
        """`holder`: the run file that this process has locked. `spent_in`: what is on record in a run file, None if
        it cannot be read. Raises ConfigError if the path is something else than a lease file.
        """
        self.path = path
        self._holder = str(holder)
        self._max_usd, self._max_tokens = max_usd, max_tokens
        self._spent_in = spent_in
        refuse_no_lease_file(path)

    def register(self, spent: Spent) -> Spent:
        """Begin with a lease of what is spent already, and nothing else. Files of the run's workers are part of it."""
        with self._locked() as db:
            workers = f"{self._holder}.workers/"
            db.execute("DELETE FROM leases WHERE substr(holder, 1, ?) = ?", (len(workers), workers))
            _write(db, self._holder, spent, "live")
        return spent

    def ask(self, taken: Spent, worst: Spent, *, waits: bool) -> Lease:
        """Lease enough for a call that costs `worst` at most, beside what is `taken`, and then some.

        If there is not enough, the lease shrinks to what is taken. `waits`: no call of the holder is outstanding.
        """
        with self._locked() as db:
            others = self._others(db)
            if not self._fits(taken.plus(worst).plus(others)):
                self._reclaim(db)
                others = self._others(db)
            if self._fits(taken.plus(worst).plus(others)):
                amount = self._with_reserve(taken.plus(worst), worst, others, self._count(db, "live"))
                _write(db, self._holder, amount, "live")
                return Lease(amount, others, More.granted)
            _write(db, self._holder, taken, "starved" if waits else "live")
            return Lease(taken, others, More.may_come if self._count(db, "live") else More.never)

    def close(self, spent: Spent) -> None:
        """Give back what was not spent."""
        with self._locked() as db:
            _write(db, self._holder, spent, "closed")

    def _fits(self, total: Spent) -> bool:
        return (self._max_usd is None or total.usd <= self._max_usd) and (
            self._max_tokens is None or total.tokens <= self._max_tokens
        )

    def _with_reserve(self, need: Spent, worst: Spent, others: Spent, live: int) -> Spent:
        """What is needed and a part of what is left, so that the file is seldom asked; towards the end call by call."""
        shares = 2 * (live + 1)
        left = Spent(self._max_usd or 0.0, self._max_tokens or 0).minus(need.plus(others))
        usd = max(0.0, left.usd - _EXACT * worst.usd) / shares
        tokens = max(0, left.tokens - _EXACT * worst.tokens) // shares
        more = Spent(need.usd + usd, need.tokens + tokens)
        return more if self._fits(more.plus(others)) else need  # sums of floats may differ in their last digit

    def _others(self, db: sqlite3.Connection) -> Spent:
        found = db.execute(
            "SELECT total(usd), ifnull(sum(tokens), 0) FROM leases WHERE holder <> ?", (self._holder,)
        ).fetchone()
        return Spent(*found)

    def _count(self, db: sqlite3.Connection, state: str) -> int:
        found = db.execute("SELECT count(*) FROM leases WHERE holder <> ? AND state = ?", (self._holder, state))
        return int(found.fetchone()[0])

    def _reclaim(self, db: sqlite3.Connection) -> None:
        """Set the leases of holders that were killed to what their run files say."""
        rows = db.execute(
            "SELECT holder, usd, tokens FROM leases WHERE holder <> ? AND state <> 'closed'", (self._holder,)
        ).fetchall()
        for holder, usd, tokens in rows:
            if not is_locked(Path(holder)):
                _write(db, holder, self._spent_in(Path(holder)) or Spent(usd, tokens), "closed")

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """The file, locked for this process alone; what is written is kept whole or not at all."""
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as db:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    db.execute(_TABLE)
                yield db
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StopError(
                f"the shared budget {self.path} cannot be used ({error}); mend it and run the same command again"
            ) from error


def _write(db: sqlite3.Connection, holder: str, amount: Spent, state: str) -> None:
    db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (holder, *amount, state))


def refuse_no_lease_file(path: Path) -> None:
    """ConfigError, with nothing touched, for a path that is another file or where none can be made."""
    if not path.is_file() or path.stat().st_size == 0:
        refuse_outputs([path])
        return
    # Immutable: after a kill a journal may lie beside it, which only a connection that writes can roll back.
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True)) as db:
        if db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID:
            return
    raise ConfigError(f"{path} is no shared budget, and would be overwritten; give another path")
