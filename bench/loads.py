"""What is done to a target: a throw-away PostgreSQL, pgbench, COPY, idle sessions."""

import contextlib
import os
import re
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import sys

from cluster import process
from cluster.cluster import postgres_programs
from targets import ADDRESS, free_port

HERE = os.path.dirname(os.path.abspath(__file__))
ROW_BYTES = 8000
COPY_HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack("!ii", 0, 0)
COPY_ROW = struct.pack("!hi", 1, ROW_BYTES) + b"x" * ROW_BYTES
COPY_TRAILER = struct.pack("!h", -1)

# Checking passwords is not what is measured: md5 takes PostgreSQL the least time.
POSTGRES_CONF = """
listen_addresses = '{address}'
port = {port}
unix_socket_directories = ''
max_connections = 220
shared_buffers = 256MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
max_wal_size = 2GB
jit = off
logging_collector = off
"""


class Database:
    """A PostgreSQL of its own in `folder`; not as root."""

    def __init__(self, folder):
        self.account = process.Account()
        self.programs = postgres_programs()
        self.data = os.path.join(folder, "data")
        self.log = os.path.join(folder, "postgres.log")
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._folder = folder
        self._child = None

    def program(self, name):
        return os.path.join(self.programs, name)

    def start(self, scale):
        secret = os.path.join(self._folder, "password")
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(self.password)
        self.account.own(secret)
        os.mkdir(self.data, 0o700)
        self.account.own(self.data)
        process.run(self.account.command([
            self.program("initdb"), "-D", self.data, "-U", "postgres", "--auth=md5", f"--pwfile={secret}",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]),
            cwd=self._folder, env=self.account.environment())
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="ascii") as file:
            file.write(POSTGRES_CONF.format(address=ADDRESS, port=self.port))
        self._child, _ = process.spawn(
            self.account.command([self.program("postgres"), "-D", self.data]),
            self.log, self._folder, self.account.environment())
        ready = [self.program("pg_isready"), "-q", "-h", ADDRESS, "-p", str(self.port)]
        if not process.wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, 30, 0.1):
            with open(self.log, encoding="utf-8", errors="replace") as file:
                raise RuntimeError(f"PostgreSQL does not start:\n{file.read()}")
        process.run([self.program("pgbench"), "-i", "-q", "-s", str(scale), *self._where(self.port)],
                    env=self._environment())
        self._sql("vacuum analyze")
        self._sql("create unlogged table sink (bytes bytea)")

    def stop(self):
        if self._child is not None:
            self._child.send_signal(signal.SIGQUIT)  # at once, and its shared memory goes too
            process.wait_until(lambda: self._child.poll() is not None, 10)
            process.kill_postgres(self.data)
            self._child.wait()
            self._child = None

    def _environment(self):
        return {**os.environ, "PGPASSWORD": self.password, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}

    @staticmethod
    def _where(port):
        return ["-h", ADDRESS, "-p", str(port), "-U", "postgres", "postgres"]

    def _psql(self, statement, port):
        where = f"host={ADDRESS} port={port} user=postgres dbname=postgres"
        return [self.program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, where]

    def _sql(self, statement):
        return process.run(self._psql(statement, self.port), env=self._environment())

    # Loads: each returns what it has done and what the target's CPU time was

    def pgbench(self, target, seconds, clients, options):
        command = [self.program("pgbench"), "-n", "-S", "-T", str(seconds), "-c", str(clients),
                   "-j", str(min(clients, 2)), *options, *self._where(target.port)]
        cpu, workers = target.cpu_seconds(), target.cpu_seconds_of_workers()
        text = process.run(command, env=self._environment())
        cpu = target.cpu_seconds() - cpu
        workers = [now - before for now, before in zip(target.cpu_seconds_of_workers(), workers)]
        n = int(re.search(r"transactions actually processed: (\d+)", text)[1])
        if n == 0 or re.search(r"number of failed transactions: [1-9]", text) or "aborted" in text:
            raise RuntimeError(f"pgbench through {target.name}:\n{text}")
        return {"n": n, "tps": float(re.search(r"^tps = ([\d.]+)", text, re.M)[1]), "cpu_s": cpu,
                "cpu_s_of_workers": workers}

    def copy_out(self, target, n_bytes):
        """The rows come out of thin air."""
        n_rows = n_bytes // len(COPY_ROW)
        statement = (f"copy (select decode(repeat('78', {ROW_BYTES}), 'hex') "
                     f"from generate_series(1, {n_rows})) to stdout (format binary)")
        return self._copy(target, statement, n_rows, None)

    def copy_in(self, target, n_bytes):
        """The rows are read and thrown away."""
        n_rows = n_bytes // len(COPY_ROW)
        return self._copy(target, "copy sink from stdin (format binary) where false", n_rows, feed)

    def _copy(self, target, statement, n_rows, feeder):
        cpu, began = target.cpu_seconds(), os.times().elapsed
        child = subprocess.Popen(self._psql(statement, target.port), env=self._environment(),
                                 stdin=subprocess.PIPE if feeder else subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            if feeder:
                feeder(child.stdin, n_rows)
            complaint = child.communicate()[1]
        finally:
            child.kill()
            child.wait()
        if child.returncode != 0:
            raise RuntimeError(f"COPY through {target.name}: {complaint.decode()}")
        return {"n": n_rows * len(COPY_ROW), "seconds": os.times().elapsed - began,
                "cpu_s": target.cpu_seconds() - cpu}


def feed(pipe, n_rows):
    many, at_once = COPY_ROW * 128, 128
    try:
        pipe.write(COPY_HEADER)
        while n_rows > 0:
            n = min(n_rows, at_once)
            pipe.write(many[:n * len(COPY_ROW)])
            n_rows -= n
        pipe.write(COPY_TRAILER)
        pipe.flush()
    except BrokenPipeError:
        pass  # psql says why


class IdleServer:
    """Plays PostgreSQL for thousands of sessions, see idle_server.py."""

    def __init__(self, folder):
        self.port = free_port()
        self._log = os.path.join(folder, "idle_server.log")
        self._folder = folder
        self._child = None

    def start(self):
        program = os.path.join(HERE, "idle_server.py")
        self._child, _ = process.spawn([sys.executable, program, str(self.port)], self._log,
                                       self._folder, dict(os.environ))
        if not process.wait_until(self._is_up, 10):
            raise RuntimeError(f"the idle server does not start, see {self._log}")

    def _is_up(self):
        try:
            open_session(self.port).close()
        except OSError:
            return False
        return True

    def stop(self):
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


STARTUP = message(b"", struct.pack("!i", 3 << 16) +
                  b"user\0postgres\0database\0postgres\0application_name\0idle\0\0")
SIMPLE = message(b"Q", b"select 1\0")
NAMED = (message(b"P", b"one\0select 1\0" + struct.pack("!h", 0)) +
         message(b"B", b"\0one\0" + struct.pack("!hhh", 0, 0, 0)) +
         message(b"E", b"\0" + struct.pack("!i", 0)) + message(b"S", b""))
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE


def open_session(port, has_tls=False):
    """Logs in, has a query and a statement with a name answered, and says nothing more."""
    session = socket.create_connection((ADDRESS, port), 10)
    if has_tls:
        session.sendall(SSL_REQUEST)
        if session.recv(1) != b"S":
            raise ConnectionError("there is no TLS")
        session = ANY_CERTIFICATE.wrap_socket(session)
    for words in STARTUP, SIMPLE, NAMED:
        session.sendall(words)
        read_until_ready(session)
    return session


def read_until_ready(session):
    got = b""
    while not got.endswith(b"Z\0\0\0\x05I"):
        more = session.recv(4096)
        if not more:
            raise ConnectionError(f"the session has ended: {got!r}")
        got += more


class Crowd:
    """Who looks at a target and wants nothing else of it: 200 HTTP clients that ask for the page
    in a loop, where it has one, and SHOW CLIENTS in a loop. What they take of the processors
    themselves is what others leave."""

    HTTP_CLIENTS = 200
    POLITELY = ["nice", "-n", "19"]

    def __init__(self, target, folder, seconds):
        self._children = [self._start(folder, [sys.executable, os.path.join(HERE, "onlooker.py"),
                                               str(target.port)])]
        if target.stats_port is not None:
            self._children.append(self._start(folder, [
                "wrk", "-t", "1", "-c", str(self.HTTP_CLIENTS), "-d", f"{seconds}s", "--timeout", "30s",
                f"http://{ADDRESS}:{target.stats_port}/stats"]))

    def _start(self, folder, command):
        with open(os.path.join(folder, "crowd.log"), "ab") as log:
            return subprocess.Popen([*self.POLITELY, *command], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=log, text=True)

    def end(self):
        """What they were answered while they were there."""
        for child in self._children:
            child.send_signal(signal.SIGINT if child is not self._children[0] else signal.SIGTERM)
        said = [child.communicate(timeout=60)[0] for child in self._children]
        n_shows, n_bytes = map(int, said[0].split())
        found = {"shows": n_shows, "show_bytes": n_bytes // n_shows if n_shows else 0}
        if len(said) > 1:
            found["pages"] = int(re.search(r"(\d+) requests in", said[1])[1])
            errors = re.search(r"Socket errors: .*|Non-2xx.*", said[1])
            found["page_errors"] = errors[0] if errors else ""
        return found


def new_connections(database, target, seconds, folder, is_watched):
    """pgbench with a connection for each transaction, among a crowd or by itself."""
    crowd = Crowd(target, folder, seconds + 30) if is_watched else None
    try:
        found = database.pgbench(target, seconds, 16, ["-M", "simple", "-C"])
    finally:
        seen = crowd.end() if crowd else {}
    return {**found, **seen}


def memory_per_session(target, few, many):
    """Bytes of the proxy's own memory that an idle, logged-in session adds."""
    with idle_sessions(target, few):
        small = target.pss_kb()
        with idle_sessions(target, many - few):
            sizes = [small, target.pss_kb()]
    return {"few": few, "many": many, "pss_kb": sizes,
            "bytes": (sizes[1] - sizes[0]) * 1024 / (many - few)}


@contextlib.contextmanager
def idle_sessions(target, n):
    sessions = []
    try:
        for _ in range(n):
            sessions.append(open_session(target.port, target.has_tls))
        yield
    finally:
        for session in sessions:
            session.close()
