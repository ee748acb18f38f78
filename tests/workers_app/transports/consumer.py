"""A consumer in a process of its own: `consumer.py URL FILE hold|SECONDS`.

It writes each message that it receives to FILE, a line each; then it holds it for ever,
or keeps its callback busy for so many seconds and acknowledges it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tests.workers_app.transports.conftest import Peer, peer


def main(url: str, file: str, what: str) -> None:
    def receive(message: Any) -> None:
        with Path(file).open("a") as output:
            output.write(f"{message.payload}\n")
        if what != "hold":
            time.sleep(float(what))
            message.ack()
            with Path(file).open("a") as output:
                output.write("done\n")

    with peer(url) as one:
        consume(one, receive)


def consume(one: Peer, receive: Any) -> None:
    consumer = one.consumer()
    consumer.on_message = receive
    with consumer:
        while True:
            one.drain(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
