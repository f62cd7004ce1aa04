"""The runtime socket: HAProxy's commands and answers, who may say them, and what they do to
nodes and listeners."""

import contextlib
import csv
import io
import json
import os
import pty
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

from cluster import process
from harness.fake_node import ask_who, fake_nodes, setting, who
from harness.pools import Onlooker, join, one, pid_of
from harness.wire import Client, startup

QUICK = {"check_interval": "300ms", "check_fast_interval": "50ms", "check_timeout": "1s"}
VISITORS_MAX = 32


class Runtime:
    """One connection per question, as socat makes it."""

    def __init__(self, path):
        self.path = str(path)

    def connect(self, timeout=10):
        visitor = socket.socket(socket.AF_UNIX)
        visitor.settimeout(timeout)
        visitor.connect(self.path)
        return visitor

    def ask(self, line, timeout=10):
        """All that is answered to a line until the connection is closed."""
        with self.connect(timeout) as visitor:
            visitor.sendall(line.encode() + b"\n")
            return read_all(visitor).decode()

    def table(self, line="show stat"):
        """{(pxname, svname): row} of a CSV."""
        text = self.ask(line)
        assert text.endswith("\n\n"), text[-100:]
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ").removesuffix("\n")))
        return {(row["pxname"], row["svname"]): row for row in rows}

    def info(self):
        """{name: text}"""
        return dict(line.split(": ", 1) for line in self.ask("show info").splitlines() if line)

    def states(self):
        """{(backend, server): fields of show servers state}"""
        lines = self.ask("show servers state").splitlines()
        assert lines[0] == "1"
        names = lines[1].removeprefix("# ").split(" ")
        rows = [dict(zip(names, line.split(" "), strict=True)) for line in lines[2:] if line]
        return {(row["be_name"], row["srv_name"]): row for row in rows}


def read_all(visitor):
    data = b""
    while piece := visitor.recv(65536):
        data += piece
    return data


def read_until(visitor, end):
    data = b""
    while not data.endswith(end):
        piece = visitor.recv(65536)
        assert piece, data
        data += piece
    return data.decode()


@pytest.fixture
def runtime(start_router, tmp_path):
    """Starts a router in front of fake nodes: it and its socket."""
    def start(nodes, level="admin", **options):
        path = tmp_path / "runtime.sock"
        options.setdefault("listeners", {
            "rw": {"queue_timeout": "10s"}, "ro": {"role": "replica", "balance": "roundrobin"}})
        r = start_router(nodes=setting(*nodes), cluster=QUICK,
                         stats={"socket": path, "socket_level": level}, **options)
        return r, Runtime(path)

    return start


def reached(r, n=6, listener="ro"):
    return {ask_who(r.at(listener)) for _ in range(n)}


# What it says


def test_it_answers_as_haproxy_does(runtime):
    with fake_nodes("a", "b", "c") as nodes:
        r, socket_ = runtime(nodes)
        assert socket_.ask("show version").strip() in r.get("/stats")[2]
        assert socket_.ask("set server ro/b state drain") == "\n"
        assert socket_.ask("get weight ro/b") == "1 (initial 1)\n\n"
        for line, answer in {
                "get weight ro/nobody": "No such server.",
                "get weight nothing/b": "No such backend.",
                "set server ro": "Require 'backend/server'.",
                "set server ro/b state away": "'set server <srv> state' expects 'ready', 'drain' and 'maint'.",
                "set weight ro/b 257": "Absolute weight can only be between 0 and 256 inclusive.",
                "set weight ro/b -1": "Absolute weight can only be between 0 and 256 inclusive.",
                "set maxconn frontend nothing 5": "No such frontend.",
                "set maxconn frontend rw five": "Integer value expected.",
                "set maxconn global 999999": "Value out of range.",
                "enable frontend rw": "All sockets are already enabled.",
                "show servers state nothing": "Can't find backend.",
        }.items():
            assert socket_.ask(line) == answer + "\n\n", line
        assert socket_.ask("set server ro/b fqdn b.example").startswith("usage: set server <backend>/<server> ")
        assert socket_.ask("set server ro/b").startswith("usage: set server <backend>/<server> ")
        assert socket_.ask("nonsense").startswith("Unknown command. Please enter one of the following")
        assert "  show stat " in socket_.ask("help")
        assert socket_.ask("show errors").startswith("Total events captured on [")
        assert socket_.ask("show backend") == "# name\nrw\nro\n\n"


