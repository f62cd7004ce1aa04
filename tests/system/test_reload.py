"""SIGHUP: all of a file takes effect, or nothing of it."""

import glob
import os
import signal
import socket
import subprocess
import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.background import Background
from harness.fake_node import ask_who, fake_nodes, setting, who
from harness.fake_patroni import Answer
from harness.fake_postgres import FakePostgres
from harness.pools import Later, Onlooker, join
from harness.ports import free_port
from harness.wire import Client

QUICK = {"check_interval": "300ms", "check_fast_interval": "50ms", "check_timeout": "1s"}
TCP = {**QUICK, "check": "tcp"}


def can_connect(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(5)
        return sock.connect_ex((host, port)) == 0


def session(router, listener="rw"):
    client = Client(router.at(listener))
    client.log_in()
    return client


# Pools


def test_pools_and_their_clients_follow_at_once(cluster, pool):
    """Without anybody who comes anew."""
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 1, "query_wait_timeout": "60s"})
    main = r.sections["pgrouter"]
    with join(r) as one, join(r) as other, Onlooker(cluster.leader()) as node:
        one.execute("begin")
        one.execute("select 1")
        waiting = Later(lambda: other.execute("select 2"))
        assert node.sees(1)
        time.sleep(0.5)
        assert not waiting.is_over()
        main["default_pool_size"] = 2
        r.reload()
        waiting.result()
        one.execute("commit")

        main["server_idle_timeout"] = "1s"
        r.reload()
        assert node.sees(0)

        main["query_timeout"] = "1s"
        r.reload()
        with pytest.raises(psycopg.OperationalError, match="query_timeout"):
            one.execute("select pg_sleep(10)")


@pytest.mark.parametrize("after", [None, "cluster=main dbname=postgres", "cluster=main user=postgres"])
def test_servers_of_a_database_that_is_gone_are_kept_warm_no_longer(cluster, pool, after):
    """Or of one that has become another."""
    r = pool(main={"pool_mode": "transaction", "server_idle_timeout": "1s"},
             databases={"app": "cluster=main user=app min_pool_size=2"})
    with Onlooker(cluster.leader()) as node:
        assert node.sees(2)
        r.sections["databases"] = {"other": "cluster=main"} if after is None else {"app": after}
        r.reload()
        assert node.sees(0)
        time.sleep(1.5)
        assert node.count() == 0


def test_a_pool_follows_its_database_to_another_cluster(cluster, pool):
    leader = cluster.leader()
    replica = next(node for node in cluster.nodes if node is not leader)
    r = pool(main={"pool_mode": "transaction"}, more={
        "cluster far": {"nodes": f"{replica.name}={replica.address}:{replica.port}", "check": "tcp"}})
    with join(r) as client:
        assert client.execute("select pg_is_in_recovery()").fetchone() == (False,)
        r.sections["databases"]["app"] = "cluster=far role=any"
        r.reload()
        assert process.wait_until(
            lambda: client.execute("select pg_is_in_recovery()").fetchone() == (True,), 5)


# Listeners


def test_listeners_come_and_go(start_router):
    with FakePostgres(name="a") as a, FakePostgres(name="b") as b:
        r = start_router(nodes=a.node(), cluster=TCP, listeners={"rw": {}})
        sections, at = dict(r.sections), ("127.0.0.1", free_port())
        r.sections["cluster other"] = {**TCP, "nodes": b.node()}
        r.sections["listener rw"]["cluster"] = "main"
        r.sections["listener new"] = {"bind": f"{at[0]}:{at[1]}", "cluster": "other"}
        r.reload()
        assert ask_who(r.at("rw")) == "a"
        assert ask_who(at) == "b"
        kept = session(r, "new")

        r.sections = sections
        del r.sections["listener rw"]["cluster"]
        r.reload()
        assert not can_connect(*at)
        assert who(kept) == "b"
        assert ask_who(r.at("rw")) == "a"
        kept.close()
        assert r.log.wait("session ended", listener="new", reason="CLIENT_CLOSED")


