"""A whole platform on this machine, made to be broken and put together again."""

from __future__ import annotations

import heapq
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

from django.conf import settings
from django.db import connection, connections

from scheduler_project.chaos import brokers
from scheduler_project.chaos.faults import Fault
from scheduler_project.chaos.mutants import MUTANTS
from scheduler_project.chaos.processes import Process, kill_strays
from scheduler_project.local import embedded
from scheduler_project.local.bootstrap import migrate
from scheduler_project.local.embedded import Server
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.platform import BASE_DIR, use_database
from scheduler_project.local.supervisor import Service
from workers_app.models import WorkerInfo

FAST = {
    "HEARTBEAT_SECONDS": 0.5,
    "LEASE_SECONDS": 3.0,
    "UPKEEP_SECONDS": 0.5,
    "POLL_SECONDS": 1.0,
    "CANCEL_GRACE_SECONDS": 1.0,
}
"""Shorter than by default, so that a trial sees many leases end."""
IMPATIENT = "?options=-c%20lock_timeout%3D1000%20-c%20statement_timeout%3D20000"
"""How the trial itself connects: a process that it has frozen may hold the lock that
it waits for, and only the trial can wake it."""
WORKER_SLOTS = 24
READY_SECONDS = 60.0
POLL_SECONDS = 0.05
RESTART_SECONDS = 1.0
"""A process that ends by itself is started again after so long, as any host does."""


