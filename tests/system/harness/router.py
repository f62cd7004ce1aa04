"""One running pgrouter.

    router = start(nodes="pg1=127.0.0.1:5432:8008",
                   listeners={"rw": {"role": "primary"}, "ro": {"role": "replica"}},
                   cluster={"check_interval": "500ms"}, main={"max_client_conn": 10})
    router.dsn("rw")                       # for psycopg or psql
    router.at("ro")                        # (host, port), for wire.Client
    router.sections["listener rw"]["role"] = "any"
    router.reload()
    router.log.wait("session ended", node="pg1")
    router.stop()

stop() also asks how it went: exit status 0, no sanitizer's report, no descriptor that
outlived its client, no loop that stood still.
"""

import base64
import contextlib
import glob
import http.client
import json
import os
import re
import signal as signals
import subprocess
import threading
import time

from cluster import process

from .ports import free_port

LONGEST_ITERATION_MS = 20
# A share of the time in which threads stood ready without a CPU. From there on an iteration may
# have waited for a lock whose holder did: what it has worked itself is judged alone.
CROWDED = 0.05
CLIENTS_THAT_MUST_SPREAD = 8
ESTABLISHED, CLOSE_WAIT = "01", "08"
PAIR = re.compile(r' ([a-z_0-9]+)=("(?:[^"\\]|\\.)*"|\S+)')
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) UTC \[\d+\] (\w+) +(.*)")


def sanitizer_of(program):
    """"address", "thread" or None."""
    with open(program, "rb") as file:
        code = file.read()
    return "address" if b"__asan_init" in code else "thread" if b"__tsan_init" in code else None


class Event(dict):
    """One line of the log: .name, .level, .at (time.monotonic() when it was read) and its
    fields as a dict; numbers are numbers."""

    def __init__(self, line):
        self.line, self.at = line, time.monotonic()
        self.name, self.level = None, None
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                self.update(json.loads(line))
                self.name, self.level = self.pop("event"), self.pop("level")
        elif found := LINE.match(line):
            self.level, rest = found.group(2), found.group(3)
            first = PAIR.search(rest)
            self.name = rest[:first.start()] if first else rest
            self.update((key, _value(text)) for key, text in PAIR.findall(rest))

    def fits(self, name, fields):
        return (name is None or self.name == name) and all(
            self.get(key) == value for key, value in fields.items())


def _value(text):
    if text.startswith('"'):
        return json.loads(text, strict=False)
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


class Log:
    """What the program writes to standard error, as it comes."""

    def __init__(self, program):
        self.all = []
        self._program, stream = program, program.stderr
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream):
        for line in stream:
            event = Event(line.rstrip("\n"))
            with self._changed:
                self.all.append(event)
                self._changed.notify_all()

    def join(self):
        self._thread.join(10)

    def mark(self):
        """A place in the log, for `since`."""
        self._settle()
        return len(self.all)

    def find(self, name=None, since=0, **fields):
        """All events of that name whose fields have these values, of what was logged before
        this is asked."""
        self._settle()
        return self._fitting(name, since, fields)

    def _fitting(self, name, since, fields):
        return [event for event in self.all[since:] if event.fits(name, fields)]

    def _settle(self):
        """The program's lines are on their way for a while, on a machine that does much else:
        waits until its log thread has nothing to do, and nothing comes any more."""
        def is_settled():
            before = len(self.all)
            if not self._thread.is_alive():
                return True
            if self._is_writing():
                return False
            time.sleep(0.01)
            return len(self.all) == before

        process.wait_until(is_settled, 2, step=0.005)

    def _is_writing(self):
        with contextlib.suppress(OSError):  # it has ended
            for path in glob.glob(f"/proc/{self._program.pid}/task/*/stat"):
                with open(path, encoding="latin-1") as file:
                    name, _, rest = file.read().partition("(")[2].rpartition(")")
                if name == "log" and rest.split()[0] == "R":
                    return True
        return False

    def wait(self, name=None, seconds=10, since=0, **fields):
        """The first one, now or within `seconds`."""
        found = []

        def is_there():
            found[:] = self._fitting(name, since, fields)
            return found

        with self._changed:
            if not self._changed.wait_for(is_there, seconds):
                raise TimeoutError(f"no line {name!r} with {fields} in {seconds} s; the log:\n{self.text()}")
        return found[0]

    def text(self, last=200):
        return "\n".join(event.line for event in self.all[-last:])