def test_a_listener_gets_more_addresses(start_router, tmp_path):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP, listeners={"rw": {}})
        first = r.sections["listener rw"]["bind"]
        path, port = os.path.join(tmp_path, "s"), free_port("::1")
        r.sections["listener rw"]["bind"] = f"{first}, {path}, [::1]:{port}"
        r.reload()
        assert {ask_who(r.at("rw")), ask_who(path), ask_who(("::1", port))} == {"a"}

        r.sections["listener rw"]["bind"] = first
        r.reload()
        assert ask_who(r.at("rw")) == "a"
        assert not os.path.exists(path)
        assert not can_connect("::1", port)


def test_a_listener_is_rebound(start_router):
    """"*" and one of its addresses: the port is never without a listener that is ours."""
    with FakePostgres(name="a") as a:
        port = free_port()
        r = start_router(nodes=a.node(), cluster=TCP, listeners={"rw": {"bind": f"*:{port}"}})
        kept = session(r)
        for bind, by_v6 in ((f"127.0.0.1:{port}", False), (f"*:{port}", True),
                            (f"127.0.0.1:{port}, [::1]:{port}", True), (f"127.0.0.1:{port}", False)):
            r.sections["listener rw"]["bind"] = bind
            r.reload()
            assert ask_who(("127.0.0.1", port)) == "a"
            assert can_connect("::1", port) is by_v6
            assert who(kept) == "a"
        kept.close()


def test_listeners_swap_their_addresses(start_router):
    with FakePostgres(name="a") as a, FakePostgres(name="b") as b:
        r = start_router(sections={
            "cluster a": {**TCP, "nodes": a.node()}, "cluster b": {**TCP, "nodes": b.node()},
            "listener a": {"bind": f"127.0.0.1:{free_port()}", "cluster": "a"},
            "listener b": {"bind": f"127.0.0.1:{free_port()}", "cluster": "b"},
            "stats": {"bind": f"127.0.0.1:{free_port()}"}})
        at_a, at_b = r.at("a"), r.at("b")
        assert (ask_who(at_a), ask_who(at_b)) == ("a", "b")
        one, other = r.sections["listener a"], r.sections["listener b"]
        one["bind"], other["bind"] = other["bind"], one["bind"]
        r.reload()
        assert (ask_who(at_a), ask_who(at_b)) == ("b", "a")


def test_a_listener_changes_its_role(start_router):
    """Sessions go on under the settings under which they came."""
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK, listeners={"rw": {"role": "primary"}})
        kept = session(r)
        r.sections["listener rw"]["role"] = "replica"
        r.reload()
        assert ask_who(r.at()) == "b"
        assert who(kept) == "a"
        kept.close()


def test_the_stats_page_moves(start_router):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP)
        old = r.at("stats")
        r.sections["stats"] = {"bind": f"127.0.0.1:{free_port()}", "uri": "/mine"}
        r.reload()
        assert r.get("/mine")[0] == 200
        assert not can_connect(*old)
        port = r.sections["stats"]["bind"]
        del r.sections["stats"]
        r.reload()
        assert not can_connect("127.0.0.1", int(port.rpartition(":")[2]))
        for bind in (port, port.replace("127.0.0.1", "*"), port):
            r.sections["stats"] = {"bind": bind}
            r.reload()
            assert r.is_ready()


# Nodes


def test_nodes_come_and_go(start_router):
    with fake_nodes("a", "b", "c") as (a, b, c):
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"rw": {}, "ro": {"role": "replica", "balance": "roundrobin"}})
        kept = session(r, "ro")
        r.sections["cluster main"]["nodes"] = setting(a, b, c)
        r.reload()
        assert process.wait_until(lambda: r.csv()["ro", "c"]["status"] == "UP", 10)
        assert {ask_who(r.at("ro")) for _ in range(4)} == {"b", "c"}

        r.sections["cluster main"]["nodes"] = setting(a, c)
        r.reload()
        assert {ask_who(r.at("ro")) for _ in range(4)} == {"c"}
        assert ("ro", "b") not in r.csv()
        assert who(kept) == "b"
        asked = b.patroni.asked["/primary"]
        n_others = c.patroni.asked["/primary"]
        assert process.wait_until(lambda: c.patroni.asked["/primary"] > n_others + 5, 10)
        assert b.patroni.asked["/primary"] <= asked + 1
        assert who(kept) == "b"
        kept.close()


