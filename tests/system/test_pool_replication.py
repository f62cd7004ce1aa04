"""Clients of a pool that replicate: each has a server of its own."""

import hashlib
import os
import struct
import subprocess

import psycopg
import pytest

from cluster import process
from harness import pools, wire
from harness.pools import Later, Onlooker, join, one
from harness.wire import Client, message

USER = "replicator"
DATABASES = {"app": "cluster=main", "replication": "cluster=main"}
SEGMENT = 16 * 1024 * 1024


@pytest.fixture
def trusting(cluster, pool):
    """A pool that asks nobody for a password, and logs in with those of auth_file."""
    def start(main=None, **more):
        secrets = {user: cluster.passwords[user] for user in ("app", "postgres", USER)}
        return pool(main={"auth_type": "trust", "pool_mode": "transaction", **(main or {})},
                    databases=DATABASES, secrets=secrets, **more)

    return start


def replicate(router, value="true", user=USER, database="app", **more):
    client = Client(router.at("pool"))
    client.key = client.log_in(user=user, database=database, replication=value, **more)
    return client


def row_of(messages):
    """The values of the one row of an answer."""
    body = next(body for kind, body in messages if kind == "D")
    values, at = [], 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        n = struct.unpack("!i", body[at:at + 4])[0]
        values.append(None if n < 0 else body[at + 4:at + 4 + n].decode())
        at += 4 + max(n, 0)
    return values