def stalled_seconds():
    """How long, since the machine started, something stood ready without a CPU (the kernel's
    Documentation/accounting/psi.rst); 0 where the kernel does not say."""
    with contextlib.suppress(OSError), open("/proc/pressure/cpu", encoding="ascii") as file:
        return int(file.readline().rpartition("total=")[2]) / 1e6
    return 0


def stolen_seconds():
    """How long, since the machine started, its CPUs served other machines of the same hardware
    (proc(5)): the kernel counts that as work of whoever was running."""
    with open("/proc/stat", encoding="ascii") as file:
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


class Router:
    """Started by start(); see above."""

    def __init__(self, program, folder, sections, environment=None, arguments=(), prefix=()):
        self.program, self.folder, self.sections = program, folder, sections
        self.sanitizer = sanitizer_of(program)
        self.ini = os.path.join(folder, "pgrouter.ini")
        self.passwords = {}
        self.has_ended = False
        self.started_at, self.stalled_s = time.monotonic(), stalled_seconds()
        self.stolen_s = stolen_seconds()
        self.is_slowed = False  # by the test: its loops are not held to a time
        if sections is not None:
            self._write()
            arguments = [*arguments, self.ini]
        self.process = subprocess.Popen(
            [*prefix, *setarch(self.sanitizer), program, *arguments], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, **sanitizer_options(folder), **(environment or {})})
        self.log = Log(self.process)

    def _write(self):
        text = "".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
                       for section, keys in self.sections.items())
        with open(self.ini, "w", encoding="utf-8") as file:
            file.write(text)

    # Where it is

    def at(self, listener="rw", index=0):
        """(host, port) of a listener's index-th address, or the path of a unix socket."""
        section = "stats" if listener == "stats" else f"listener {listener}"
        return split_endpoint(self.sections[section]["bind"].split(",")[index].strip())

    def port(self, listener="rw"):
        return self.at(listener)[1]

    def dsn(self, listener="rw", user="app", database=None, **more):
        """A libpq connection string; keywords (sslmode, ...) are added."""
        at = self.at(listener)
        host, port = at if isinstance(at, tuple) else (
            os.path.dirname(at), os.path.basename(at).rpartition(".")[2])
        parts = {"host": host, "port": port, "user": user, "password": self.passwords.get(user),
                 "dbname": database or ("app" if user == "app" else "postgres"),
                 "connect_timeout": 15, **more}
        return " ".join(f"{key}='{value}'" for key, value in parts.items() if value is not None)

    def connect(self, listener="rw", **more):
        """A psycopg connection that commits each statement."""
        import psycopg
        return psycopg.connect(self.dsn(listener, **more), autocommit=True)

    def get(self, path, user=None, timeout=5):
        """Status, headers and body that the stats port answers on `path`."""
        connection = http.client.HTTPConnection(*self.at("stats"), timeout=timeout)
        headers = {}
        if user is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

    def csv(self):
        """/stats;csv: {(pxname, svname): {column: text}}"""
        lines = self.get("/stats;csv")[2].splitlines()
        columns = lines[0].removeprefix("# ").split(",")
        rows = [dict(zip(columns, line.split(","))) for line in lines[1:] if line]
        return {(row["pxname"], row["svname"]): row for row in rows}

    # What can be asked of it

    def is_alive(self):
        return self.process.poll() is None

    def is_ready(self):
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def wait_until_ready(self, seconds=15):
        def settled():
            return not self.is_alive() or self.is_ready()

        if not process.wait_until(settled, seconds) or not self.is_alive():
            raise RuntimeError(f"pgrouter is not ready after {seconds} s; its log:\n{self.log.text()}")

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self, expect="configuration reloaded"):
        """Writes `sections` anew, sends SIGHUP, and waits for what the log says of it."""
        since = self.log.mark()
        self._write()
        self.signal(signals.SIGHUP)
        return self.log.wait(expect, since=since)

    def memory_kb(self):
        """Resident memory that no file stands behind: what is its own does not change when
        another process of the same program ends."""
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def sessions(self):
        """n of established clients on the listeners, n of connections to nodes' PostgreSQL."""
        clients, servers, _ = self._sockets()
        return clients.count(ESTABLISHED), servers.count(ESTABLISHED)

    def _sockets(self):
        """States of sockets towards clients, of sockets towards servers, and how many
        descriptors are sockets that the kernel has forgotten."""
        folder = f"/proc/{self.process.pid}"
        inodes = set()
        for descriptor in os.listdir(f"{folder}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"{folder}/fd/{descriptor}")
                if link.startswith("socket:["):
                    inodes.add(link[8:-1])
        ours = {at[1] for at in map(split_endpoint, self._binds()) if isinstance(at, tuple)}
        theirs = {port for section, keys in self.sections.items() if section.startswith("cluster ")
                  for port in node_ports(keys.get("nodes", ""))}
        clients, servers = [], []
        for table in ("tcp", "tcp6"):
            for fields in _table(f"{folder}/net/{table}"):
                if fields[9] not in inodes:
                    continue
                inodes.discard(fields[9])
                local, remote = (int(fields[i].rpartition(":")[2], 16) for i in (1, 2))
                if fields[3] == "0A":
                    continue
                if local in ours:
                    clients.append(fields[3])
                elif remote in theirs:
                    servers.append(fields[3])
        for table, column in (("udp", 9), ("udp6", 9), ("unix", 6), ("netlink", 9)):
            for fields in _table(f"{folder}/net/{table}"):
                inodes.discard(fields[column])
        return clients, servers, len(inodes)

    def _binds(self):
        return [bind.strip() for section, keys in self.sections.items()
                if section.startswith("listener ") for bind in keys["bind"].split(",")]

    # Its end

    def stop(self, number=signals.SIGTERM, seconds=20):
        """Ends it and asserts that all went well."""
        if self.has_ended:
            return
        self.has_ended = True
        left_open = self._left_open() if self.is_alive() and self.sections is not None else None
        if self.is_alive():
            self.signal(number)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signals.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.kill()
            raise AssertionError(f"pgrouter did not end within {seconds} s") from None
        self.log.join()
        self.process.stderr.close()
        report = self._sanitizer_report()
        assert not report, report
        assert status == 0, f"exit status {status}; the log:\n{self.log.text()}"
        assert left_open is None, left_open
        self._assert_loops_were_quick()

    def kill(self):
        """For teardown after a failure."""
        self.has_ended = True
        if self.is_alive():
            self.process.kill()
        self.process.wait()
        self.log.join()

    def _left_open(self):
        """What outlives the clients that are gone, in words; None when nothing does."""
        said = []

        def is_clean():
            clients, servers, forgotten = self._sockets()
            n_open = clients.count(ESTABLISHED)
            n_nodes = sum(len(list(node_ports(keys.get("nodes", "")))) for section, keys
                          in self.sections.items() if section.startswith("cluster "))
            said[:] = [f"{clients.count(CLOSE_WAIT)} clients that have left, {len(servers)} servers "
                       f"for {n_open} clients, {forgotten} dead sockets"]
            if "pgbouncer" in self.sections or \
                    any(keys.get("mode") == "pool" for keys in self.sections.values()):
                n_nodes += servers.count(ESTABLISHED)  # a pool's servers wait for the next client
            return (CLOSE_WAIT not in clients and forgotten == 0 and
                    len(servers) <= n_open + n_nodes)  # a probe may be under way on each node

        with contextlib.suppress(FileNotFoundError):
            if not any("/" in bind for bind in self._binds()) and not process.wait_until(is_clean, 5):
                return "descriptors are left open: " + said[0]
        return None

    def _sanitizer_report(self):
        # UBSan beside ASan knows no log_path.
        text = "".join(event.line + "\n" for event in self.log.all if "runtime error:" in event.line)
        for path in glob.glob(os.path.join(self.folder, "sanitizer.*")):
            with open(path, encoding="utf-8", errors="replace") as file:
                text += file.read()
        return text

    def _machine_was_crowded(self):
        stalled_s = stalled_seconds() - self.stalled_s
        return stalled_s > CROWDED * (time.monotonic() - self.started_at)

    def _assert_loops_were_quick(self):
        loops = self.log.find("loop ended")
        if self.sections is not None:
            assert loops, f"no loop says how long its longest iteration was:\n{self.log.text()}"
        if self.sanitizer is None and not self.is_slowed:
            judged = "longest_work_ms" if self._machine_was_crowded() else "longest_ms"
            limit_ms = LONGEST_ITERATION_MS + (stolen_seconds() - self.stolen_s) * 1000
            slow = [loop.line for loop in loops if loop[judged] > limit_ms]
            assert not slow, f"an iteration above {LONGEST_ITERATION_MS} ms: {slow}"
        workers = [loop["clients"] for loop in loops if "clients" in loop]
        if len(workers) > 1 and sum(workers) >= CLIENTS_THAT_MUST_SPREAD:
            assert sum(n > 0 for n in workers) >= 2, f"one worker had all clients: {workers}"


def start(program, folder, nodes=None, listeners=None, cluster=None, main=None, stats=None,
          sections=None, passwords=None, environment=None, prefix=(), wait=True):
    """Starts pgrouter. `sections` stands in place of everything that would be generated:
    a dict of dicts, as it will be written. `wait`: until /readyz says so."""
    if sections is None:
        sections = {"pgrouter": dict(main or {}),
                    "cluster main": {**({"nodes": nodes} if nodes else {}), **(cluster or {})}}
        for name, keys in (listeners or {"rw": {}}).items():
            sections[f"listener {name}"] = {"bind": f"127.0.0.1:{free_port()}", **keys}
        sections["stats"] = {"bind": f"127.0.0.1:{free_port()}", **(stats or {})}
    sections.setdefault("pgrouter", {}).setdefault("workers", os.environ.get("TEST_WORKERS", "4"))
    router = Router(program, folder, sections, environment, prefix=prefix)
    router.passwords = passwords or {}
    if wait:
        try:
            router.wait_until_ready()
        except BaseException:
            router.kill()
            raise
    return router


def split_endpoint(text):
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host == "*" else host), int(port)


def node_ports(nodes):
    """PostgreSQL's ports in a `nodes` setting."""
    for node in nodes.split(","):
        found = re.search(r"^[^:]*?:(\d+)", node.strip().rpartition("]")[2].rpartition("=")[2])
        yield int(found.group(1)) if found else 5432


def sanitizer_options(folder):
    log = f"log_path={os.path.join(folder, 'sanitizer')}"
    return {"ASAN_OPTIONS": f"{log}:detect_leaks=1:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": f"{log}:print_stacktrace=1",
            "TSAN_OPTIONS": f"{log}:second_deadlock_stack=1:history_size=4"}


def setarch(sanitizer):
    """ThreadSanitizer does not start where the kernel randomizes addresses too widely."""
    return ["setarch", os.uname().machine, "-R"] if sanitizer == "thread" else []


def _table(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
        next(file)
        for line in file:
            fields = line.split()
            if len(fields) > 6:
                yield fields