def test_a_node_that_stays_keeps_its_state(start_router):
    """No node is unknown for a moment only because another one came."""
    with fake_nodes("a", "b", "c") as (a, b, c):
        r = start_router(nodes=setting(a, b), cluster=QUICK, listeners={"rw": {"queue_timeout": "0"}})
        r.log.wait("primary changed", **{"is": "a"})
        since = r.log.mark()
        kept = session(r)
        a.patroni.answers["/primary"].after = 0.3  # no answer comes soon
        for nodes in (setting(a, b, c), setting(c, a), setting(b, a)):
            r.sections["cluster main"]["nodes"] = nodes
            r.reload()
            assert ask_who(r.at()) == "a"
            assert who(kept) == "a"
        assert not r.log.find("primary changed", since=since)
        assert not r.log.find("node changed", since=since, node="a")
        kept.close()


def test_a_drained_node_keeps_its_sessions(cluster, router):
    r = router(cluster=QUICK, listeners={
        "rw": {"queue_timeout": "300ms"}, "ro": {"role": "replica", "balance": "roundrobin"}})
    one, other = cluster.replicas()
    where = "select host(inet_server_addr())"
    sessions = [r.connect("ro") for _ in range(2)]
    assert {c.execute(where).fetchone()[0] for c in sessions} == {one.address, other.address}

    r.sections["cluster main"]["drain"] = one.name
    r.reload()
    for _ in range(4):
        with r.connect("ro") as connection:
            assert connection.execute(where).fetchone() == (other.address,)
    assert {c.execute(where).fetchone()[0] for c in sessions} == {one.address, other.address}
    rows = r.csv()
    assert (rows["ro", one.name]["status"], rows["ro", other.name]["status"]) == ("DRAIN", "UP")

    r.sections["cluster main"]["drain"] = f"{one.name}, {cluster.leader().name}"
    r.reload()
    with pytest.raises(psycopg.OperationalError):
        r.connect("rw")

    del r.sections["cluster main"]["drain"]
    r.reload()
    found = set()
    for _ in range(4):
        with r.connect("ro") as connection:
            found.add(connection.execute(where).fetchone()[0])
    assert found == {one.address, other.address}
    for connection in sessions:
        connection.close()


def test_another_check_is_made(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"rw": {"role": "primary"}, "any": {"role": "any"}})
        asked = a.patroni.asked
        del r.sections["listener rw"]
        r.sections["cluster main"]["check"] = "tcp"
        n = len(a.postgres.connections)
        r.reload()
        assert process.wait_until(lambda: len(a.postgres.connections) > n + 3, 10)
        n = asked["/primary"]
        n_tcp = len(a.postgres.connections)
        assert process.wait_until(lambda: len(a.postgres.connections) > n_tcp + 3, 10)
        assert asked["/primary"] == n
        assert {ask_who(r.at("any")) for _ in range(4)} == {"a", "b"}


def test_settings_of_the_checks_take_effect(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster={**QUICK, "fall": "100"})
        a.patroni.answers["/primary"] = Answer(500, "")
        n = a.patroni.asked["/primary"]
        assert process.wait_until(lambda: a.patroni.asked["/primary"] > n + 5, 10)
        assert ask_who(r.at()) == "a"  # not yet
        r.sections["cluster main"]["fall"] = "1"
        r.reload()
        r.log.wait("primary changed", was="a", **{"is": "none"})


# Mistakes


