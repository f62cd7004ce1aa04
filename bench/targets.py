"""What is measured: the way to the database without and with a program in between."""

import contextlib
import ctypes
import glob
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


POOL_SIZE = 20

PGROUTER_POOL = """\
[pgrouter]
workers = {workers}
max_client_conn = {max_sessions}
pool_mode = transaction
default_pool_size = {pool_size}
max_prepared_statements = 200
auth_type = {auth_type}
auth_file = {auth_file}
admin_users = postgres
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
{tls}

[cluster main]
nodes = pg1={address}:{target}
check = tcp
check_interval = 1s

[databases]
* = cluster=main role=any

[listener rw]
bind = {address}:{port}
mode = pool
"""

STATS = """\

[stats]
bind = {address}:{stats_port}
"""

PGBOUNCER = """\
[databases]
* = host={address} port={target}

[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
max_client_conn = {max_sessions}
pool_mode = transaction
default_pool_size = {pool_size}
max_prepared_statements = 200
auth_type = {auth_type}
auth_file = {auth_file}
admin_users = postgres
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
{tls}
"""

POOL_TLS = """\
client_tls_sslmode = require
client_tls_key_file = {key}
client_tls_cert_file = {certificate}
"""


def free_port():
    return network.free_port(ADDRESS)


class Target:
    """Where clients connect to; this one is the server itself."""

    name = "direct"
    pid = None
    is_pool = False  # many clients share few servers
    stats_port = None  # of a page
    has_tls = False
    follows_prepared = True  # statements that are prepared with a name

    def __init__(self, target):
        self.port = target

    def start(self):
        pass

    def stop(self):
        pass

    def cpu_seconds(self):
        """Time on a CPU, user and kernel, of all threads since start."""
        return 0.0

    def cpu_seconds_of_workers(self):
        """The same, of each of its threads that carry clients."""
        return []

    def pss_kb(self):
        return 0

    def most_sessions(self):
        return most_sessions()


class Proxy(Target):
    """A program that listens on `port` and leads to `target`, both on ADDRESS."""

    def __init__(self, name, folder, target):
        super().__init__(free_port())
        self.name = name
        self._target, self._folder = target, folder
        self._log = os.path.join(folder, f"{name}.log".replace(" ", "-"))
        self._child = None
        self.account = None  # that it runs as, when not as ours

    def command(self):
        raise NotImplementedError

    def write(self, text, **values):
        path = os.path.splitext(self._log)[0] + ".conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(text.format(address=ADDRESS, port=self.port, target=self._target,
                                   max_sessions=self.most_sessions(), **values))
        return path

    def start(self):
        command = self.command() if self.account is None else self.account.command(self.command())
        self._child, identity = process.spawn(command, self._log, self._folder, dict(os.environ))
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

    def cpu_seconds_of_workers(self):
        found = []
        for task in glob.glob(f"/proc/{self.pid}/task/*"):
            with open(os.path.join(task, "comm"), encoding="ascii") as file:
                is_worker = file.read().startswith("worker-")
            with open(os.path.join(task, "schedstat"), encoding="ascii") as file:
                if is_worker:
                    found.append((task, int(file.read().split()[0]) / 1e9))
        return [seconds for _, seconds in sorted(found)]

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


class Pool(Proxy):
    """Shares POOL_SIZE servers in transaction mode. With a password clients and servers must
    show it, without one nobody asks; `trusts`: clients are not asked in either case."""

    is_pool = True

    def __init__(self, name, folder, target, password=None, tls=None, trusts=False):
        super().__init__(name, folder, target)
        self._password, self._tls = password, tls
        self._asks = password is not None and not trusts
        self.has_tls = tls is not None

    def most_sessions(self):
        return most_sessions(descriptors=1)

    def write_pool(self, text, **values):
        users = os.path.splitext(self._log)[0] + ".users"
        with open(os.open(users, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(f'"postgres" "{self._password or ""}"\n')
        files = [users]
        if self._tls is not None:
            files += [self._tls["key"], self._tls["certificate"]]
        for path in files if self.account is not None else []:
            self.account.own(path)
        return self.write(text, pool_size=POOL_SIZE, auth_file=users,
                          auth_type="md5" if self._asks else "trust",
                          tls=POOL_TLS.format(**self._tls) if self._tls else "", **values)


class PgrouterPool(Pool):
    def __init__(self, name, program, folder, target, workers=1, **more):
        super().__init__(name, folder, target, **more)
        self.program = program
        self._workers = workers

    def command(self):
        return [self.program, self.write_pool(PGROUTER_POOL, workers=self._workers)]


class PgrouterWatched(PgrouterPool):
    """With a page."""

    def command(self):
        self.stats_port = self.stats_port or free_port()
        return [self.program, self.write_pool(PGROUTER_POOL + STATS, workers=self._workers,
                                              stats_port=self.stats_port)]


class Pgbouncer(Pool):
    """`program` is a pgbouncer.Program. It does not run as root."""

    def __init__(self, name, program, folder, target, **more):
        super().__init__(name, folder, target, **more)
        self.account = process.Account()
        self.program = program.command[0]
        self.follows_prepared = program.follows_prepared
        self._command = program.command

    def command(self):
        return [*self._command, self.write_pool(PGBOUNCER)]


class Chain(Target):
    """HAProxy that leads to PgBouncer that leads to an HAProxy that leads to the primary: what
    one does without a pool that knows the roles."""

    name = "chain"
    program = Haproxy.program
    is_pool = True

    def __init__(self, program, folder, target, **more):
        back = Haproxy("chain-back", folder, target)
        pool = Pgbouncer("chain-pgbouncer", program, folder, back.port, **more)
        front = Haproxy("chain-front", folder, pool.port)
        super().__init__(target)
        self.port = front.port
        self.follows_prepared = pool.follows_prepared
        self._links = [back, pool, front]

    def start(self):
        for link in self._links:
            link.start()

    def stop(self):
        for link in reversed(self._links):
            link.stop()

    def cpu_seconds(self):
        return sum(link.cpu_seconds() for link in self._links)

    def pss_kb(self):
        return sum(link.pss_kb() for link in self._links)


def certificate(folder):
    """A key and a certificate of their own, for POOL_TLS."""
    paths = {"key": os.path.join(folder, "key.pem"), "certificate": os.path.join(folder, "certificate.pem")}
    process.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-days", "30", "-subj", "/CN=localhost",
                 "-keyout", paths["key"], "-out", paths["certificate"]])
    return paths


def most_sessions(descriptors=3):
    """As many as descriptors allow: a relay needs two for each, and HAProxy some for pipes."""
    return min(MAX_SESSIONS, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 400) // descriptors)


def version(program, *arguments):
    """First line of what it says about itself."""
    done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return (done.stdout.strip().splitlines() or ["?"])[0]
