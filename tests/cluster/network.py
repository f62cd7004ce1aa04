"""Where the nodes live: on loopback addresses, or each in a network namespace.

Loopback needs no rights. Namespaces need root; then a node's cable can be pulled:

    this machine ---- hub (a namespace with a bridge) ---- pg1 (a namespace)
    198.18.K.254                                     `---- pg2, pg3
                                                           198.18.K.1, .2, .3

The bridge has a namespace of its own because packet filters of the machine (Docker's,
for one) would see what passes through a bridge beside them.
"""

import contextlib
import os
import random
import socket
import subprocess

from . import process


def listener_on(address, port):
    """Who listens there, in words for a message; None when the port is free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
            return None
        except OSError as error:
            return _owner_of(port) or error.strerror


def _owner_of(port):
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as file:
            for line in list(file)[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A":
                    inodes.add(f"socket:[{fields[9]}]")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as name:
                        return f"by pid {pid}, {name.read().strip()}"
    return "by a process of another user" if inodes else None


def free_port(address, wanted=None):
    """`wanted` if nobody listens there, else another one below the range from which the
    kernel takes ports for outgoing connections."""
    if wanted and listener_on(address, wanted) is None:
        return wanted
    for _ in range(200):
        port = random.randrange(10000, 32000)
        if listener_on(address, port) is None:
            return port
    raise RuntimeError(f"no free port on {address}")


class Loopback:
    can_cut = False
    why_not = "nodes share the loopback device (network namespaces need root)"

    def __init__(self, prefix=None):
        self.prefix = prefix or f"127.{random.randrange(64, 128)}.{random.randrange(256)}"
        self.hub = f"{self.prefix}.4"

    def address(self, number):
        return f"{self.prefix}.{number}"

    def command(self, number, arguments):
        return arguments

    def close(self):
        pass


class Namespaces:
    can_cut = True

    def __init__(self, n_nodes, at=None):
        """`at`: only remove what an earlier run has left behind."""
        self.n_nodes = n_nodes
        self.id = at
        if at is None:
            self._open()
        self.prefix = f"198.18.{self.id}"
        self.hub = f"{self.prefix}.254"

    def _open(self):
        for _ in range(20):
            self.id = random.randrange(1, 255)
            try:
                self._ip("netns", "add", self._hub())
                break
            except RuntimeError:
                if not os.path.exists(f"/run/netns/{self._hub()}"):
                    raise
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self):
        hub = self._hub()
        self._ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        self._ip("-n", hub, "link", "set", "bridge", "up")
        self._ip("link", "add", f"pgr{self.id}", "type", "veth", "peer", "name", "up0", "netns", hub)
        self._ip("-n", hub, "link", "set", "up0", "master", "bridge", "up")
        self._ip("address", "add", f"198.18.{self.id}.254/24", "dev", f"pgr{self.id}")
        self._ip("link", "set", f"pgr{self.id}", "up")
        for number in range(1, self.n_nodes + 1):
            space = self._space(number)
            self._ip("netns", "add", space)
            self._ip("-n", space, "link", "set", "lo", "up")
            self._ip("-n", space, "link", "add", "eth0", "type", "veth",
                     "peer", "name", f"to{number}", "netns", hub)
            self._ip("-n", hub, "link", "set", f"to{number}", "master", "bridge", "up")
            self._ip("-n", space, "address", "add", f"198.18.{self.id}.{number}/24", "dev", "eth0")
            self._ip("-n", space, "link", "set", "eth0", "up")

    @staticmethod
    def _ip(*arguments):
        process.run(["ip", *arguments])

    def _hub(self):
        return f"pgr{self.id}-hub"

    def _space(self, number):
        return f"pgr{self.id}-pg{number}"

    def address(self, number):
        return f"{self.prefix}.{number}"

    def command(self, number, arguments):
        return ["ip", "netns", "exec", self._space(number), *arguments]

    def cut(self, number):
        """Pulls the node's cable: packets both ways vanish in silence."""
        self._ip("-n", self._hub(), "link", "set", f"to{number}", "down")

    def heal(self, number):
        self._ip("-n", self._hub(), "link", "set", f"to{number}", "up")

    def close(self):
        for space in [self._space(n + 1) for n in range(self.n_nodes)] + [self._hub()]:
            if os.path.exists(f"/run/netns/{space}"):
                subprocess.run(["ip", "netns", "delete", space], check=False)


def namespaces_work():
    """None, or why they cannot be had here."""
    if os.geteuid() != 0:
        return Loopback.why_not
    try:
        Namespaces(1).close()
    except (RuntimeError, OSError) as error:
        return f"network namespaces do not work here: {str(error).splitlines()[-1]}"
    return None