def test_a_bad_file_changes_nothing(start_router):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP)
        good, at, new = r.sections, r.at(), free_port()
        kept = session(r)
        r.sections = {"pgrouter": {"workers": "4", "max_client_conn": "many"},
                      "cluster main": {"nodes": "a=127.0.0.1", "chekc": "tcp"},
                      "listener rw": {"bind": good["listener rw"]["bind"], "role": "king"},
                      "listener new": {"bind": f"127.0.0.1:{new}", "cluster": "none"},
                      "stats": {**good["stats"], "uri": "no path"}}
        since = r.log.mark()
        r.reload(expect="configuration not reloaded, the old one goes on")
        lines = {5: "nodes", 6: "chekc", 3: "max_client_conn", 9: "role", 12: "none", 15: "uri"}
        assert process.wait_until(lambda: len(r.log.find("configuration", since=since)) >= len(lines), 10)
        errors = [event["error"] for event in r.log.find("configuration", since=since)]
        for line, word in lines.items():
            assert [e for e in errors if e.startswith(f"{r.ini}:{line}: ") and word in e], (line, errors)
        assert len(errors) == len(lines)

        assert who(kept) == ask_who(at) == "a"
        assert not can_connect("127.0.0.1", new)
        r.sections = good
        r.reload()
        assert ask_who(at) == "a"
        kept.close()


def test_a_file_that_is_gone_changes_nothing(start_router):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP)
        since = r.log.mark()
        os.rename(r.ini, r.ini + ".away")
        r.signal(signal.SIGHUP)
        r.log.wait("configuration not reloaded, the old one goes on", since=since)
        assert r.ini in r.log.wait("configuration", since=since)["error"]
        assert ask_who(r.at()) == "a"
        os.rename(r.ini + ".away", r.ini)
        r.reload()


def test_an_address_in_use_changes_nothing(start_router):
    with FakePostgres(name="a") as a, socket.create_server(("127.0.0.1", 0)) as taken:
        r = start_router(nodes=a.node(), cluster=TCP)
        used, free = taken.getsockname()[1], free_port()
        kept, at = session(r), r.at()
        good = {name: dict(keys) for name, keys in r.sections.items()}
        r.sections["listener free"] = {"bind": f"127.0.0.1:{free}"}
        r.sections["listener taken"] = {"bind": f"127.0.0.1:{used}"}
        r.sections["listener rw"]["maxconn"] = "1"
        since = r.log.mark()
        r.reload(expect="configuration not reloaded, the old one goes on")
        error = r.log.wait("configuration", since=since)["error"]
        assert error == f"[listener taken]: cannot listen on 127.0.0.1:{used}: Address already in use"
        assert not can_connect("127.0.0.1", free)
        assert who(kept) == ask_who(at) == "a"  # maxconn = 1 did not take effect
        r.sections = good
        r.reload()
        kept.close()


def test_a_stats_address_in_use_changes_nothing(start_router):
    with FakePostgres(name="a") as a, socket.create_server(("127.0.0.1", 0)) as taken:
        r = start_router(nodes=a.node(), cluster=TCP)
        free, old = free_port(), r.sections["stats"]["bind"]
        r.sections["listener free"] = {"bind": f"127.0.0.1:{free}"}
        r.sections["stats"]["bind"] = f"127.0.0.1:{taken.getsockname()[1]}"
        r.reload(expect="configuration not reloaded, the old one goes on")
        assert not can_connect("127.0.0.1", free)
        r.sections["stats"]["bind"] = old
        assert r.is_ready()


# Limits, load


