"""Servers go to whoever has waited longest, on whatever worker."""

import collections
import contextlib
import glob
import itertools
import os
import re
import shutil
import signal
import subprocess
import time

import psycopg
import pytest

from cluster import process
from cluster.certificates import Authority
from harness import wire
from harness.fake_postgres import FakePostgres, answer
from harness.pools import Later, Onlooker, join, logged_in, one, pid_of, value_of
from harness.tls import server_context

ONE_SERVER = {"pool_mode": "transaction", "default_pool_size": 1, "workers": 4}
PGBENCH = sorted(glob.glob("/usr/lib/postgresql/*/bin/pgbench"))


def hold(client):
    client.execute("begin")
    client.execute("select 1")


def workers_of(router):
    """Of the clients of the database app: their ports -> their workers."""
    with psycopg.connect(router.dsn("pool", user="postgres", dbname="pgbouncer"), autocommit=True) as c:
        cursor = c.execute("show clients")
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row)) for row in cursor.fetchall()]
    return {row["port"]: row["worker"] for row in rows if row["database"] != "pgbouncer"}


def one_on_each_worker(router, stack, **more):
    """Clients by hand, each on a worker of its own."""
    clients = [stack.enter_context(logged_in(router, **more)) for _ in range(4)]
    workers = workers_of(router)
    assert len({workers[client.socket.getsockname()[1]] for client in clients}) == 4
    return clients


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_a_server_goes_from_worker_to_worker(cluster, pool, sslmode):
    """The same one, and no other was opened in between."""
    r = pool(main={**ONE_SERVER, "auth_type": "trust", "admin_users": "postgres", "server_tls_sslmode": sslmode})
    with contextlib.ExitStack() as stack, Onlooker(cluster.leader()) as node:
        clients = one_on_each_worker(r, stack)
        (pid,) = {value_of(client.ask("select pg_backend_pid()")) for client in clients}
        started = node.ask(f"select backend_start from pg_stat_activity where pid = {pid}")
        is_secret = node.ask(f"select ssl from pg_stat_ssl where pid = {pid}")
        for client in clients * 50:
            assert value_of(client.ask("select pg_backend_pid()")) == pid
        assert node.pids() == [int(pid)]
        assert node.ask(f"select backend_start from pg_stat_activity where pid = {pid}") == started
        assert is_secret == (sslmode == "require")


def test_tls_moves_with_its_server(pool, tmp_path):
    """There is one handshake, and not another one in the next worker."""
    hellos = []
    context = server_context(Authority(tmp_path).issue("fake", ["127.0.0.1"]))
    context.sni_callback = lambda *_: hellos.append(1)

    def script(connection):
        if connection.packet()[0] == wire.SSL_REQUEST:
            connection.send(b"S")
            connection.socket = context.wrap_socket(connection.socket, server_side=True)
            connection.packet()
        connection.send(connection.server.login_answer())
        while True:
            kind, body = connection.message()
            if kind == "Q":
                connection.send(answer(body[:-1].decode()))

    with FakePostgres(script) as fake:
        r = pool(main={**ONE_SERVER, "auth_type": "trust", "admin_users": "postgres",
                       "server_tls_sslmode": "require"},
                 databases={"app": f"host={fake.address} port={fake.port}"}, secrets={"app": "", "postgres": "x"})
        r.passwords = {"postgres": "x"}
        with contextlib.ExitStack() as stack:
            clients = one_on_each_worker(r, stack)
            for number, client in enumerate(clients * 25):
                assert value_of(client.ask(str(number))) == str(number)
        assert hellos == [1]
        r.stop()
        assert fake.errors == []


def test_what_a_client_has_set_is_there_after_a_move(pool):
    r = pool(main=ONE_SERVER)
    zones = ["Europe/Paris", "Asia/Tokyo", "UTC", "America/Lima", "Africa/Cairo"]
    clients = [join(r) for _ in zones]
    for client, zone in zip(clients, zones):
        client.execute(f"set timezone = '{zone}'")
    for _ in range(20):
        assert [one(client, "show timezone") for client in clients] == zones
    for client in clients:
        client.close()


@pytest.mark.parametrize("after, first", [("10ms", "elsewhere"), ("60s", "own")])
def test_handover_after(pool, after, first):
    """Clients 0 and 4 are on one worker: who of 1 and 4 is next, when 1 has waited longer?
    Leases are long here, so that only the setting limits what counts as markedly longer."""
    r = pool(main={**ONE_SERVER, "handover_after": after})
    clients = [join(r) for _ in range(8)]
    hold(clients[0])
    time.sleep(1)
    calls = {}
    for name, client in (("elsewhere", clients[1]), ("own", clients[4])):
        calls[name] = Later(lambda client=client: one(client, "select clock_timestamp()"))
        assert not calls[name].is_over(0.2)
    clients[0].execute("commit")
    served_at = {name: call.result() for name, call in calls.items()}
    assert min(served_at, key=served_at.get) == first
    for client in clients:
        client.close()