def test_commands_between_semicolons_and_behind_a_prompt(runtime):
    with fake_nodes("a", "b") as nodes:
        _, socket_ = runtime(nodes)
        version = socket_.ask("show version")
        assert socket_.ask("get weight ro/b;show version; get  weight ro/b") == \
            "1 (initial 1)\n\n" + version + "1 (initial 1)\n\n"
        assert socket_.ask("show version;show info;show version").endswith("\n\n" + version)
        with socket_.connect() as visitor:
            visitor.sendall(b"prompt\n")
            assert read_until(visitor, b"> ") == "\n> "
            visitor.sendall(b"get weight ro/b\nshow ver")
            assert read_until(visitor, b"> ") == "1 (initial 1)\n\n> "
            visitor.sendall(b"sion\n")
            assert read_until(visitor, b"> ") == version + "> "
            visitor.sendall(b"show info\n")
            assert read_until(visitor, b"> ").startswith("Name: pgrouter\n")
            visitor.sendall(b"quit\n")
            assert read_all(visitor) == b"\n> "
        with socket_.connect() as visitor:  # only the first line counts without a prompt
            visitor.sendall(b"show version\nset weight ro/b 7\n")
            assert read_all(visitor).decode() == version
        with socket_.connect() as visitor:  # nor a line without an end
            visitor.sendall(b"set weight ro/b 7")
            visitor.shutdown(socket.SHUT_WR)
            assert read_all(visitor) == b""
        assert socket_.ask("get weight ro/b") == "1 (initial 1)\n\n"


def test_show_stat_is_the_csv_of_the_page(runtime):
    moving = {"lastchg", "downtime", "lastsess", "check_duration", "check_health", "rate", "conn_rate"}
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        assert ask_who(r.at("rw")) == "a"
        assert process.wait_until(lambda: r.csv()["rw", "a"]["scur"] == "0", 10)
        from_page = r.csv()
        from_socket = socket_.table()
        assert list(from_socket) == list(from_page)
        for key, row in from_socket.items():
            assert list(row)[:-1] == list(from_page[key])[:-1]
            for name in set(row) - moving - {""}:
                assert row[name] == from_page[key][name], (key, name)
        iid = from_socket["ro", "BACKEND"]["iid"]
        assert set(socket_.table(f"show stat {iid} 4 -1")) == {("ro", "a"), ("ro", "b")}
        assert set(socket_.table("show stat rw 1 -1")) == {("rw", "FRONTEND")}
        assert set(socket_.table("show stat -1 2 -1")) == {("rw", "BACKEND"), ("ro", "BACKEND")}
        assert set(socket_.table("show stat -1 4 2")) == {("rw", "b"), ("ro", "b")}
        assert socket_.ask("set server ro/b state maint") == "\n"
        assert ("ro", "b") not in socket_.table("show stat no-maint")
        assert ("rw", "b") in socket_.table("show stat up")
        typed = socket_.ask("show stat rw 4 1 typed").splitlines()
        assert all(line.startswith("S.%s.1." % from_socket["rw", "BACKEND"]["iid"]) for line in typed if line)
        assert any(line.endswith(".svname.1:KNS:str:a") for line in typed)
        assert [field["value"]["value"] for row in json.loads(socket_.ask("show stat rw 4 1 json")) for field in row
                if field["field"]["name"] == "svname"] == ["a"]


def test_show_info_counts(runtime):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes, main={"max_client_conn": 77})
        before = socket_.info()
        assert (before["CurrConns"], before["Maxconn"]) == ("0", "77")
        assert before["Pid"] == str(r.process.pid)
        assert int(before["Nbthread"]) == int(r.sections["pgrouter"]["workers"]) + 1
        with Client(r.at("rw")) as one_client, Client(r.at("rw")) as other:
            one_client.log_in()
            other.log_in()
            now = socket_.info()
            assert now["CurrConns"] == "2"
            assert int(now["CumConns"]) == int(before["CumConns"]) + 2
        typed = socket_.ask("show info typed").splitlines()
        assert "0.Name.1:POS:str:pgrouter" in typed and f"6.Pid.1:SGP:u32:{r.process.pid}" in typed


