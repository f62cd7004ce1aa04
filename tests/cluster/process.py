"""Processes that this package starts, and how they are found again.

A pid alone proves nothing: it may have been given to another process since. So a
started process is remembered as pid and start time (in clock ticks since boot), and
nobody is sent a signal unless both still fit. PostgreSQL's processes are not our
children (Patroni starts the postmaster in a session of its own); they are known by the
data directory that they name or work in, and by their parents.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time

# In memory, then on a disk: a disk that others keep busy stops PostgreSQL, Patroni and etcd for seconds.
SCRATCH = ["/dev/shm", "/var/tmp"]
SCRATCH_BYTES = 4 << 30

STAT_STATE, STAT_PARENT, STAT_STARTED = 0, 1, 19  # fields of /proc/PID/stat after the closing parenthesis


def scratch():
    """The folder for data that lives as long as a test; it does not outlive the machine's next start."""
    def has_room(folder):
        if not os.access(folder, os.W_OK | os.X_OK):
            return False
        free = os.statvfs(folder)
        return free.f_bavail * free.f_frsize >= SCRATCH_BYTES
    return next(filter(has_room, SCRATCH), SCRATCH[-1])


def _stat(pid):
    with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        return file.read().rpartition(")")[2].split()


def _children(parents):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(_stat(entry)[STAT_PARENT]) in parents:
                found.append(int(entry))
        except OSError:
            continue
    return found


def started_at(pid):
    """Start time in ticks since boot, or None when there is no such process (a zombie
    counts as none)."""
    try:
        fields = _stat(pid)
    except OSError:
        return None
    return None if fields[STAT_STATE] in "ZX" else int(fields[STAT_STARTED])


class Identity:
    """One process of the past or present."""

    def __init__(self, pid, started):
        self.pid, self.started = pid, started

    @classmethod
    def of(cls, pid):
        return cls(pid, started_at(pid))

    def is_alive(self):
        return self.started is not None and started_at(self.pid) == self.started

    def is_stopped(self):
        """By SIGSTOP."""
        try:
            return self.is_alive() and _stat(self.pid)[STAT_STATE] == "T"
        except OSError:
            return False

    def send(self, number, group=False):
        """False when it is gone."""
        if not self.is_alive():
            return False
        try:
            os.killpg(self.pid, number) if group else os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def end(self, patience):
        """Asks it to end, and waits for that."""
        self.send(signal.SIGTERM, group=True)
        self.send(signal.SIGCONT, group=True)
        wait_until(lambda: not self.is_alive(), patience)

    def kill_family(self):
        """kill -9 of it and of all that descend from it; none can start another while the
        others are looked for."""
        family, grown = [], [self] if self.is_alive() else []
        while grown:
            for one in grown:
                one.send(signal.SIGSTOP)
            family += grown
            known = {one.pid for one in family}
            grown = [Identity.of(child) for child in _children(known) if child not in known]
        for one in family:
            one.send(signal.SIGKILL)
        wait_until(lambda: not any(one.is_alive() for one in family), 5)

    def __str__(self):
        return f"{self.pid} {self.started}"

    @classmethod
    def parse(cls, text):
        pid, started = text.split()
        return cls(int(pid), int(started))


class Account:
    """The user that the cluster runs as: never root."""

    def __init__(self):
        self.is_other = os.geteuid() == 0
        try:
            entry = pwd.getpwnam("postgres") if self.is_other else pwd.getpwuid(os.geteuid())
        except KeyError:
            raise SystemExit("there is no user postgres: is the package postgresql-common installed?")
        self.name, self.uid, self.gid, self.home = (
            entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)

    def command(self, arguments):
        """The same command as this user. exec only: the pid stays the same."""
        if not self.is_other:
            return arguments
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}",
                "--init-groups", "--inh-caps=-all", "--", *arguments]

    def own(self, path):
        if self.is_other:
            os.chown(path, self.uid, self.gid)

    def environment(self):
        keep = ("PATH", "LANG", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")
        values = {k: os.environ[k] for k in keep if k in os.environ}
        values.update(HOME=self.home, USER=self.name, LC_ALL="C.UTF-8",
                      PATH=values.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
        return values


def run(arguments, **options):
    """A command that must succeed; its output is shown when it does not."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))} failed ({done.returncode}):\n{done.stdout}")
    return done.stdout


def spawn(arguments, log, cwd, environment):
    """Starts a command in a session of its own; its output is appended to `log`."""
    with open(log, "ab") as output:
        child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 cwd=cwd, env=environment, start_new_session=True)
    return child, Identity.of(child.pid)


def _names_it(pid, data_directory):
    """A program of PostgreSQL that was started for this data directory, or works in it. (Not
    every root may look at the second of other users' processes.)"""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
        if b"postgresql" in arguments[0] and data_directory.encode() in arguments:
            return True
        return (os.readlink(f"/proc/{pid}/cwd") == data_directory and
                os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("postgres"))
    except OSError:
        return False


def postgres_processes(data_directory):
    """Postmaster, backends and helpers of one data directory, also orphaned ones."""
    path = os.path.realpath(data_directory)
    found = {int(pid) for pid in filter(str.isdigit, os.listdir("/proc")) if _names_it(pid, path)}
    grown = found
    while grown:
        grown = set(_children(grown)) - found
        found |= grown
    return [one for one in map(Identity.of, found) if one.started is not None]


def kill_postgres(data_directory):
    """kill -9 of all of them at once: each is stopped before the first is killed, so
    that none can clean up or start another."""
    for _ in range(10):
        processes = postgres_processes(data_directory)
        if not processes:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in processes:
                process.send(number)
        wait_until(lambda: not any(p.is_alive() for p in processes), 5)


def wait_until(condition, seconds, step=0.02):
    """What `condition` returned when it was last asked."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result or time.monotonic() >= end:
            return result
        time.sleep(step)


def remove_tree(path):
    for _ in range(5):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.2)