@pytest.mark.skipif(not PGBENCH, reason="pgbench is not installed")
def test_equal_clients_have_equal_shares(pool, tmp_path):
    r = pool(main={**ONE_SERVER, "auth_type": "trust"})
    (tmp_path / "one.sql").write_text("select 1;\n")
    host, port = r.at("pool")
    subprocess.run([PGBENCH[-1], "-n", "-h", host, "-p", str(port), "-U", "app", "-c", "50", "-j", "2",
                    "-T", "5", "-l", "-f", "one.sql", "app"], cwd=tmp_path, check=True,
                   capture_output=True, env={**os.environ, "PGPASSWORD": r.passwords["app"]})
    shares = collections.Counter()
    for path in tmp_path.glob("pgbench_log.*"):
        shares.update(line.split()[0] for line in path.read_text().splitlines())
    mean = sum(shares.values()) / 50
    assert len(shares) == 50
    assert 0.8 * mean < min(shares.values()) <= max(shares.values()) < 1.2 * mean


class Strace:
    """Counts system calls of a router, while it lasts: .counts[name]."""

    CALLS = "epoll_ctl,accept4"

    def __init__(self, router, path):
        self.path, self.counts = path, collections.Counter()
        router.is_slowed = True
        self._strace = subprocess.Popen(
            ["strace", "-f", "-c", "-e", f"trace={self.CALLS}", "-o", path, "-p", str(router.process.pid)],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self._strace.stderr:
            if "attached" in line:
                break
        else:
            pytest.skip("strace may not look into pgrouter")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=20)
        with open(self.path, encoding="ascii") as file:
            for line in file:
                if found := re.match(r" *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", line.rstrip()):
                    self.counts[found.group(2)] = int(found.group(1))


HANDOVERS = 10000


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.takes(240)
def test_handing_over_and_dying_costs_no_more_than_itself(cluster, pool, sanitizer, tmp_path):
    """When a server dies that has been elsewhere, no loop may look through all of its descriptors anew, as
    libev does when one is closed that it still believes to have: one epoll_ctl for each client."""
    n_rounds = (HANDOVERS if sanitizer is None else HANDOVERS // 10) // 16
    n_idle = 300
    names = ["a", "b", "c", "d"]
    r = pool(main={**ONE_SERVER, "auth_type": "trust", "admin_users": "postgres", "server_login_retry": "100ms"},
             databases={name: "cluster=main dbname=app" for name in names})
    with contextlib.ExitStack() as stack, Onlooker(cluster.leader()) as node:
        # A client of each pool on each worker: whoever asks gets the server from somebody else's worker.
        crowds = [one_on_each_worker(r, stack, database=name) for name in names]

        def go_round(crowd, n):
            pids = {value_of(client.ask("select pg_backend_pid()"))
                    for client in itertools.chain.from_iterable(itertools.repeat(crowd, n))}
            assert len(pids) == 1, "another server was opened"

        with Strace(r, str(tmp_path / "login")) as login:
            for _ in range(n_idle):
                stack.enter_context(logged_in(r, database="a"))
        assert login.counts["accept4"] >= n_idle
        assert login.counts["epoll_ctl"] < 4 * n_idle

        calls = [Later(lambda crowd=crowd: go_round(crowd, n_rounds)) for crowd in crowds]
        for call in calls:
            call.result(120)
        with Strace(r, str(tmp_path / "moves")) as moves:
            for crowd in crowds:
                go_round(crowd, 25)
        assert 200 <= moves.counts["epoll_ctl"] < 4 * 400

        pids = node.pids()
        assert len(pids) == len(names)
        with Strace(r, str(tmp_path / "death")) as death:
            node.ask("select count(pg_terminate_backend(pid)) from pg_stat_activity where pid = any('{"
                     + ",".join(map(str, pids)) + "}')")
            assert process.wait_until(lambda: not set(pids) & set(node.pids()), 10)
            for crowd in crowds:
                go_round(crowd, 1)
        # Those that died, those that were opened for them, and their ways round the workers.
        assert death.counts["epoll_ctl"] < 4 * (2 * len(names) + 16), death.counts
        print(dict(login.counts), dict(moves.counts), dict(death.counts))


def test_handed_servers_that_are_killed_at_once_harm_nobody(cluster, pool):
    r = pool(main={**ONE_SERVER, "default_pool_size": 4, "server_login_retry": "100ms"})
    clients = [join(r) for _ in range(16)]
    with Onlooker(cluster.leader()) as node:
        for _ in range(5):
            calls = [Later(lambda client=client: [pid_of(client) for _ in range(100)])
                     for client in clients]
            for call in calls:
                call.result()
            assert node.count() <= 4
            for pid in node.pids():
                node.ask(f"select pg_terminate_backend({pid})")
            assert node.sees(0)
    for client in clients:
        assert one(client, "select 'well'") == "well"
        client.close()