def test_show_sess_tells_of_every_client(runtime):
    with fake_nodes("a", "b") as nodes, contextlib.ExitStack() as stack:
        r, socket_ = runtime(nodes)
        clients = [stack.enter_context(Client(r.at("rw"))) for _ in range(300)]
        for client in clients:
            client.log_in()
        lines = socket_.ask("show sess").splitlines()
        assert [line.split(": ")[0] for line in lines if line] != []
        assert sum("fe=rw be=rw srv=a " in line for line in lines) == len(clients)
        assert len({line.split(":")[0] for line in lines if line}) == len(clients)
        assert {line.split("worker=")[1] for line in lines if line} == \
            {str(i) for i in range(int(r.sections["pgrouter"]["workers"]))}


# Nodes


def test_a_drained_node_gets_nothing_new(runtime):
    with fake_nodes("a", "b", "c") as nodes:
        r, socket_ = runtime(nodes)
        b = nodes[1]
        with Client(r.at("ro")) as one_client, Client(r.at("ro")) as other:
            for client in (one_client, other):
                client.log_in()
            assert {who(one_client), who(other)} == {"b", "c"}
            asked = b.patroni.asked["/primary"]
            assert socket_.ask("set server ro/b state drain") == "\n"
            line = r.log.wait("node state set", node="b", state="drain")
            assert line["by"] == f"runtime socket, pid {os.getpid()}"
            assert process.wait_until(lambda: reached(r) == {"c"}, 10)
            assert {who(one_client), who(other)} == {"b", "c"}
        row = socket_.table()["ro", "b"]
        assert row["status"] == "DRAIN" and r.csv()["ro", "b"]["status"] == "DRAIN"
        assert "DRAIN" in r.get("/stats")[2]
        assert socket_.states()["ro", "b"]["srv_admin_state"] == "8"
        assert process.wait_until(lambda: b.patroni.asked["/primary"] > asked + 3, 10), "it is checked"
        r.reload()
        assert reached(r) == {"c"}, "it is not forgotten"
        assert socket_.ask("set server ro/b state ready") == "\n"
        assert process.wait_until(lambda: reached(r) == {"b", "c"}, 10)


def test_nobody_asks_a_node_in_maintenance(runtime):
    with fake_nodes("a", "b", "c") as nodes:
        r, socket_ = runtime(nodes)
        b, c = nodes[1:]
        with Client(r.at("ro")) as one_client, Client(r.at("ro")) as other:
            for client in (one_client, other):
                client.log_in()
            assert socket_.ask("disable server ro/b") == "\n"
            assert process.wait_until(lambda: r.csv()["ro", "b"]["status"] == "MAINT", 10)
            time.sleep(0.1)  # what was under way
            asked, of_c = b.patroni.asked["/primary"], c.patroni.asked["/primary"]
            assert process.wait_until(lambda: c.patroni.asked["/primary"] > of_c + 5, 10)
            assert b.patroni.asked["/primary"] == asked
            assert {who(one_client), who(other)} == {"b", "c"}, "sessions go on"
            assert reached(r) == {"c"}
        state = socket_.states()["ro", "b"]
        assert (state["srv_op_state"], state["srv_admin_state"]) == ("0", "1")
        b.refuse()
        assert socket_.ask("enable server ro/b") == "\n"
        assert process.wait_until(lambda: r.csv()["ro", "b"]["status"] == "DOWN", 10)
        assert reached(r) == {"c"}
        b.open()
        assert process.wait_until(lambda: reached(r) == {"b", "c"}, 10)


def test_writers_wait_while_the_primary_is_out(runtime):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        assert socket_.ask("set server rw/a state drain") == "\n"
        assert process.wait_until(lambda: socket_.table()["rw", "a"]["status"] == "DRAIN", 10)
        with Client(r.at("rw")) as waiting:
            waiting.send(startup(user="app", database="app"))
            assert process.wait_until(lambda: socket_.table()["rw", "BACKEND"]["qcur"] == "1", 10)
            assert socket_.ask("set server rw/a state ready") == "\n"
            waiting.messages_until()
            assert who(waiting) == "a"


