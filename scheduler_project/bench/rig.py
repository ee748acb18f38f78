"""The processes under measure, and the queues that they share."""

from __future__ import annotations

import secrets
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kombu import Connection, Exchange, Queue

from scheduler_project.bench import stock
from scheduler_project.local.platform import BASE_DIR
from scheduler_project.local.ports import HOST, free_port
from scheduler_project.local.supervisor import Service, Supervisor, Write
from workers_app.models import WorkerInfo

READY_SECONDS = 60.0
WEB_PROCESSES = 2


class Rig:
    """A database and a broker that answer, and what is started on them.

    `broker` is the broker's name for people, `password` the administrator's.
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
        self._write = write
        self._environment = {
            **environment,
            "SECRET_KEY": secrets.token_urlsafe(64),
            "HTTPS": "0",
            "CELERY_SKIP_CHECKS": "1",
            "PYTHONUNBUFFERED": "1",
        }

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

    def start_workers(self, services: Supervisor, queue: str, count: int) -> None:
        """Start the product's workers and wait until they are online."""
        for number in range(count):
            command = ("manage.py", "worker", "--name", f"{queue}-{number}@bench")
            services.start(self._python("worker", *command, WORKER_QUEUES=queue))
        online = WorkerInfo.objects.alive().filter(name__startswith=queue)
        services.wait_until(lambda: online.count() == count, "worker", READY_SECONDS)

    def start_beat(self, services: Supervisor) -> None:
        command = ("-m", "celery", "-q", "-A", "scheduler_project", "beat")
        services.start(self._python("beat", *command))

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

    def start_trigger(self, services: Supervisor, task_id: int, runs: int) -> None:
        """Start a process that triggers runs by the service, without the API."""
        command = ("-m", "scheduler_project.bench.trigger", str(task_id), str(runs))
        services.start(self._python("trigger", *command, is_essential=False))

    def start_stock_worker(self, services: Supervisor, queue: str) -> None:
        command = (
            *("-m", "celery", "-q", "-A", "scheduler_project.bench.stock", "worker"),
            *("--concurrency", str(stock.PROCESSES), "--queues", queue),
            *("--hostname", f"{queue}@bench"),
        )
        # Celery's own default level; ours would have it log each task.
        services.start(self._python("stock", *command, LOG_LEVEL="WARNING"))

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


def _queue_delete(broker_url: str, name: str) -> None:
    with Connection(broker_url, connect_timeout=5) as broker:
        queue = Queue(name, Exchange(name), name)(broker.default_channel)
        if not broker.transport.driver_type.startswith("amqp"):
            queue.declare()  # these delete only what the connection knows
        queue.delete()
        queue.exchange.delete()
