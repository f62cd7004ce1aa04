"""One client that writes numbered rows by a driver of its own, until SIGTERM: see README.md.

Called by switchover.py: `writers.py KIND`, with libpq's variables for where, and WRITER_* (see
Settings) for what. At the end it writes its own list of what it has tried, as tally.py wants it.
The same in other languages: Writer.java, writer.js.

The driver is used as it comes. What raises an error is never tried again: the next attempt has
the next number.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tty

SHIFT_S = time.time() - time.monotonic()
GRACE_S = 2  # for what is under way at the end; then it hangs
ONE_ROW = "insert into bench_rows (run, client, number, part) values ({run}, {client}, {number}, {part})"


def now():
    return time.monotonic() + SHIFT_S


class Settings:
    def __init__(self):
        self.run = int(os.environ["WRITER_RUN"])
        self.client = int(os.environ["WRITER_CLIENT"])
        self.shape = os.environ["WRITER_SHAPE"]  # autocommit, transactions or reconnect
        self.pause_s = float(os.environ["WRITER_PAUSE"])
        self.error_pause_s = float(os.environ["WRITER_ERROR_PAUSE"])
        self.think_s = float(os.environ["WRITER_THINK"])  # after each statement of a transaction
        self.result = os.environ["WRITER_RESULT"]


class Ledger:
    """What the client has tried. One thread writes; the end may find it in the midst of it."""

    def __init__(self, settings, kind):
        self.settings, self.kind = settings, kind
        self.attempts, self.connects = [], []
        self._current = None
        self._connect_began = None
        self._lock = threading.Lock()  # an attempt is under way or in the list

    def number(self):
        return len(self.attempts) + 1

    @contextlib.contextmanager
    def connecting(self):
        self._connect_began = now()
        try:
            yield
        except Exception as error:
            self._connected("failed", error)
            raise
        self._connected("ok")

    def _connected(self, state, error=None):
        with self._lock:
            self.connects.append([self._connect_began, now(), state, *told(error)])
            self._connect_began = None

    @contextlib.contextmanager
    def attempt(self):
        self._current = {"begin": now(), "wait": 0, "statement": None}
        try:
            yield self
        except Exception as error:
            self._ended("failed", error)
            raise
        self._ended("ok")

    def _ended(self, state, error=None):
        with self._lock:
            current, self._current = self._current, None
            self.attempts.append([self.number(), current["begin"], now(), current["wait"], state, *told(error)])

    @contextlib.contextmanager
    def statement(self):
        began = self._current["statement"] = now()
        try:
            yield
        finally:
            self._current["wait"] = max(self._current["wait"], now() - began)
            self._current["statement"] = None

    def save(self):
        """Also what is under way: that has hung."""
        with self._lock:
            attempts, connects = list(self.attempts), list(self.connects)
            current, began = self._current, self._connect_began
        if current is not None:
            since = current["statement"] or now()
            attempts.append([len(attempts) + 1, current["begin"], now(), max(current["wait"], now() - since),
                             "hung", None, "no answer"])
        if began is not None:
            connects.append([began, now(), "hung", None, "no answer to connecting"])
        with open(self.settings.result, "w", encoding="utf-8") as file:
            json.dump({"client": self.settings.client, "kind": self.kind,
                       "attempts": attempts, "connects": connects}, file)


def told(error):
    """SQLSTATE, None where the driver has none, and the first line of what it says."""
    if error is None:
        return None, None
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return code, (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class PythonDriver:
    """psycopg 3 and psycopg2, whose interface is the same."""

    def __init__(self, module, has_parameters):
        self._module, self._has_parameters = module, has_parameters

    def run(self, settings, ledger, stop):
        connection = None
        while not stop.wait(settings.pause_s):
            try:
                if connection is None:
                    with ledger.connecting():
                        connection = self._module.connect("")
                    connection.autocommit = settings.shape != "transactions"
                with ledger.attempt():
                    self._write(settings, ledger, connection)
                if settings.shape == "reconnect":
                    connection.close()
                    connection = None
            except self._module.Error:
                connection = self._usable(settings, connection)
                stop.wait(settings.error_pause_s)

    def _write(self, settings, ledger, connection):
        cursor, number = connection.cursor(), ledger.number()
        values = {"run": settings.run, "client": settings.client, "number": number}
        for part in (1, 2) if settings.shape == "transactions" else (1,):
            with ledger.statement():
                if self._has_parameters:
                    cursor.execute(ONE_ROW.format(run="%s", client="%s", number="%s", part="%s"),
                                   (*values.values(), part))
                else:
                    cursor.execute(ONE_ROW.format(part=part, **values))
            if settings.shape == "transactions":
                time.sleep(settings.think_s)
        if settings.shape == "transactions":
            with ledger.statement():
                connection.commit()

    def _usable(self, settings, connection):
        """The connection if it can be gone on with, else None."""
        if connection is None:
            return None
        with contextlib.suppress(self._module.Error):
            if not connection.closed and settings.shape != "reconnect":
                connection.rollback()
                if not connection.closed:
                    return connection
            connection.close()
        return None


PGBENCH = {
    "autocommit": [ONE_ROW],
    "transactions": ["begin", ONE_ROW, "\\sleep {think_us} us", ONE_ROW, "\\sleep {think_us} us", "commit"],
    "reconnect": [ONE_ROW],
}


class Pgbench:
    """pgbench with one client. It gives up at the first error, and is started again with the
    number that comes next. Its log is one line for each transaction that was committed, in order;
    by a terminal it comes line by line, and nothing of it is lost however pgbench ends."""

    def __init__(self, protocol):
        self._protocol = protocol

    def run(self, settings, ledger, stop):
        with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
            script = os.path.join(folder, "script")
            with open(script, "w", encoding="ascii") as file:
                file.write(self._script(settings))
            while not stop.is_set():
                self._run_one(settings, ledger, stop, folder, script)

    @staticmethod
    def _script(settings):
        lines = [f"\\sleep {round(settings.pause_s * 1e6)} us", "\\set n :n + 1"]
        part = 0
        for line in PGBENCH[settings.shape]:
            part += line == ONE_ROW
            line = line.format(run=settings.run, client=settings.client, number=":n", part=part,
                               think_us=round(settings.think_s * 1e6))
            lines.append(line if line.startswith("\\") else line + ";")
        return "\n".join(lines) + "\n"

    def _run_one(self, settings, ledger, stop, folder, script):
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        # The log's name is a prefix, then the process id: so a link of that name is made first.
        command = ["sh", "-c", 'ln -s "$0" "$1.$$" && shift && exec "$@"', os.ttyname(theirs),
                   os.path.join(folder, "log"), os.environ["WRITER_PGBENCH"], "-n", "-c", "1", "-j", "1",
                   "-T", "100000", "-M", self._protocol, "-f", script, "-D", f"n={ledger.number() - 1}",
                   "--log", f"--log-prefix={folder}/log", "--failures-detailed"]
        if settings.shape == "reconnect":
            command.append("-C")
        began = now()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        reader = _Lines(settings, ledger, ours, theirs, began)
        while child.poll() is None:
            if stop.is_set():
                child.send_signal(signal.SIGALRM)  # as if its time were over
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(GRACE_S / 2)
                    break
                child.kill()
                child.wait()
                reader.join()
                reader.fail("hung", None, "no answer")
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.02)
        reader.join()
        if child.returncode != 0:
            self._failed(reader, child.stderr.read())
            stop.wait(settings.error_pause_s)
        child.stderr.close()

    @staticmethod
    def _failed(reader, complaint):
        lines = [line for line in complaint.splitlines() if "error:" in line and "Run was aborted" not in line]
        text = (lines or complaint.splitlines() or ["pgbench failed"])[0].replace("pgbench: error: ", "")
        if "connection to server" in complaint or "establishing connection" in complaint:
            reader.refuse(text)
        else:
            reader.fail("failed", None, text)


# Of --failures-detailed: pgbench goes on after these, with the next transaction.
FAILURES = {"serialization": "40001", "deadlock": "40P01"}


class _Lines:
    """Reads pgbench's log as it comes: client, number, microseconds, script, seconds, microseconds."""

    def __init__(self, settings, ledger, descriptor, other_side, began):
        self._settings, self._ledger = settings, ledger
        self._idle_s = settings.pause_s
        if settings.shape == "transactions":
            self._idle_s += 2 * settings.think_s
        self._last = began
        self._descriptor, self._other_side = descriptor, other_side
        self._is_connected = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        rest = b""
        while True:
            try:
                more = os.read(self._descriptor, 4096)
            except OSError:  # nobody has the other side any more, and all is read
                return
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                self._note(line.split())

    def _note(self, words):
        end = int(words[4]) + int(words[5]) / 1e6
        if not self._is_connected:
            self._is_connected = True
            begin = end - int(words[2]) / 1e6
            self._ledger.connects.append([self._last, begin, "ok", None, None])
        else:
            begin = min(self._last + self._settings.pause_s, end)
        if words[2].isdigit():
            wait = max(0, end - begin - (self._idle_s - self._settings.pause_s))
            self._add(begin, end, wait, "ok", None, None)
        else:
            reason = words[2].decode()
            self._add(begin, end, max(0, end - begin), "failed", FAILURES.get(reason), f"pgbench: {reason}")
        self._last = end

    def _add(self, *values):
        self._ledger.attempts.append([self._ledger.number(), *values])

    def join(self):
        """When pgbench has ended: until then the other side is held, as it opens that late."""
        os.close(self._other_side)
        self._thread.join(GRACE_S)
        os.close(self._descriptor)

    def fail(self, state, code, text):
        begin, end = min(self._last + self._settings.pause_s, now()), now()
        self._add(begin, end, end - begin, state, code, text)

    def refuse(self, text):
        self._ledger.connects.append([self._last, now(), "failed", None, text])


def driver_of(kind):
    if kind.startswith("pgbench"):
        return Pgbench("extended" if kind == "pgbench-extended" else "simple")
    if kind == "psycopg2":
        import psycopg2
        return PythonDriver(psycopg2, has_parameters=True)  # it puts them into the text itself
    import psycopg
    return PythonDriver(psycopg, has_parameters=kind != "psycopg-simple")


def main():
    kind = sys.argv[1]
    settings = Settings()
    ledger, stop = Ledger(settings, kind), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    driver = driver_of(kind)
    crashed = []

    def work():
        try:
            driver.run(settings, ledger, stop)
        except BaseException as error:
            crashed.append(error)
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive() and not stop.is_set():
        thread.join(0.1)
    thread.join(GRACE_S)
    if crashed:
        os._exit(1)
    ledger.save()
    os._exit(0)


if __name__ == "__main__":
    main()