def test_a_node_moves(runtime):
    """New sessions go to another address, at another port, and the node is checked there."""
    with fake_nodes("a", "b") as nodes, fake_nodes("a", "c", address="127.0.0.9") as (_, there):
        r, socket_ = runtime(nodes)
        here, port = nodes[1].postgres.port, there.postgres.port
        there.patroni.refuse()
        there.patroni.port = nodes[1].patroni.port
        there.patroni.open()
        with Client(r.at("ro")) as before:
            before.log_in()
            assert who(before) == "b"
            assert socket_.ask(f"set server ro/b addr 127.0.0.9 port {port}") == (
                f"IP changed from '127.0.0.1' to '127.0.0.9', port changed from '{here}' to '{port}' "
                "by 'stats socket command'\n\n")
            assert r.log.wait("node address set", node="b", address=f"127.0.0.9:{port}")
            assert process.wait_until(lambda: reached(r, 1) == {"c"}, 10)
            assert who(before) == "b"
        assert socket_.table()["ro", "b"]["addr"] == f"127.0.0.9:{port}"
        nodes[1].refuse()
        r.reload()
        assert reached(r, 3) == {"c"}, "also through a reload, though nobody is at the old address"
        there.patroni.refuse()
        r.log.wait("node changed", node="b", **{"is": "down"})
        for line, answer in {
                f"set server ro/b addr 127.0.0.9 port {port}": "no need to change the addr, no need to change the port",
                "set server ro/b addr 127.0.0.1": "IP changed from '127.0.0.9' to '127.0.0.1' by 'stats socket command'",
                "set server ro/b addr": "set server <b>/<s> addr requires an address and optionally a port.",
                "set server ro/b addr 127.0.0.1 prt 1": "set server <b>/<s> addr requires an address and optionally a port.",
                "set server ro/b addr b.example": "Invalid addr: an IPv4 or IPv6 address is expected.",
                "set server ro/b addr 127.0.0.1 port 0": "provided port is not an integer from 1 to 65535.",
                "set server ro/b addr 127.0.0.1 port 65536": "provided port is not an integer from 1 to 65535.",
                "set server ro/b addr 127.0.0.1 port -1": "provided port is not an integer from 1 to 65535.",
        }.items():
            assert socket_.ask(line) == answer + "\n\n", line


def test_a_primary_that_moves_is_proven_first(runtime):
    """Somebody else may be there: no writer goes to it before Patroni has said what it is."""
    with fake_nodes("a", "b") as nodes, fake_nodes("x", "c", address="127.0.0.9") as (_, there):
        r, socket_ = runtime(nodes)
        there.patroni.refuse()
        there.patroni.port = nodes[0].patroni.port
        port = there.postgres.port
        assert ask_who(r.at("rw")) == "a"
        assert "IP changed" in socket_.ask(f"set server rw/a addr 127.0.0.9 port {port}")
        with Client(r.at("rw"), timeout=30) as writer:
            writer.send(startup(user="app"))
            with pytest.raises(TimeoutError):
                writer.socket.settimeout(1.5)
                writer.message()
            assert there.postgres.connections == []
            writer.socket.settimeout(30)
            there.patroni.primary(timeline=2)
            there.patroni.open()
            writer.messages_until("Z")
            assert who(writer) == "c"


def test_weights_share_new_sessions(runtime):
    with fake_nodes("a", "b", "c") as nodes:
        r, socket_ = runtime(nodes)
        assert socket_.ask("set weight ro/b 3") == "\n"
        assert socket_.ask("set server ro/c weight 1") == "\n"
        found = [ask_who(r.at("ro")) for _ in range(40)]
        assert 27 <= found.count("b") <= 33
        assert socket_.table()["ro", "b"]["weight"] == "3"
        assert socket_.table()["ro", "BACKEND"]["weight"] == "4"
        r.reload()
        assert socket_.ask("get weight ro/b") == "3 (initial 1)\n\n"
        assert socket_.ask("set weight ro/b 0%") == "\n"
        assert reached(r) == {"c"}
        assert socket_.table()["ro", "b"]["status"] == "DRAIN"
        assert socket_.ask("set weight ro/b 100%") == "\n"
        assert reached(r) == {"b", "c"}


def test_pools_leave_a_node_in_maintenance(pool, cluster, tmp_path):
    path = tmp_path / "runtime.sock"
    r = pool(main={"pool_mode": "transaction", "admin_users": "postgres"}, databases={"app": "cluster=main role=replica"})
    r.sections["stats"].update(socket=path, socket_level="admin")
    r.reload()
    socket_ = Runtime(path)
    here = "select host(inet_server_addr())"
    with join(r) as busy, join(r) as other:
        busy.execute("begin")
        node = next(n for n in cluster.replicas() if n.address == one(busy, here))
        with Onlooker(node) as onlooker:
            assert pid_of(busy) in onlooker.pids()
            assert socket_.ask(f"set server main/{node.name} state maint") == "\n"
            with join(r, database="pgbouncer", user="postgres") as console:
                names = [column.name for column in console.execute("show nodes").description]
                rows = [dict(zip(names, row)) for row in console.execute("show nodes").fetchall()]
            assert {row["name"]: row["maintenance"] for row in rows} == \
                {n.name: int(n is node) for n in cluster.nodes}
            assert pid_of(busy) in onlooker.pids(), "a transaction goes on"
            assert one(other, here) != node.address
            busy.execute("commit")
            assert process.wait_until(lambda: onlooker.pids() == [], 10), "and then its server is closed"
        assert one(busy, here) != node.address
        assert socket_.ask(f"set server main/{node.name} state ready") == "\n"


