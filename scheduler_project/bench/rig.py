"""The processes under measure, and the queues that they share."""

from __future__ import annotations

import secrets
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kombu import Connection, Exchange, Queue

from scheduler_project.bench.workload import BenchError
from scheduler_project.local.platform import BASE_DIR
from scheduler_project.local.ports import HOST, free_port
from scheduler_project.local.supervisor import Service, Supervisor, Write
from workers_app.models import WorkerInfo

READY_SECONDS = 60.0
NODE_SECONDS = 1.0
"""More, for each worker that starts together with others."""
WEB_PROCESSES = 2
RUN_SECONDS = 300.0
"""What an installation, or the making of a load, may take."""


def _silent(_text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure: `rounds` of the sides that are compared, whose medians count,
    with so many of the product's workers. `tell` takes lines of progress."""

    rounds: int = 1
    workers: int = 1
    tell: Callable[[str], None] = _silent


class Rig:
    """A database and a broker that answer, and what is started on them.

    `broker` is the broker's name for people, `password` the administrator's;
    `environment` holds GNOMON_VAR, DATABASE_URL and BROKER_URL of its services.
    """

    def __init__(
        self,
        broker: str,
        broker_url: str,
        password: str,
        environment: Mapping[str, str],
        write: Write,
    ) -> None:
        self.broker = broker
        self.broker_url = broker_url
        self.password = password
        self.plan = Plan()
        self._write = write
        self._environment = {
            **environment,
            "SECRET_KEY": secrets.token_urlsafe(64),
            "HTTPS": "0",
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def directory(self) -> Path:
        """The bench's own, gone after it."""
        return Path(self._environment["GNOMON_VAR"])

    @property
    def database_url(self) -> str:
        return self._environment["DATABASE_URL"]

    def services(self) -> Supervisor:
        """What one measurement starts; all of it stops with the `with` block."""
        return Supervisor(self._write)

    @contextmanager
    def queue(self) -> Iterator[str]:
        """A queue of one measurement; others may use the broker as well."""
        name = f"bench-{uuid.uuid4().hex[:12]}"
        try:
            yield name
        finally:
            _queue_delete(self.broker_url, name)

    def start_workers(
        self, services: Supervisor, queue: str, count: int, **settings: str
    ) -> None:
        """Start the product's workers and wait until they are online."""
        settings = {"WORKER_QUEUES": queue, **settings}
        for number in range(count):
            command = ("manage.py", "worker", "--name", f"{queue}-{number}@bench")
            services.start(
                self._python("worker", *command, is_essential=True, **settings)
            )
        online = WorkerInfo.objects.alive().filter(name__startswith=queue)
        services.wait_until(lambda: online.count() == count, "worker", READY_SECONDS)

    def start_fleet(self, services: Supervisor, queue: str, nodes: int) -> None:
        """Start many of the product's workers, forked from one process, and wait until
        they are online."""
        command = ("-m", "scheduler_project.bench.fleet", queue, str(nodes))
        services.start(self._python("fleet", *command, WORKER_QUEUES=queue))
        online = WorkerInfo.objects.alive().filter(name__startswith=queue)
        seconds = READY_SECONDS + nodes * NODE_SECONDS
        services.wait_until(lambda: online.count() == nodes, "the fleet", seconds)

    def start_beat(self, services: Supervisor) -> None:
        services.start(self._python("beat", "manage.py", "beat"))

    def start_web(self, services: Supervisor) -> str:
        """Start the web service; returns its address, where nothing may answer yet."""
        address = f"{HOST}:{free_port()}"
        command = (
            *("-m", "gunicorn", "scheduler_project.asgi:application", "--preload"),
            *("--worker-class", "asgi", "--workers", str(WEB_PROCESSES)),
            *("--bind", address, "--no-control-socket"),
        )
        services.start(self._python("web", *command, is_essential=False))
        return f"http://{address}"

    def produce(
        self, services: Supervisor, version_id: int, rate: int, seconds: int
    ) -> None:
        """Have a process create `rate` runs a second of a task's version, for
        `seconds`; returns when it has."""
        numbers = (str(number) for number in (version_id, rate, seconds))
        command = ("-m", "scheduler_project.bench.producer", *numbers)
        run_to_end(services, self._python("producer", *command, is_essential=False))

    def start_slow_server(self, services: Supervisor, seconds: float) -> str:
        """Start a web server that takes `seconds` for each answer; returns its URL."""
        port = free_port()
        command = ("-m", "scheduler_project.bench.slow_server", str(port), str(seconds))
        services.start(self._python("server", *command))
        return f"http://{HOST}:{port}/"

    def cancel(self, services: Supervisor, task_id: int) -> None:
        """Have a process cancel all runs of a task; returns when they are flagged."""
        command = ("-m", "scheduler_project.bench.canceller", str(task_id))
        run_to_end(services, self._python("cancel", *command, is_essential=False))

    def _python(
        self, name: str, *command: str, is_essential: bool = True, **settings: str
    ) -> Service:
        return Service(
            name=name,
            command=[sys.executable, *command],
            environment={**self._environment, **settings},
            directory=BASE_DIR,
            is_essential=is_essential,
        )


def run_to_end(services: Supervisor, service: Service) -> None:
    """Run a service that is not essential, and ends.

    Raises:
        BenchError: it fails, or takes longer than RUN_SECONDS.
    """
    services.start(service)
    ended = services.wait(RUN_SECONDS)
    if ended is None or ended.code:
        raise BenchError(f"{' '.join(service.command)} has failed")


def _queue_delete(broker_url: str, name: str) -> None:
    with Connection(broker_url, connect_timeout=5) as broker:
        queue = Queue(name, Exchange(name), name)(broker.default_channel)
        if not broker.transport.driver_type.startswith("amqp"):
            queue.declare()  # these delete only what the connection knows
        queue.delete()
        queue.exchange.delete()
