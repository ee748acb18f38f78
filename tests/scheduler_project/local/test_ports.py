from __future__ import annotations

import socket

from scheduler_project.local.ports import HOST, free_port


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert port < free_port(port) < port + 100


def test_a_free_port_is_taken_as_asked() -> None:
    port = free_port()

    assert free_port(port) == port
