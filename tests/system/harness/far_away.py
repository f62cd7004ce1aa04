"""Peers at the end of a cable that can be pulled: in a network namespace.

    with FarAway() as far:
        router = start_router(listeners={"rw": {"bind": f"{far.here}:{port}"}}, ...)
        with far.inside():                  # sockets that are made in here live there
            client = Client((far.here, port))
            server = FakePostgres(address=far.there)
        far.cut()                           # nothing arrives any more, either way

Needs root; FarAway.why_not() says why it cannot be had.
"""

import contextlib
import ctypes
import errno
import os
import socket

from cluster import network, process

CLONE_NEWNET = 0x40000000


def _enter(path_or_descriptor):
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = path_or_descriptor
    if isinstance(path_or_descriptor, str):
        descriptor = os.open(path_or_descriptor, os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        if descriptor is not path_or_descriptor:
            os.close(descriptor)


def _is_there(address):
    """Whether the machine answers, be it that nobody listens."""
    with socket.socket() as probe, contextlib.suppress(TimeoutError):
        probe.settimeout(0.5)
        return probe.connect_ex((address, 9)) in (0, errno.ECONNREFUSED)
    return False


class FarAway:
    why_not = staticmethod(network.namespaces_work)

    def __init__(self):
        self._network = network.Namespaces(1)
        self.here, self.there = self._network.hub, self._network.address(1)
        name = self._network.command(1, [])[-1]
        self._path = f"/run/netns/{name}"

    @contextlib.contextmanager
    def inside(self):
        """This thread, and threads that it starts, make their sockets there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(self._path)
            yield
        finally:
            _enter(home)
            os.close(home)

    def cut(self):
        self._network.cut(1)

    def heal(self):
        """Until each side finds the other one again."""
        self._network.heal(1)
        with self.inside():
            assert process.wait_until(lambda: _is_there(self.here), 10)
        assert process.wait_until(lambda: _is_there(self.there), 10)

    def close(self):
        self._network.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
