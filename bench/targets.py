"""What is measured: the way to the database without and with a program in between."""

import contextlib
import ctypes
import os
import re
import resource
import socket
import subprocess
import time

from cluster import network, process

ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 10
MAX_SESSIONS = 20000

HAPROXY = """\
global
    maxconn {max_sessions}
    nbthread {threads}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    {option}
listen rw
    bind {address}:{port} backlog 1024
    server pg1 {address}:{target} maxconn {max_sessions} check inter 1s
"""

PGROUTER = """\
[pgrouter]
workers = {workers}
max_client_conn = {max_sessions}
log_connections = 0
log_disconnections = 0

[cluster main]
nodes = pg1={address}:{target}
check = tcp
check_interval = 1s

[listener rw]
bind = {address}:{port}
mode = tcp
role = any
"""


def free_port():
    return network.free_port(ADDRESS)


class Target:
    """Where clients connect to; this one is the server itself."""

    name = "direct"
    pid = None

    def __init__(self, target):
        self.port = target

    def start(self):
        pass

    def stop(self):
        pass

    def cpu_seconds(self):
        """Time on a CPU, user and kernel, of all threads since start."""
        return 0.0

    def pss_kb(self):
        return 0


class Proxy(Target):
    """A program that listens on `port` and leads to `target`, both on ADDRESS."""

    def __init__(self, name, folder, target):
        super().__init__(free_port())
        self.name = name
        self._target, self._folder = target, folder
        self._log = os.path.join(folder, f"{name}.log".replace(" ", "-"))
        self._child = None

    def command(self):
        raise NotImplementedError

    def write(self, text, **values):
        path = os.path.splitext(self._log)[0] + ".conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(text.format(address=ADDRESS, port=self.port, target=self._target,
                                   max_sessions=most_sessions(), **values))
        return path

    def start(self):
        self._child, identity = process.spawn(self.command(), self._log, self._folder, dict(os.environ))
        self.pid = identity.pid
        process.wait_until(lambda: self._is_up() or self._child.poll() is not None, START_TIMEOUT_S)
        if not self._is_up():
            self.stop()
            with open(self._log, encoding="utf-8", errors="replace") as file:
                raise RuntimeError(f"{self.name} does not listen on port {self.port}:\n{file.read()}")

    def _is_up(self):
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, self.port), 1):
            return True
        return False

    def stop(self):
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def cpu_seconds(self):
        if self._child.poll() is not None:
            raise RuntimeError(f"{self.name} has ended, see {self._log}")
        clock = ctypes.c_int()
        error = ctypes.CDLL(None).clock_getcpuclockid(self.pid, ctypes.byref(clock))
        if error:
            raise OSError(error, os.strerror(error))
        return time.clock_gettime_ns(clock.value) / 1e9

    def pss_kb(self):
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            return int(re.search(r"^Pss:\s+(\d+) kB", file.read(), re.M)[1])


class Floor(Proxy):
    def __init__(self, program, folder, target):
        super().__init__("floor", folder, target)
        self.program = program

    def command(self):
        return [self.program, str(self.port), ADDRESS, str(self._target)]


class Haproxy(Proxy):
    program = "/usr/sbin/haproxy"

    def __init__(self, name, folder, target, threads=1, option=""):
        super().__init__(name, folder, target)
        self._values = {"threads": threads, "option": option}

    def command(self):
        return [self.program, "-db", "-f", self.write(HAPROXY, **self._values)]


class Pgrouter(Proxy):
    def __init__(self, name, program, folder, target, workers=1):
        super().__init__(name, folder, target)
        self.program = program
        self._workers = workers

    def command(self):
        return [self.program, self.write(PGROUTER, workers=self._workers)]


def most_sessions():
    """As many as descriptors allow: a proxy needs two for each, and HAProxy some for pipes."""
    return min(MAX_SESSIONS, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 400) // 3)


def version(program, *arguments):
    """First line of what it says about itself."""
    done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return (done.stdout.strip().splitlines() or ["?"])[0]
