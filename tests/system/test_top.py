"""pgrouter top: one picture as text, and the live one in a terminal."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import threading

import pytest

from cluster import process
from harness.pools import join

MAIN = {"pool_mode": "transaction", "admin_users": "postgres", "default_pool_size": 4}


@pytest.fixture
def watched(pool, cluster):
    def start():
        return pool(main=MAIN)

    return start


def environment(r, cluster, **more):
    return {**os.environ, "PGUSER": "postgres", "PGPASSWORD": cluster.passwords["postgres"],
            "LC_ALL": "C.UTF-8", **more}


def address(r):
    return "{}:{}".format(*r.at("pool"))


def top(r, cluster, *arguments, **more):
    return subprocess.run([r.program, "top", *arguments], env=environment(r, cluster, **more), timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


class Terminal:
    """The program in a terminal of 40 lines, and what that shows."""

    def __init__(self, arguments, env):
        pyte = pytest.importorskip("pyte")
        self.screen = pyte.Screen(150, 40)
        self.stream = pyte.ByteStream(self.screen)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(arguments[0], arguments, env)
        import fcntl
        import struct
        import termios
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))

    def text(self):
        with contextlib.suppress(OSError):
            while select.select([self.fd], [], [], 0.05)[0]:
                data = os.read(self.fd, 65536)
                if not data:
                    break
                self.stream.feed(data)
        return "\n".join(self.screen.display)

    def shows(self, *texts, seconds=20):
        return process.wait_until(lambda: all(text in self.text() for text in texts), seconds)

    def press(self, key):
        os.write(self.fd, key.encode())

    def status(self):
        """How it has ended; None: it goes on."""
        self.text()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return None if pid == 0 else os.waitstatus_to_exitcode(status)

    def close(self):
        with contextlib.suppress(OSError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def test_once_prints_nodes_pools_and_traffic(watched, cluster):
    r = watched()
    with join(r) as client:
        client.execute("begin")
        done = top(r, cluster, "--once", address(r))
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    leader = cluster.leader()
    assert lines[0].startswith("PgBouncer ") and "pgrouter" in lines[0]
    assert any(line.startswith(f"cluster main  primary {leader.name} since ") for line in lines)
    nodes = {line.split()[0]: line.split()[1:3] for line in lines if line.strip().startswith(
        tuple(node.name for node in cluster.nodes))}
    assert nodes == {node.name: ["primary" if node is leader else "replica", "UP"] for node in cluster.nodes}
    row = next(line for line in lines if line.strip().startswith("app/app "))
    assert "transaction" in row and "[#####" in row
    bar, numbers = row[row.index("[") + 1:row.index("]")], row[row.index("]") + 1:].split()
    assert len(bar) == 20 and bar.count("#") == 5, "one of four"
    assert numbers[:5] == ["1", "0", "4", "1", "0"]
    assert any(line.split()[:1] == ["app"] for line in lines)


def test_where_it_is_may_be_said_in_each_way(watched, cluster):
    r = watched()
    host, port = r.at("pool")
    first = top(r, cluster, "--once", address(r)).stdout.splitlines()[0]
    for arguments, more in (([f"host={host} port={port}"], {}),
                            ([f"postgresql://{host}:{port}/pgrouter"], {}),
                            ([], {"PGHOST": host, "PGPORT": str(port)})):
        done = top(r, cluster, "--once", *arguments, **more)
        assert done.returncode == 0 and done.stdout.splitlines()[0] == first, done.stderr


@pytest.mark.parametrize("arguments, said", [
    (["--once", "127.0.0.1:1"], "pgrouter: "), (["a", "b"], "one address at most"),
    (["--interval", "never"], "Try pgrouter top --help"), (["--nonsense"], "Try pgrouter top --help")])
def test_mistakes_are_told(program, arguments, said):
    done = subprocess.run([program, "top", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 1 and said in done.stderr and done.stdout == ""


def test_whoever_may_not_look_is_told(watched, cluster):
    r = watched()
    done = top(r, cluster, "--once", address(r), PGUSER="app", PGPASSWORD=cluster.passwords["app"])
    assert done.returncode == 1 and "not allowed" in done.stderr


def test_without_a_terminal_pictures_follow_each_other(watched, cluster):
    r = watched()
    running = subprocess.Popen([r.program, "top", "--interval", "200ms", address(r)],
                               env=environment(r, cluster, TERM="dumb"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True)
    killer = threading.Timer(60, running.kill)
    killer.start()
    try:
        n = 0
        while n < 3:
            line = running.stdout.readline()
            assert line != ""
            n += line.startswith("PgBouncer ")
    finally:
        killer.cancel()
        running.kill()
        running.wait()
        running.stdout.close()


def test_in_a_terminal_it_follows_what_happens(watched, cluster):
    r = watched()
    terminal = Terminal([r.program, "top", "--interval", "200ms", address(r)],
                        environment(r, cluster, TERM="linux"))
    try:
        if terminal.shows("PgBouncer ", "\n\n", seconds=1) and "pools by" not in terminal.text():
            pytest.skip("built without ncurses")
        assert terminal.shows("cluster main  primary", "pools by name"), terminal.text()
        with join(r) as client, join(r, database="pgbouncer", user="postgres") as console:
            client.execute("begin")
            assert terminal.shows("app/app", "[#####"), terminal.text()
            client.execute("commit")
            assert terminal.shows("[-----"), terminal.text()
            console.execute("PAUSE app")
            assert terminal.shows("PAUSED"), terminal.text()
            terminal.press("p")
            assert terminal.shows("standing still")
            console.execute("RESUME app")
            assert "PAUSED" in terminal.text()
            terminal.press("p")
            assert process.wait_until(lambda: "PAUSED" not in terminal.text(), 20)
        terminal.press("s")
        assert terminal.shows("pools by waiting clients")
        terminal.press("h")
        assert terminal.shows("q end")
        terminal.press("q")
        assert process.wait_until(lambda: terminal.status() == 0, 20)
    finally:
        terminal.close()


def test_it_waits_for_a_router_that_is_gone(watched, cluster):
    r = watched()
    terminal = Terminal([r.program, "top", "--interval", "200ms", address(r)],
                        environment(r, cluster, TERM="linux"))
    try:
        assert terminal.shows("cluster main  primary"), terminal.text()
        r.signal(signal.SIGQUIT)
        r.process.wait(20)
        assert terminal.shows("Connection refused"), terminal.text()
        assert terminal.status() is None
        terminal.press("q")
        assert process.wait_until(lambda: terminal.status() == 0, 20)
    finally:
        terminal.close()
