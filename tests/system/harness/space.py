"""A network namespace of a test's own, where every port is free.

    with Space() as space:
        with space.inside():                     # this thread, and what it starts
            server = FakePostgres(port=6432)
        router = Router(..., prefix=space.prefix)
    Space(cluster).address                       # reached by this machine, and reaches the nodes
"""

import contextlib
import ctypes
import os
import random

from cluster import process

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Space:
    """Needs root. With a `cluster` whose nodes live in namespaces it is their neighbour."""

    def __init__(self, cluster=None):
        self.name = f"pgrouter-{os.getpid()}-{random.randrange(10**6)}"
        self.prefix = ["ip", "netns", "exec", self.name]
        self.address = None
        self._ip("netns", "add", self.name)
        try:
            self._ip("-n", self.name, "link", "set", "lo", "up")
            if cluster is not None:
                self._join(cluster.network)
        except BaseException:
            self.close()
            raise

    def _join(self, network):
        hub, number = f"pgr{network.id}-hub", random.randrange(100, 250)
        self.address = network.address(number)
        self._ip("-n", self.name, "link", "add", "eth0", "type", "veth",
                 "peer", "name", f"to{number}", "netns", hub)
        self._ip("-n", hub, "link", "set", f"to{number}", "master", "bridge", "up")
        self._ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        self._ip("-n", self.name, "link", "set", "eth0", "up")

    @staticmethod
    def _ip(*arguments):
        process.run(["ip", *arguments])

    @contextlib.contextmanager
    def inside(self):
        """Sockets that this thread makes meanwhile are in there, and stay there."""
        with open("/proc/thread-self/ns/net", encoding="ascii") as home, \
                open(f"/run/netns/{self.name}", encoding="ascii") as there:
            _enter(there)
            try:
                yield
            finally:
                _enter(home)

    def close(self):
        self._ip("netns", "delete", self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _enter(namespace):
    if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