class Senders:
    """The walsenders of a node, but for those of its own standbys."""

    def __init__(self, cluster, node=None):
        self.standbys = [one.name for one in cluster.nodes]
        self.connection = psycopg.connect((node or cluster.leader()).dsn(user="postgres"), autocommit=True)

    def names(self):
        rows = self.connection.execute(
            "select application_name from pg_stat_activity where backend_type = 'walsender'")
        return sorted(name for name, in rows.fetchall() if name not in self.standbys)

    def become(self, names, seconds=10):
        return process.wait_until(lambda: self.names() == sorted(names), seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def run(cluster, program, *arguments, user=USER, seconds=60, **more):
    done = subprocess.run(
        [os.path.join(cluster.programs, program), *arguments], timeout=seconds, capture_output=True, text=True,
        env={**os.environ, "PGPASSWORD": cluster.passwords[user]}, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def place(router, user=USER):
    host, port = router.at("pool")
    return ["-h", host, "-p", str(port), "-U", user]


@pytest.mark.parametrize("value", ["true", "on", "yes", "1", "TRUE", "t", "y"])
def test_identify_system_of_a_physical_client(cluster, trusting, value):
    r = trusting()
    with replicate(r, value, "replicator", "replication") as client:
        system, timeline, position, database = row_of(client.ask("IDENTIFY_SYSTEM"))
        assert system == str(cluster.leader().sql("select system_identifier from pg_control_system()"))
        assert int(timeline) > 0 and "/" in position and database is None
        assert pools.errors_of(client.ask("select 1"))  # no walsender of this kind knows SQL


@pytest.mark.parametrize("value", ["false", "off", "no", "0", "f"])
def test_who_says_no_shares_servers(cluster, trusting, value):
    r = trusting(main={"default_pool_size": 1})
    with replicate(r, value, "app") as first, replicate(r, value, "app") as second:
        pids = {pools.value_of(client.ask("select pg_backend_pid()")) for client in (first, second)}
        assert len(pids) == 1


def test_options_name_session_parameters_only(trusting):
    """The server is logged in to with them: they must not say as whom, and where."""
    r = trusting()
    options = "-c user=postgres -cdatabase=postgres --replication=false -c work_mem=7MB"
    with replicate(r, "database", options=options) as client:
        assert row_of(client.ask("select current_user, session_user, current_database(), "
                                 "current_setting('work_mem')")) == [USER, USER, "app", "7MB"]


@pytest.mark.parametrize("value", ["o", "2", "physical", "", "Database", "truer"])
def test_a_bad_value_is_refused_as_postgresql_does(cluster, trusting, value):
    r = trusting()
    node = cluster.leader()
    with Client((node.address, node.port)) as direct, Client(r.at("pool")) as client:
        for connection in (direct, client):
            connection.send(wire.startup(user=USER, database="app", replication=value))
        wanted, error = direct.error(), client.error()
        assert [error[field] for field in "SCM"] == [wanted[field] for field in "SCM"]


def test_a_server_of_its_own(cluster, trusting):
    """It is logged in to with the client's parameters, lent to nobody, and ends with the client."""
    r = trusting(main={"server_check_delay": 0, "server_reset_query_always": 1})
    with Senders(cluster) as senders, join(r) as other:
        first = replicate(r, "database", application_name="first", options="-c work_mem=4321kB")
        second = replicate(r, "database", application_name="second")
        assert senders.become(["first", "second"])
        assert pools.value_of(first.ask("show work_mem")) == "4321kB"
        assert pools.value_of(second.ask("show work_mem")) == one(other, "show work_mem")
        pids = {pools.value_of(client.ask("select pg_backend_pid()")) for client in (first, second)}
        assert len(pids) == 2 and str(pools.pid_of(other)) not in pids
        first.send(pools.TERMINATE)
        assert first.at_end() and senders.become(["second"])
        second.close()
        assert senders.become([])
        third = replicate(r, "database", application_name="third")
        assert pools.value_of(third.ask("select pg_backend_pid()")) not in pids
        third.close()


def test_its_parameters_are_nobody_elses(cluster, trusting):
    """What it is told comes from its own server, and what others are told from theirs."""
    r = trusting()
    with replicate(r, "database", user="postgres", application_name="mine", TimeZone="Asia/Tokyo") as client:
        assert pools.value_of(client.ask("show timezone")) == "Asia/Tokyo"
        with join(r, user="postgres", dbname="app") as other:
            assert other.info.parameter_status("TimeZone") != "Asia/Tokyo"
            assert other.info.parameter_status("application_name") == ""


@pytest.mark.parametrize("limit", ["default_pool_size", "max_db_connections", "max_user_connections",
                                   "max_node_connections"])
def test_it_counts_in_the_limits_of_its_pool(trusting, limit):
    """As with PgBouncer: it takes from all limits. An idle server makes room for it."""
    r = trusting(main={limit: 1, "query_wait_timeout": "20s"})
    with join(r, user="postgres", dbname="app") as other:
        assert one(other, "select 1") == 1
        stream = replicate(r, "database", user="postgres")
        assert row_of(stream.ask("IDENTIFY_SYSTEM"))[3] == "app"
        waiting = Later(lambda: one(other, "select 'served'"))
        assert not waiting.is_over(0.5)
        stream.close()
        assert waiting.result() == "served"


def test_who_may_not_replicate_is_told_at_once(cluster, trusting):
    r = trusting()
    with Client(r.at("pool")) as client:
        client.send(wire.startup(user="app", database="app", replication="database"))
        error = client.error()
        assert error["C"] == "08006" and "42501" in error["M"] and "walsender" in error["M"]


def test_a_query_of_a_replication_client_is_cancelled(cluster, trusting):
    r = trusting()
    with replicate(r, "database") as client, Onlooker(cluster.leader()) as node:
        client.send(wire.query("select pg_sleep(60)"))
        assert process.wait_until(lambda: node.ask(
            "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and "
            "backend_type = 'walsender' and state = 'active'") == 1, 10)
        with Client(r.at("pool")) as request:
            request.send(wire.cancel_request(*client.key))
            assert request.at_end()
        assert pools.errors_of(client.messages_until("Z")) == ["57014"]
        assert pools.value_of(client.ask("select 'goes on'")) == "goes on"


def test_a_password_by_scram_leads_to_the_node(cluster, pool):
    """A SCRAM secret in auth_file will do: the client's own login has shown the key."""
    secret = cluster.leader().sql(f"select rolpassword from pg_authid where rolname = '{USER}'")
    r = pool(databases=DATABASES, secrets={USER: secret})
    with psycopg.connect(r.dsn("pool", user=USER, database="app", replication="database"),
                         autocommit=True) as client:
        assert client.execute("IDENTIFY_SYSTEM").fetchone()[3] == "app"


def test_a_stream_in_both_directions(cluster, trusting):
    """CopyBoth: keepalives pass, and answers to them; then the copy ends, and the session goes on."""
    r = trusting()
    with replicate(r, "true", application_name="stream") as client, Senders(cluster) as senders:
        position = row_of(client.ask("IDENTIFY_SYSTEM"))[2]
        client.send(wire.query(f"START_REPLICATION PHYSICAL {position}"))
        assert client.message()[0] == "W"
        cluster.leader().sql("select pg_logical_emit_message(false, 'test', repeat('x', 100000))")
        n_wal, n_alive = 0, 0
        while n_wal < 100000 or n_alive < 2:
            kind, body = client.message()
            assert kind == "d" and body[:1] in (b"w", b"k")
            if body[:1] == b"w":
                n_wal += len(body) - 25
            else:
                n_alive += 1
            end = struct.unpack("!Q", body[9:17] if body[:1] == b"w" else body[1:9])[0]
            # ... who asks for an answer at once, so that there are keepalives
            client.send(message("d", b"r" + struct.pack("!QQQQB", end, end, end, 0, 1)))
        replied = "select count(*) from pg_stat_replication where application_name = 'stream' and " \
                  "flush_lsn is not null"
        assert process.wait_until(lambda: senders.connection.execute(replied).fetchone()[0] == 1, 10)
        client.send(message("c"))
        kinds = [kind for kind, _ in client.messages_until("Z")]
        assert [kind for kind in kinds if kind != "d"] == ["c", "C", "C", "Z"]
        assert row_of(client.ask("IDENTIFY_SYSTEM"))[1] is not None


def test_pg_basebackup(cluster, trusting, tmp_path):
    r = trusting(main={"query_timeout": 1, "transaction_timeout": 1})
    target = tmp_path / "backup"
    run(cluster, "pg_basebackup", *place(r), "-D", str(target), "-X", "stream", "-c", "fast", "--max-rate=16M")
    run(cluster, "pg_verifybackup", str(target))


def test_pg_receivewal(cluster, trusting, tmp_path):
    """More than a segment of it, byte for byte."""
    r = trusting()
    leader = cluster.leader()
    leader.sql("select pg_switch_wal()")
    leader.sql("select pg_logical_emit_message(true, 'x', 'of the next segment')")
    segment = leader.sql("select pg_walfile_name(pg_current_wal_lsn())")
    receiver = subprocess.Popen(
        [os.path.join(cluster.programs, "pg_receivewal"), *place(r), "-D", str(tmp_path), "--synchronous", "-n"],
        env={**os.environ, "PGPASSWORD": cluster.passwords[USER]}, stderr=subprocess.PIPE, text=True)
    try:
        with Senders(cluster) as senders:
            assert senders.become(["pg_receivewal"])
        for _ in range(2):
            leader.sql("select count(pg_logical_emit_message(false, 'x', repeat(md5(n::text), 3000))) "
                       "from generate_series(1, 120) n")
        leader.sql("select pg_switch_wal()")
        assert process.wait_until((tmp_path / segment).exists, 20)
        wanted = leader.sql(f"select md5(pg_read_binary_file('pg_wal/{segment}'))")
        received = (tmp_path / segment).read_bytes()
        assert len(received) == SEGMENT and hashlib.md5(received).hexdigest() == wanted
    finally:
        receiver.terminate()
        receiver.communicate(timeout=10)


def test_pg_recvlogical(cluster, trusting, tmp_path):
    r = trusting()
    leader, path = cluster.leader(), tmp_path / "changes"
    leader.sql("create table replicated (text text)", database="app")
    arguments = [*place(r), "-d", "app", "-S", "of_the_test"]
    run(cluster, "pg_recvlogical", *arguments, "-P", "test_decoding", "--create-slot")
    try:
        leader.sql("insert into replicated select repeat('y', 1000) || n from generate_series(1, 5000) n",
                   database="app")
        end = leader.sql("select pg_current_wal_flush_lsn()")
        run(cluster, "pg_recvlogical", *arguments, "--start", "-E", end, "-f", str(path), "--no-loop")
        lines = path.read_text().splitlines()
        rows = [line for line in lines if "table public.replicated: INSERT" in line]
        assert len(rows) == 5000 and rows[-1].endswith("y5000'")
    finally:
        run(cluster, "pg_recvlogical", *arguments, "--drop-slot")
        leader.sql("drop table replicated", database="app")


def test_the_node_of_the_databases_role(cluster, trusting):
    r = trusting()
    r.sections["databases"]["app_ro"] = "cluster=main role=replica dbname=app"
    r.reload()
    with replicate(r, "database") as client, replicate(r, "database", database="app_ro") as standby:
        answers = [pools.value_of(one.ask("select pg_is_in_recovery()")) for one in (client, standby)]
        assert answers == ["f", "t"]


def test_show_clients_and_servers_tell_of_replication(cluster, trusting):
    r = trusting(main={"stats_users": "app"})
    with replicate(r, "true", database="replication"), replicate(r, "database"), join(r) as other, \
            psycopg.connect(r.dsn("pool", dbname="pgbouncer"), autocommit=True) as console:
        one(other, "select 1")
        for view in ("clients", "servers"):
            rows = console.execute(f"show {view}")
            place_of = [column.name for column in rows.description].index("replication")
            kinds = [row[place_of] for row in rows.fetchall()]
            assert kinds.count("physical") == 1 and kinds.count("logical") == 1 and "none" in kinds


@pytest.mark.takes(180)
def test_a_stream_ends_when_its_node_loses_the_role(cluster, trusting):
    r = trusting()
    with replicate(r, "true", application_name="stream") as client:
        client.socket.settimeout(60)
        position = row_of(client.ask("IDENTIFY_SYSTEM"))[2]
        client.send(wire.query(f"START_REPLICATION PHYSICAL {position}"))
        assert client.message()[0] == "W"
        cluster.switchover()
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                kind, body = client.message()
                assert kind != "E" or wire.error_fields(body)["C"] in ("57P01", "08006")
    with replicate(r, "database") as client:  # goes to the new primary
        assert pools.value_of(client.ask("select pg_is_in_recovery()")) == "f"