@pytest.mark.parametrize("name", ["maxconn", "max_client_conn"])
def test_a_raised_limit_lets_waiting_clients_in(start_router, name):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP, listeners={"rw": {"queue_timeout": "60s"}})
        section = "listener rw" if name == "maxconn" else "pgrouter"
        r.sections[section][name] = "2"
        r.reload()
        sessions = [session(r) for _ in range(2)]
        waiting = [Client(r.at()) for _ in range(3)]
        for client in waiting:
            client.send(wire.startup(user="app", database="app"))
        assert process.wait_until(lambda: r.csv()["rw", "BACKEND"]["qcur"] == "3", 10)

        r.sections[section][name] = "4"
        r.reload()
        assert process.wait_until(lambda: r.csv()["rw", "BACKEND"]["qcur"] == "1", 10)
        for client in waiting[:2]:  # first come, first served
            client.messages_until("Z")
            assert who(client) == "a"
        r.sections[section][name] = "1"  # below what is there: nobody is sent away
        r.reload()
        assert [who(client) for client in sessions + waiting[:2]] == ["a"] * 4
        for client in sessions + waiting[:2]:
            client.close()
        waiting[2].messages_until("Z")
        assert who(waiting[2]) == "a"
        waiting[2].close()


def test_reload_under_load(cluster, router):
    """Nobody on a listener that stays sees an error, whatever else changes."""
    r = router(main={"max_client_conn": "500"})
    pgbench = [os.path.join(cluster.programs, "pgbench"), "-n", "-T", "6", "-c", "4"]
    script = os.path.join(r.folder, "ask.sql")
    with open(script, "w", encoding="ascii") as file:
        file.write("select pg_is_in_recovery();\n")
    running = [subprocess.Popen([*pgbench, *more, "-f", script, r.dsn(listener, sslmode="disable")],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
               for listener, more in (("rw", []), ("ro", []), ("rw", ["-C"]))]
    n_reloads = 0
    while any(one.poll() is None for one in running):
        n_reloads += 1
        r.sections["listener rw"]["maxconn"] = str(100 + n_reloads)
        r.sections["cluster main"]["check_interval"] = f"{300 + n_reloads}ms"
        if n_reloads % 2:
            r.sections["listener more"] = {"bind": f"127.0.0.1:{free_port()}", "role": "any"}
        else:
            del r.sections["listener more"]
        r.reload()
    for one in running:
        output = one.communicate()[0]
        assert one.returncode == 0, output
        assert "aborted" not in output and "error" not in output.lower(), output
        assert "number of transactions actually processed: 0" not in output
    assert n_reloads > 5
    # After the client's last word either side may be the first to close.
    ends = {event["reason"] for event in r.log.find("session ended")}
    assert ends <= {"CLIENT_CLOSED", "SERVER_CLOSED"}


def n_workers(router):
    names = []
    for path in glob.glob(f"/proc/{router.process.pid}/task/*/comm"):
        with open(path, encoding="ascii") as file:
            names.append(file.read())
    return sum(name.startswith("worker-") for name in names)


def test_settings_that_need_a_restart_are_named(start_router):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP, main={"workers": "2"})
        r.sections["pgrouter"].update(workers="3", listen_backlog="77", unix_socket_mode="0700",
                                      max_client_conn="99")
        since = r.log.mark()
        r.reload()

        def named():
            return {event["setting"] for event in
                    r.log.find("setting takes effect after a restart", since=since)}

        assert process.wait_until(lambda: len(named()) >= 3, 5)
        assert {name.split()[-1] for name in named()} == {"workers", "listen_backlog", "unix_socket_mode"}
        assert n_workers(r) == 2

        since = r.log.mark()
        r.sections["pgrouter"]["workers"] = "2"  # as it runs: nothing to say of it
        r.reload()
        assert ask_who(r.at()) == "a"


def test_many_reloads_leave_nothing_behind(start_router, sanitizer):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK)

        def n_descriptors():
            return len(os.listdir(f"/proc/{r.process.pid}/fd"))

        for _ in range(5):
            r.reload()
        before = n_descriptors(), r.memory_kb()
        for n in range(100):
            r.sections["cluster main"]["nodes"] = setting(*((a, b) if n % 2 else (b, a)))
            r.reload()
        assert ask_who(r.at()) == "a"
        assert process.wait_until(lambda: n_descriptors() <= before[0] + 4, 10)  # checks under way
        if sanitizer is None:
            assert r.memory_kb() < before[1] + 1000