# Listeners and counters


def test_a_disabled_frontend_takes_nobody_until_it_is_enabled(runtime):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        assert socket_.ask("disable frontend rw") == "\n"
        assert socket_.table()["rw", "FRONTEND"]["status"] == "STOP"
        r.reload()
        with Client(r.at("rw")) as client:
            client.send(startup(user="app", database="app"))
            assert ask_who(r.at("ro")) == "b"
            assert socket_.table()["rw", "FRONTEND"]["stot"] == "0"
            assert socket_.ask("enable frontend rw") == "\n"
            client.messages_until()
            assert who(client) == "a"
        assert socket_.table()["rw", "FRONTEND"]["status"] == "OPEN"


def test_limits_are_raised_and_lowered(runtime):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        assert socket_.ask("set maxconn frontend rw 1") == "\n"
        assert socket_.table()["rw", "FRONTEND"]["slim"] == "1"
        with Client(r.at("rw")) as first, Client(r.at("rw")) as second:
            first.log_in()
            second.send(startup(user="app", database="app"))
            assert process.wait_until(
                lambda: socket_.table()["rw", "FRONTEND"]["status"] == "FULL" and
                socket_.table()["rw", "FRONTEND"]["scur"] == "2", 10)
            assert socket_.ask("set maxconn frontend rw 2") == "\n"
            second.messages_until()
        assert socket_.ask("set maxconn global 5") == "\n"
        assert socket_.info()["Maxconn"] == "5"


def test_counters_are_cleared(runtime):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        with Client(r.at("rw")) as client:
            client.log_in()
            ask_who(r.at("rw"))
            assert process.wait_until(lambda: socket_.table()["rw", "a"]["scur"] == "1", 10)
            row = socket_.table()["rw", "FRONTEND"]
            assert (row["smax"], row["stot"]) == ("2", "2")
            assert socket_.ask("clear counters") == "\n"
            row = socket_.table()["rw", "FRONTEND"]
            assert (row["scur"], row["smax"], row["stot"]) == ("1", "1", "2")
            assert socket_.table()["rw", "a"]["stot"] == "2"
            assert socket_.ask("clear counters all") == "\n"
            assert socket_.table()["rw", "FRONTEND"]["stot"] == "0"
            row = socket_.table()["rw", "a"]
            assert (row["scur"], row["smax"], row["stot"], row["bin"]) == ("1", "1", "0", "0")
        assert process.wait_until(lambda: socket_.table()["rw", "a"]["scur"] == "0", 10)


# Who may


def test_each_level_may_do_its_part(runtime):
    admins = ["set server ro/b state drain", "set weight ro/b 5", "disable frontend rw",
              "set maxconn global 5", "clear counters all", "disable server ro/b"]
    operators = ["clear counters", "show errors", "show sess"]
    denied = "Permission denied\n\n"
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes, level="user")
        assert all(socket_.ask(line) == denied for line in admins + operators)
        assert socket_.ask("show cli level") == "user\n\n"
        assert "set weight" not in socket_.ask("help") and "show stat" in socket_.ask("help")
        assert ("rw", "a") in socket_.table()
        r.sections["stats"]["socket_level"] = "operator"
        r.reload()
        assert all(socket_.ask(line) == denied for line in admins)
        assert all(socket_.ask(line) != denied for line in operators)
        r.sections["stats"]["socket_level"] = "admin"
        r.reload()
        assert socket_.ask("operator;set weight ro/b 5;show cli level") == "\n" + denied + "operator\n\n"
        assert socket_.ask("user;operator;show errors") == "\n\n" + denied
        assert socket_.ask("get weight ro/b") == "1 (initial 1)\n\n"


