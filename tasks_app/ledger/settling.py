"""What follows from an end, in its transaction: tallies, children, rooms, pauses."""

from __future__ import annotations

from collections.abc import Sequence

from tasks_app.ledger import tallies
from tasks_app.ledger.admission import admit
from tasks_app.ledger.downstream import release
from tasks_app.ledger.pausing import pause_failing
from tasks_app.ledger.records import Ended
from tasks_app.rules.states import TERMINAL


def settle(attempts: Sequence[Ended]) -> None:
    """Count the runs that ended, and do what follows from their ends."""
    tallies.add([ended.run_id for ended in attempts if ended.status in TERMINAL])
    follow(attempts)


def follow(attempts: Sequence[Ended]) -> None:
    """Create the children of the runs that ended, fill the rooms that came free, and
    pause the tasks that ask for it. A run that is to be retried only frees its room.
    """
    runs = [ended for ended in attempts if ended.status in TERMINAL]
    release(runs)
    pause_failing(runs)
    admit(ended.task_id for ended in attempts if ended.is_admitted)
