"""Servers go to whoever has waited longest, on whatever worker."""

import collections
import glob
import os
import subprocess
import time

import pytest

from harness.pools import Later, Onlooker, join, one, pid_of

ONE_SERVER = {"pool_mode": "transaction", "default_pool_size": 1, "workers": 4}
PGBENCH = sorted(glob.glob("/usr/lib/postgresql/*/bin/pgbench"))


def hold(client):
    client.execute("begin")
    client.execute("select 1")


def test_a_server_goes_from_worker_to_worker(cluster, pool):
    """The same one, and no other was opened in between."""
    r = pool(main=ONE_SERVER)
    clients = [join(r) for _ in range(8)]
    with Onlooker(cluster.leader()) as node:
        pid = pid_of(clients[0])
        started = node.ask(f"select backend_start from pg_stat_activity where pid = {pid}")
        for _ in range(50):
            assert {pid_of(client) for client in clients} == {pid}
        assert node.pids() == [pid]
        assert node.ask(f"select backend_start from pg_stat_activity where pid = {pid}") == started
    for client in clients:
        client.close()


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
