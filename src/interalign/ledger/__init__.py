"""Every model call on record, replayed instead of asked twice; and the budget that bounds what a run may spend."""

from interalign.ledger.ledger import Calls, Ledger

__all__ = ["Calls", "Ledger"]
