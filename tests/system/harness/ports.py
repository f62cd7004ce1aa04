"""Ports on loopback that nobody listens on."""

import random
import socket

# Below the range from which the kernel takes ports for outgoing connections: a port that
# was free a moment ago is not taken by a connection of another test.
FIRST, LAST = 10000, 32000

given = set()  # each is given once: who asks twice wants two


def free_port(address="127.0.0.1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(200):
        port = random.randrange(FIRST, LAST)
        if port in given:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                given.add(port)
                return port
            except OSError:
                continue
    raise RuntimeError(f"no free port on {address}")