def test_a_reload_moves_the_socket(runtime, tmp_path):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        assert stat.S_IMODE(os.stat(socket_.path).st_mode) == 0o600
        other = Runtime(tmp_path / "other.sock")
        r.sections["stats"].update(socket=other.path, socket_mode="0660")
        r.reload()
        assert not os.path.exists(socket_.path)
        assert stat.S_IMODE(os.stat(other.path).st_mode) == 0o660
        assert ("rw", "a") in other.table()
        r.sections["stats"]["socket"] = str(tmp_path / "missing" / "x.sock")
        r.reload(expect="configuration not reloaded, the old one goes on")
        assert ("rw", "a") in other.table()
        del r.sections["stats"]["socket"]
        r.reload()
        assert not os.path.exists(other.path)


# Visitors who mean no good


def test_long_lines_end(runtime):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        with socket_.connect() as visitor:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                visitor.sendall(b"x" * 100_000)
                assert read_all(visitor) == b"The line is too long.\n\n"
        with socket_.connect(30) as visitor:
            visitor.sendall(b";" * 16000 + b"\n")
            assert read_all(visitor).count(b"Unknown command.") == 16000
        assert socket_.ask(" ".join(["show", "stat"] + ["x"] * 5000)).startswith("# pxname")
        assert r.is_alive()


def test_many_silent_visitors_and_slow_readers_are_closed(runtime):
    with fake_nodes("a", "b") as nodes, contextlib.ExitStack() as stack:
        r, socket_ = runtime(nodes)
        silent = [stack.enter_context(socket_.connect(60)) for _ in range(VISITORS_MAX // 2)]
        slow = [stack.enter_context(socket_.connect(60)) for _ in range(VISITORS_MAX // 2)]
        for visitor in slow:
            visitor.sendall(b";".join([b"show stat"] * 1000) + b"\n")
        late = stack.enter_context(socket_.connect(60))
        late.sendall(b"show version\n")
        assert ask_who(r.at("rw")) == "a", "clients do not wait for them"
        assert read_all(late).endswith(b"\n\n"), "whoever comes late is served after them"
        assert all(visitor.recv(1) == b"" for visitor in silent)


def test_visitors_who_leave_early(runtime):
    with fake_nodes("a", "b") as nodes:
        r, socket_ = runtime(nodes)
        for _ in range(50):
            with socket_.connect() as visitor:
                visitor.sendall(b"show stat;show sess;show info\n")
        assert ("rw", "a") in socket_.table()
        assert r.is_alive()


# Tools that know HAProxy


def test_socat_is_enough(runtime):
    if shutil.which("socat") is None:
        pytest.skip("socat is not installed")
    with fake_nodes("a", "b") as nodes:
        _, socket_ = runtime(nodes)
        done = subprocess.run(["socat", "stdio", f"UNIX-CONNECT:{socket_.path}"], text=True, timeout=20,
                              input="show servers state\n", capture_output=True, check=True)
        assert done.stdout == socket_.ask("show servers state") or \
            done.stdout.splitlines()[1] == socket_.ask("show servers state").splitlines()[1]


def test_hatop_shows_the_nodes(runtime):
    program = shutil.which("hatop")
    if program is None:
        pytest.skip("hatop is not installed")
    with fake_nodes("a", "b") as nodes:
        _, socket_ = runtime(nodes)
        child, terminal = pty.fork()
        if child == 0:
            os.environ["TERM"] = "linux"
            os.execv(program, [program, "-s", socket_.path])
        try:
            import fcntl
            import termios
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
            os.kill(child, signal.SIGWINCH)
            seen = b""

            def shows_them():
                nonlocal seen
                if select.select([terminal], [], [], 0.2)[0]:
                    with contextlib.suppress(OSError):
                        seen += os.read(terminal, 65536)
                return b"FRONTEND" in seen and b"BACKEND" in seen and b"L7OK" in seen

            assert process.wait_until(shows_them, 20), seen[-3000:]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(terminal)


def test_the_end_comes_with_visitors_inside(runtime):
    with fake_nodes("a", "b") as nodes, contextlib.ExitStack() as stack:
        r, socket_ = runtime(nodes)
        visitors = [stack.enter_context(socket_.connect()) for _ in range(5)]
        visitors[0].sendall(b"prompt\n")
        visitors[1].sendall(b";".join([b"show stat", b"show sess"] * 500) + b"\n")
        assert read_until(visitors[0], b"> ") == "\n> "
        r.stop()
        assert not os.path.exists(socket_.path)
