"""Free ports on 127.0.0.1."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def free_port(preferred: int = 0) -> int:
    """`preferred` or the first free one of the 99 after it; by default, any.

    Raises:
        OSError: none of them is free.
    """
    tries = range(preferred, preferred + 100) if preferred else (0,)
    for port in tries:
        with socket.socket() as probe:
            # As servers do it: connections that have just ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port on {HOST} from {preferred} to {preferred + 99}")
