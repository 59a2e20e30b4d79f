"""What the loop knows of transactions: whether one is half done, and that a reload lets all be tried again.

Effects: looks for a file in each cycle; `forgive` writes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflowd.errors import MlflowdError
from mlflowd.host import files
from mlflowd.host.paths import outcomes_file, transaction_file

if TYPE_CHECKING:
    from mlflowd.supervisor.place import Place


def sentence(place: Place) -> str:
    """Return what is to be finished or reverted first, "" for nothing."""
    if not files.exists(transaction_file(place.state)):
        return ""
    from mlflowd.operations.transaction import Ledger, Step  # noqa: PLC0415 - most daemons never have a transaction

    try:
        found = Ledger(place.state, place.who).pending()
    except MlflowdError as error:
        return error.message
    if found is None:
        return ""
    begun = "is to be done" if found.step is Step.READY else "is finished or reverted"
    return f"the {found.kind} to {found.target} {begun}"


def forgive(place: Place) -> None:
    """Let every image be tried again. Raises MlflowdError."""
    if files.exists(outcomes_file(place.state)):
        from mlflowd.operations.transaction import Ledger  # noqa: PLC0415 - as above

        Ledger(place.state, place.who).forgive()


def last(place: Place) -> dict[str, Any] | None:
    """Return what became of the last transaction, None where there was none."""
    if not files.exists(outcomes_file(place.state)):
        return None
    from mlflowd.operations.transaction import Ledger  # noqa: PLC0415 - as above

    outcomes = Ledger(place.state, place.who).outcomes()
    return asdict(outcomes[0]) if outcomes else None