class Arena:
    """Beats, workers, PostgreSQL and a broker, all of them this trial's own (but for a
    broker that was named), in `folder`. All names have `mark` in them."""

    def __init__(
        self,
        folder: Path,
        lock: int,
        counts: Mapping[str, int],
        broker_url: str | None,
        mutant: str | None,
    ) -> None:
        self.mark = f"chaos-{secrets.token_hex(5)}"
        self.faults: Counter[str] = Counter()
        self.own_ends: Counter[str] = Counter()
        """Processes that ended although nothing had struck them."""
        self._folder = folder
        self._lock = lock
        self._counts = counts
        self._mutant = mutant
        self._logs = folder / "logs"
        self._logs.mkdir(exist_ok=True)
        self._repairs: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._down: set[str] = set()
        self._servers: dict[str, tuple[Process, Server]] = {}
        self._processes: dict[str, Process] = {}
        names = [f"{self.mark}-{number}" for number in range(counts["workers"])]
        self._worker_names = names
        self._broker_url = broker_url
        self._queues = broker_url and brokers.OwnQueues(broker_url, self.mark, names)

    def start(self) -> None:
        """Start everything and wait until the workers are online.

        Raises:
            PlatformError: something does not come up.
        """
        database = embedded.postgresql(self._folder / "postgres", self._lock)
        self._serve("database", database)
        if self._broker_url is None:
            valkey = embedded.valkey(self._folder / "valkey", self._lock)
            self._serve("broker", valkey)
            self._broker_url = valkey.url
        use_database(database.url + IMPATIENT)
        for name, seconds in FAST.items():
            setattr(settings, name, seconds)
        migrate()
        self._weaken()
        environment = self._environment(database.url, self._broker_url)
        for number in range(self._counts["beats"]):
            self._run(f"beat {number}", ("manage.py", "beat"), environment)
        for number, name in enumerate(self._worker_names):
            worker = ("manage.py", "worker", "--name", name)
            self._run(f"worker {number}", worker, environment)
        self.wait(self._are_online, "the workers")

    def _serve(self, name: str, server: Server) -> None:
        self._servers[name] = Process(server.service, self._logs), server
        self._servers[name][0].start()
        self.wait(server.is_ready, name)

    def _weaken(self) -> None:
        """What the mutant takes out of the database."""
        for statement in MUTANTS[self._mutant].sql if self._mutant else ():
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def _environment(self, database_url: str, broker_url: str) -> Mapping[str, str]:
        return {
            "GNOMON_VAR": str(self._folder),
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "WORKER_QUEUES": self.mark,
            "WORKER_CONCURRENCY": str(WORKER_SLOTS),
            "SECRET_KEY": secrets.token_urlsafe(64),
            "PYTHONUNBUFFERED": "1",
            "LOG_FORMAT": "text",
            **{name: str(seconds) for name, seconds in FAST.items()},
        }

    def _run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        wrapper: tuple[str, ...] = ()
        if self._mutant:
            wrapper = ("-m", "scheduler_project.chaos.mutants", self._mutant)
        service = Service(
            name, [sys.executable, *wrapper, *command], environment, BASE_DIR
        )
        self._processes[name] = Process(service, self._logs)
        self._processes[name].start()

    def _are_online(self) -> bool:
        if self.own_ends:
            raise PlatformError(f"a process does not start:\n{self.tails()}")
        workers = WorkerInfo.objects.alive().filter(name__in=self._worker_names)
        return workers.count() == len(self._worker_names)

    def wait(self, is_so: Callable[[], object], what: str) -> None:
        """Wait for a state, and go on repairing.

        Raises:
            PlatformError: it does not come.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise PlatformError(
                    f"{what} not ready after {READY_SECONDS:g} s:\n{self.tails()}"
                )
            self.tend()
            time.sleep(POLL_SECONDS)

    def tails(self) -> str:
        """The last words of all processes."""
        processes = [*self._processes.values(), *(p for p, _ in self._servers.values())]
        return "\n".join(
            f"--- {process.service.name}\n{process.tail()}" for process in processes
        )

    # --- faults ---------------------------------------------------------------------
    def apply(self, fault: Fault) -> None:
        """Let a fault strike, unless another still has its victim down."""
        kind, _, role = fault.kind.partition(" ")
        name = f"{role} {fault.target}" if role in {"beat", "worker"} else role
        if name in self._down:
            return
        self.faults[fault.kind] += 1
        if role == "broker" and kind == "wipe":
            self._wipe()
        elif role == "queues":
            assert self._queues  # noqa: S101 - only where the broker is not our own
            self._queues.delete()
        elif role in self._servers:
            self._stop_server(name, fault.seconds)
        elif kind == "freeze":
            self._processes[name].freeze()
            self._later(fault.seconds, name, self._processes[name].thaw)
        else:
            self._end(name, fault, is_kill=kind == "kill")

    def _wipe(self) -> None:
        if self._queues:
            self._queues.wipe()
        else:
            brokers.wipe_own(str(self._broker_url))

    def _stop_server(self, name: str, seconds: float) -> None:
        process, _ = self._servers[name]
        # PostgreSQL's immediate stop: no checkpoint, recovery at the next start.
        process.strike(signal.SIGQUIT if name == "database" else signal.SIGKILL)
        process.stop(time.monotonic() + READY_SECONDS)
        self._later(seconds, name, process.start)

    def _end(self, name: str, fault: Fault, *, is_kill: bool) -> None:
        process = self._processes[name]
        if is_kill:
            process.kill()
        else:
            process.ask_to_stop()
        self._later(fault.seconds, name, lambda: self._start_again(name))

    def _start_again(self, name: str) -> None:
        """Once it has ended: a restart lets what runs come to its end."""
        if self._processes[name].is_alive:
            self._later(POLL_SECONDS, name, lambda: self._start_again(name))
        else:
            self._processes[name].start()

    def _later(self, seconds: float, name: str, repair: Callable[[], None]) -> None:
        def repaired() -> None:
            self._down.discard(name)
            repair()

        self._down.add(name)
        at = time.monotonic() + seconds
        heapq.heappush(self._repairs, (at, next(self._numbers), repaired))

    def tend(self) -> None:
        """Do the repairs that are due, and see who has ended by itself."""
        while self._repairs and self._repairs[0][0] <= time.monotonic():
            heapq.heappop(self._repairs)[2]()
        for name, process in self._processes.items():
            if name not in self._down and not process.is_alive:
                self.own_ends[name.partition(" ")[0]] += 1
                self._later(RESTART_SECONDS, name, process.start)

    def heal(self) -> None:
        """Repair everything now, and wait until it works."""
        while self._repairs:
            heapq.heappop(self._repairs)[2]()
            self.tend()
            time.sleep(POLL_SECONDS)
        for name, (_, server) in self._servers.items():
            self.wait(server.is_ready, name)

    # --- the end --------------------------------------------------------------------
    def stop_work(self) -> None:
        """Stop beats and workers, and what jobs they left."""
        self._repairs.clear()
        for process in self._processes.values():
            process.ask_to_stop()
        deadline = time.monotonic() + READY_SECONDS / 4
        for process in self._processes.values():
            process.stop(deadline)
        kill_strays(f"{self._folder}/job.sh")
        kill_strays(self.mark)

    def stop(self) -> None:
        """Leave nothing behind, in any state."""
        self.stop_work()
        connections.close_all()
        if self._queues:
            self._queues.remove()
        for process, _ in self._servers.values():
            process.ask_to_stop()
        for process, _ in self._servers.values():
            process.stop(time.monotonic() + READY_SECONDS / 4)
        kill_strays(str(self._folder))
