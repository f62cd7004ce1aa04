"""The console: the database pgbouncer, as PgBouncer 1.25 has it."""

import calendar
import os
import socket
import struct
import subprocess
import threading
import time

import psycopg
import pytest

from cluster import process
from harness import fake_postgres, wire
from harness.fake_postgres import FakePostgres
from harness.pools import (SYNC, TERMINATE, Later, Onlooker, bind, errors_of, execute, join, one, parse,
                           pid_of)
from harness.wire import Client, message

# As in PgBouncer 1.25's src/admin.c and src/stats.c.
OF_A_CONNECTION = (
    "type user database replication state addr port local_addr local_port connect_time request_time "
    "wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id").split()
COUNTS = ("server_assignment_count xact_count query_count received sent xact_time query_time wait_time "
          "client_parse_count server_parse_count bind_count").split()
COLUMNS = {
    "version": ["version"],
    "config": ["key", "value", "default", "changeable"],
    "databases": ("name host port database force_user pool_size min_pool_size reserve_pool_size "
                  "server_lifetime pool_mode load_balance_hosts max_connections current_connections "
                  "max_client_connections current_client_connections paused disabled").split(),
    "pools": ("database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active "
              "sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us "
              "pool_mode load_balance_hosts").split(),
    "clients": OF_A_CONNECTION,
    "servers": OF_A_CONNECTION,
    "stats": ["database", *["total_" + name for name in COUNTS],
              *["avg_" + ("recv" if name == "received" else name) for name in COUNTS]],
    "stats_totals": ("database server_assignment_count xact_count query_count bytes_received bytes_sent "
                     "xact_time query_time wait_time client_parse_count server_parse_count "
                     "bind_count").split(),
    "stats_averages": ("database server_assignment_count xact_count query_count bytes_received bytes_sent "
                       "xact_time query_time wait_time avg_client_parse_count avg_server_parse_count "
                       "avg_bind_count").split(),
    "totals": ["name", "value"],
    "lists": ["list", "items"],
    "users": ("name pool_size reserve_pool_size pool_mode max_user_connections current_connections "
              "max_user_client_connections current_client_connections").split(),
    "peers": ["peer_id", "host", "port", "pool_size"],
}
# Ours stand behind them.
MORE = {"clients": ["worker"], "servers": ["node", "worker"], "databases": ["cluster", "role"],
        "pools": ["why", "role", "replayed", "lost", "unknown", "sv_warm"]}

USERS = {"admin_users": "postgres", "stats_users": "app"}
MAIN = {**USERS, "pool_mode": "transaction"}


def console(router, user="postgres", database="pgbouncer", **more):
    return psycopg.connect(router.dsn("pool", user=user, dbname=database, **more), autocommit=True)


def show(connection, what):
    """Rows as dicts."""
    cursor = connection.execute("SHOW " + what)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


def row_of(connection, what, **fields):
    """The one row whose columns have these values."""
    rows = [row for row in show(connection, what)
            if all(row[name] == value for name, value in fields.items())]
    assert len(rows) == 1, rows
    return rows[0]


def psql(router, *commands, user="postgres"):
    """What psql prints, without headers, and what it complains of."""
    arguments = [part for command in commands for part in ("-c", command)]
    done = subprocess.run(["psql", "-XAt", router.dsn("pool", user=user, dbname="pgbouncer"), *arguments],
                          capture_output=True, text=True, timeout=20, check=False)
    return done.stdout, done.stderr


# Columns


@pytest.mark.parametrize("what", COLUMNS)
def test_columns_are_those_of_pgbouncer(pool, what):
    r = pool(main=MAIN)
    with console(r) as c:
        cursor = c.execute(f"show {what}")
        assert [column.name for column in cursor.description] == COLUMNS[what] + MORE.get(what, [])


def test_every_column_has_its_type(pool):
    text, int4, int8, numeric = 25, 23, 20, 1700
    r = pool(main=MAIN)
    with console(r) as c:
        assert {column.type_code for column in c.execute("SHOW STATS").description[1:]} == {numeric}
        assert {column.type_code for column in c.execute("SHOW POOLS").description[2:15]} == {int4}
        by_name = {column.name: column.type_code for column in c.execute("SHOW CLIENTS").description}
        assert (by_name["addr"], by_name["port"], by_name["id"]) == (text, int4, int8)


# What is typed


def test_statements_are_told_apart(pool):
    r = pool(main=MAIN)
    out, err = psql(r, "show VERSION; ;\n SHOW version", "  sHoW\tversion ;")
    assert (out.count("PgBouncer 1.25."), err) == (3, "")
    out, err = psql(r, "SHOW VERSION; SHOW NONSENSE; SHOW VERSION", "SELECT 1")
    assert out.splitlines()[-1] == "1" and out.count("PgBouncer") == 1
    assert "ERROR:  invalid command 'SHOW NONSENSE', use SHOW HELP;" in err


def test_help_is_a_notice(pool):
    r = pool(main=MAIN)
    out, err = psql(r, "SHOW HELP")
    assert out == "SHOW\n"
    assert "Console usage" in err and "RELOAD" in err and "WAIT_FOR_CLIENTS" in err


def test_drivers_find_what_they_ask_a_server_for(pool):
    r = pool(main=MAIN)
    with console(r, options="-c search_path=x", application_name="monitor") as c:
        c.execute("SET extra_float_digits = 3")
        assert one(c, "SHOW standard_conforming_strings") == "on"
        assert one(c, "SHOW server_version").endswith("/pgrouter")
        assert c.info.encoding == "utf-8" and c.info.parameter_status("integer_datetimes") == "on"
        assert row_of(c, "CLIENTS", database="pgbouncer")["application_name"] == "monitor"


def test_both_names_lead_to_it(pool):
    r = pool(main=MAIN, databases={"*": "cluster=main"})
    for name in ("pgbouncer", "pgrouter"):
        with console(r, database=name) as c:
            assert "pgrouter" in one(c, "SHOW VERSION")


# The extended protocol


def test_prepared_statements_and_binary_results(pool):
    r = pool(main={**MAIN, "default_pool_size": 7})
    with console(r) as c:
        c.prepare_threshold = 0
        for _ in range(8):
            assert row_of(c, "DATABASES", name="app")["pool_size"] == 7
        text = c.execute("SHOW STATS_TOTALS").fetchall()
        cursor = c.cursor(binary=True)
        binary = cursor.execute("SHOW STATS_TOTALS").fetchall()
        assert [row[0] for row in binary] == [row[0] for row in text] == ["pgbouncer"]
        assert binary[0][2] > text[0][2] > 0
        assert cursor.execute("SHOW LISTS").fetchall()[1] == ("users", 2)
        with pytest.raises(psycopg.errors.SyntaxError, match="invalid command 'SHOW THIS'"):
            c.execute("SHOW THIS")
        with pytest.raises(psycopg.errors.Error):
            c.execute("SHOW POOLS %s", [1])
        assert one(c, "SHOW VERSION")


def log_in(router, user="postgres"):
    """By hand, at a listener that asks for no password."""
    client = Client(router.at("pool"))
    client.log_in(user, "pgbouncer")
    return client


def test_an_error_skips_to_the_next_sync(pool):
    r = pool(main={**MAIN, "auth_type": "trust"})
    client = log_in(r)
    client.send(parse("show version") + bind() + execute() + parse("nonsense") + bind() + execute() + SYNC)
    assert [kind for kind, _ in client.messages_until("Z")] == ["1", "2", "D", "C", "E", "Z"]
    client.send(message("D", b"Snone\0") + SYNC + parse("", "empty") + bind("empty") + message("D", b"P\0") +
                execute() + message("C", b"Sempty\0") + message("H") + SYNC)
    assert errors_of(client.messages_until("Z")) == ["26000"]
    assert [kind for kind, _ in client.messages_until("Z")] == ["1", "2", "n", "I", "3", "Z"]
    client.send(parse("show peers; show lists") + SYNC)
    assert errors_of(client.messages_until("Z")) == ["42601"]
    assert [kind for kind, _ in client.ask("")] == ["I", "Z"]
    client.send(TERMINATE)


def test_byte_by_byte_and_all_at_once(pool):
    r = pool(main={**MAIN, "auth_type": "trust"})
    client = log_in(r)
    for byte in message("Q", b"show version\0"):
        client.send(bytes([byte]))
        time.sleep(0.002)
    assert [kind for kind, _ in client.messages_until("Z")] == ["T", "D", "C", "Z"]
    client.send(message("Q", b"show lists\0") * 2000)
    for _ in range(2000):
        assert [kind for kind, _ in client.messages_until("Z")].count("D") == 14


def test_what_is_no_command_at_all_ends_the_client(pool):
    r = pool(main={**MAIN, "auth_type": "trust"})
    for wrong in (message("Q", b"x" * 20000 + b"\0"), message("Q", b"no end"), message("Q", b""),
                  message("B", b"x"), message("P", b"\0"), message("F", b"\0\0\0\1"), b"\xff\0\0\0\4"):
        client = log_in(r)
        client.send(wrong)
        assert client.error()["C"] == "08P01" and client.at_end()
    assert errors_of(log_in(r).ask("show version")) == []


# Who may


def test_admin_users_command_and_stats_users_look(pool):
    r = pool(main=MAIN)
    with console(r, user="app") as c:
        for what in COLUMNS:
            c.execute(f"SHOW {what}")
        for command in ("RELOAD", "SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN WAIT_FOR_SERVERS"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="admin access needed"):
                c.execute(command)
    with console(r) as c:
        assert c.execute("RELOAD").statusmessage == "RELOAD"
    r.sections["pgrouter"]["stats_users"] = ""
    r.reload()
    with pytest.raises(psycopg.OperationalError, match="not allowed"):
        console(r, user="app")


def test_no_command_is_open_to_who_may_only_look(pool):
    """CVE-2026-6667: with PgBouncer everybody who may look could end other clients. Also what is no
    command here may not become one that anybody can give."""
    r = pool(main=MAIN)
    with join(r) as client, console(r, user="app") as c:
        pid = pid_of(client)
        (ptr,) = [row["ptr"] for row in show(c, "CLIENTS") if row["database"] == "app"]
        for command in ("PAUSE", "PAUSE app", "RESUME", "RESUME app", "DISABLE app", "ENABLE app", "KILL",
                        "KILL app", f"KILL_CLIENT {ptr}", f"kill_client {ptr}", "RECONNECT", "RECONNECT app",
                        "SUSPEND", "WAIT_CLOSE", "WAIT_CLOSE app", "RELOAD", "SHUTDOWN",
                        "SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN IMMEDIATE",
                        "SET default_pool_size = 1", "SET auth_type = 'any'", "SHOW VERSION; SHUTDOWN",
                        "/* SHOW */ SHUTDOWN", " \n\t shutdown;"):
            with pytest.raises(psycopg.Error):
                c.execute(command)
        assert pid_of(client) == pid
        assert row_of(c, "CONFIG", key="auth_type")["value"] == "scram-sha-256"
        with join(r) as other:
            assert one(other, "select 1") == 1


def test_a_password_is_asked_for_as_ever(pool):
    r = pool(main=MAIN)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        console(r, password="wrong")


def test_with_auth_type_any_everybody_commands(pool):
    r = pool(main={"auth_type": "any"})
    with console(r, user="whoever") as c:
        assert c.execute("RELOAD").statusmessage == "RELOAD"
        assert row_of(c, "CLIENTS")["user"] == "whoever"


# What is counted


def test_clients_and_servers_are_those_that_there_are(cluster, pool, workers):
    r = pool(main={**MAIN, "default_pool_size": 3})
    clients = [join(r, application_name=f"client {i}") for i in range(12)]
    with console(r) as c, Onlooker(cluster.leader()) as node:
        clients[0].execute("begin")
        pid = pid_of(clients[0])
        rows = [row for row in show(c, "CLIENTS") if row["database"] == "app"]
        assert len(rows) == 12 and len({row["id"] for row in rows}) == len({row["ptr"] for row in rows}) == 12
        assert sorted(row["application_name"] for row in rows) == sorted(f"client {i}" for i in range(12))
        assert {row["worker"] for row in rows} == set(range(workers))
        assert {row["addr"] for row in rows} == {"127.0.0.1"}
        assert {(row["port"], row["local_port"]) for row in rows} == {
            (connection_port(client), r.at("pool")[1]) for client in clients}
        (active,) = [row for row in rows if row["state"] == "active"]
        assert {row["state"] for row in rows} == {"active", "idle"}
        server = row_of(c, "SERVERS", state="active")
        assert server["remote_pid"] == pid
        assert (server["ptr"], server["link"]) == (active["link"], active["ptr"])
        assert server["application_name"] == active["application_name"] == "client 0"
        assert server["node"] == cluster.leader().name
        assert {row["remote_pid"] for row in show(c, "SERVERS")} == set(node.pids())
        assert server["local_port"] == node.ask(f"select client_port from pg_stat_activity where pid = {pid}")
        connected = node.ask("select extract(epoch from now())::int")
        for row in rows:
            assert abs(connected - epoch(row["connect_time"])) <= 5
        before = epoch(server["request_time"])
        time.sleep(2.1)
        clients[0].execute("commit")
        assert 2 <= epoch(row_of(c, "CLIENTS", ptr=active["ptr"])["request_time"]) - before <= 6
        clients.pop().close()
        assert process.wait_until(lambda: len(show(c, "CLIENTS")) == 12, 5)
    for client in clients:
        client.close()


def connection_port(connection):
    """Of a client's own end."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        return end.getsockname()[1]


def epoch(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S UTC"))


def test_pools_show_who_waits_and_who_works(cluster, pool):
    r = pool(main={**MAIN, "default_pool_size": 2})
    clients = [join(r) for _ in range(6)]
    with console(r) as c, Onlooker(cluster.leader()) as node:
        calls = [Later(lambda client=client: client.execute("select pg_sleep(3)")) for client in clients]
        assert node.sees(2, "state = 'active'")
        time.sleep(1.5)
        row = row_of(c, "POOLS", database="app")
        assert (row["user"], row["pool_mode"]) == ("app", "transaction")
        assert (row["cl_active"], row["cl_waiting"]) == (2, 4)
        assert (row["sv_active"], row["sv_idle"]) == (2, 0)
        assert 1 <= row["maxwait"] <= 2 and 0 <= row["maxwait_us"] < 1000000
        waiting = [row for row in show(c, "CLIENTS") if row["state"] == "waiting"]
        assert len(waiting) == 4 and max(row["wait"] for row in waiting) in (1, 2)
        assert row_of(c, "DATABASES", name="app")["current_connections"] == 2
        assert row_of(c, "DATABASES", name="app")["current_client_connections"] == 6
        user = row_of(c, "USERS", name="app")
        assert (user["current_connections"], user["current_client_connections"]) == (2, 6)
        for call in calls:
            call.result()
        row = row_of(c, "POOLS", database="app")
        assert (row["cl_active"], row["cl_waiting"], row["sv_active"], row["sv_idle"]) == (6, 0, 0, 2)
        assert row["maxwait"] == row["maxwait_us"] == 0
        for client in clients:
            client.close()
        assert process.wait_until(lambda: row_of(c, "POOLS", database="app")["cl_active"] == 0, 5)


def test_pools_show_why_clients_wait(pool):
    r = pool(main={**MAIN, "default_pool_size": 1})
    with console(r) as c, join(r) as first, join(r) as second:
        first.execute("begin")
        first.execute("select 1")
        assert row_of(c, "POOLS", database="app")["why"] == ""
        waiting = Later(lambda: second.execute("select 1"))
        assert process.wait_until(lambda: row_of(c, "POOLS", database="app")["why"] == "pool_size", 5)
        first.execute("commit")
        waiting.result()
        assert row_of(c, "POOLS", database="app")["why"] == ""


def test_servers_that_rested_long_are_to_be_checked(pool):
    r = pool(main={**MAIN, "server_check_delay": "1s", "server_check_query": "select 1"})
    with console(r) as c:
        with join(r) as client:
            client.execute("select 1")
            row = row_of(c, "POOLS", database="app")
            assert (row["sv_idle"], row["sv_used"]) == (1, 0)
            assert process.wait_until(lambda: row_of(c, "POOLS", database="app")["sv_used"] == 1, 5)
            assert row_of(c, "POOLS", database="app")["sv_idle"] == 0
            client.execute("select 1")
            row = row_of(c, "POOLS", database="app")
            assert (row["sv_idle"], row["sv_used"]) == (1, 0)


def test_prepared_statements_are_counted(pool):
    """A client's names, and what a server has: two clients' texts, of which they share one."""
    r = pool(main={**MAIN, "default_pool_size": 1})

    def counts(what):
        return sorted(row["prepared_statements"] for row in show(c, what) if row["database"] == "app")

    with console(r) as c, join(r) as one, join(r) as other:
        one.prepare_threshold = other.prepare_threshold = 0
        for n in range(3):
            one.execute(f"select {n}", prepare=True)
        other.execute("select 0", prepare=True)
        other.execute("select 'mine'", prepare=True)
        assert counts("CLIENTS") == [2, 3]
        assert counts("SERVERS") == [4]


def test_a_server_that_is_reset_is_tested(pool):
    r = pool(main={**USERS, "pool_mode": "session", "server_reset_query": "select pg_sleep(1.5)"})
    with console(r) as c:
        with join(r) as client:
            client.execute("select 1")
        assert process.wait_until(lambda: row_of(c, "POOLS", database="app")["sv_tested"] == 1, 2)
        assert "tested" in {row["state"] for row in show(c, "SERVERS")}
        assert process.wait_until(lambda: row_of(c, "POOLS", database="app")["sv_tested"] == 0, 5)
        assert {row["state"] for row in show(c, "SERVERS")} == {"idle"}


def test_a_server_that_is_opened_logs_in(pool):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        r = pool(main=MAIN, databases={"dead": f"host=127.0.0.1 port={port}"})
        with console(r) as c:
            waiting = Later(lambda: join(r, database="dead"))
            assert process.wait_until(lambda: row_of(c, "LISTS", list="used_clients")["items"] == 2, 5)
            assert process.wait_until(
                lambda: [row["sv_login"] for row in show(c, "POOLS") if row["database"] == "dead"] == [1], 5)
            row = row_of(c, "POOLS", database="dead")
            assert (row["cl_waiting"], row["cl_active"], row["sv_idle"]) == (1, 0, 0)
            server = row_of(c, "SERVERS")
            assert (server["state"], server["addr"], server["port"]) == ("new", "127.0.0.1", port)
    with pytest.raises(psycopg.OperationalError):
        waiting.result()


def test_a_cancel_request_is_seen_under_way(pool):
    answers, closes = threading.Event(), threading.Event()

    def script(connection):
        code, _ = connection.packet()
        if code == wire.CANCEL_REQUEST:
            closes.wait(20)
            return
        connection.send(connection.server.login_answer())
        while connection.message()[0] == "Q":
            answers.wait(20)
            connection.send(fake_postgres.answer("done"))

    with FakePostgres(script) as node:
        r = pool(main={**MAIN, "auth_type": "trust", "server_tls_sslmode": "disable"},
                 databases={"fake": f"host={node.address} port={node.port}"})
        client = Client(r.at("pool"))
        key = client.log_in("app", "fake")
        with console(r) as c:
            client.send(wire.query("select 1"))
            assert process.wait_until(lambda: row_of(c, "POOLS", database="fake")["sv_active"] == 1, 5)
            with Client(r.at("pool")) as canceller:
                canceller.send(wire.cancel_request(*key))
                assert process.wait_until(lambda: cancels(c) == (1, 1, 0), 5)
                assert "active_cancel_req" in {row["state"] for row in show(c, "CLIENTS")}
                answers.set()
                assert [kind for kind, _ in client.messages_until("Z")][-1] == "Z"
                assert process.wait_until(lambda: cancels(c) == (1, 1, 1), 5)
                assert row_of(c, "SERVERS")["state"] == "being_canceled"
                assert row_of(c, "POOLS", database="fake")["sv_idle"] == 0
                closes.set()
                assert process.wait_until(lambda: cancels(c) == (0, 0, 0), 5)
            assert row_of(c, "POOLS", database="fake")["sv_idle"] == 1
        client.close()


def cancels(connection):
    row = row_of(connection, "POOLS", database="fake")
    return row["sv_active_cancel"], row["cl_active_cancel_req"], row["sv_being_canceled"]


def counts_of(connection, database="app"):
    return row_of(connection, "STATS_TOTALS", database=database)


def gained(before, after):
    return {name: int(after[name] - before[name]) for name in after if name != "database"}


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_stats_count_what_was_done(pool, mode):
    r = pool(main={**USERS, "pool_mode": mode})
    clients = [join(r) for _ in range(4)]
    with console(r) as c:
        for client in clients:
            client.execute("select 1")
        before = counts_of(c)
        for client in clients:
            for _ in range(10):
                client.execute("select 1")
            with client.transaction():
                client.execute("select pg_sleep(0.1)")
                client.execute("select repeat('x', 100000)")
        n = gained(before, counts_of(c))
        # begin, two queries and commit are one transaction
        assert (n["xact_count"], n["query_count"]) == (44, 56)
        assert n["server_assignment_count"] == (44 if mode == "transaction" else 0)
        assert 400000 <= n["bytes_sent"] <= 420000
        assert 56 * 12 <= n["bytes_received"] <= 56 * 40
        assert 400000 <= n["query_time"] <= n["xact_time"] < 3000000
        assert (n["client_parse_count"], n["bind_count"]) == (0, 0)
    for client in clients:
        client.close()


def test_stats_count_waits_and_named_statements(pool):
    r = pool(main={**MAIN, "default_pool_size": 1})
    first, second = join(r), join(r)
    with console(r) as c:
        first.execute("begin")
        before = counts_of(c)
        waits = Later(lambda: second.execute("select 1"))
        assert not waits.is_over(1)
        first.execute("commit")
        waits.result()
        n = gained(before, counts_of(c))
        assert 900000 <= n["wait_time"] <= 2000000
        before = counts_of(c)
        with join(r, options="") as third:
            third.prepare_threshold = 0
            with third.transaction():
                for _ in range(5):
                    third.execute("select %s::int", [3])
        n = gained(before, counts_of(c))
        assert n["client_parse_count"] >= 1 and n["bind_count"] >= 5
        assert n["server_parse_count"] >= 1
    first.close()
    second.close()


def test_the_console_counts_itself(pool):
    r = pool(main=MAIN)
    with console(r) as c:
        before = counts_of(c, "pgbouncer")
        for _ in range(5):
            c.execute("SHOW VERSION")
        assert gained(before, counts_of(c, "pgbouncer"))["query_count"] == 6
        assert row_of(c, "POOLS", database="pgbouncer")["cl_active"] == 1


@pytest.mark.takes(60)
def test_averages_follow_stats_period(pool):
    r = pool(main={**MAIN, "stats_period": 1})
    with console(r) as c, join(r) as client:
        end = time.monotonic() + 4
        n, began = 0, time.monotonic()
        while time.monotonic() < end:
            client.execute("select pg_sleep(0.01)")
            n += 1
        rate = n / (time.monotonic() - began)
        row = row_of(c, "STATS", database="app")
        assert 0.7 * rate <= row["avg_query_count"] <= 1.3 * rate
        assert 10000 <= row["avg_query_time"] <= 30000
        assert process.wait_until(
            lambda: row_of(c, "STATS", database="app")["avg_query_count"] == 0, 5)
        assert row_of(c, "STATS", database="app")["total_query_count"] == n
        assert row_of(c, "STATS_AVERAGES", database="app")["query_count"] == 0


def test_log_stats(pool):
    r = pool(main={**MAIN, "stats_period": 1})
    with join(r) as client:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            client.execute("select pg_sleep(0.01)")
    assert any(event["queries_per_second"] > 10 for event in r.log.find("stats"))
    r.sections["pgrouter"]["log_stats"] = 0
    r.reload()
    mark = r.log.mark()
    time.sleep(2.5)
    assert r.log.find("stats", since=mark) == []


def test_lists_and_totals(pool):
    r = pool(main=MAIN, users={"app": "pool_size=4", "other": "pool_mode=session"})
    with console(r) as c:
        lists = {row["list"]: row["items"] for row in show(c, "LISTS")}
        assert (lists["databases"], lists["users"], lists["pools"]) == (2, 3, 1)
        clients = [join(r) for _ in range(5)]
        for client in clients:
            client.execute("select 1")
        more = {row["list"]: row["items"] for row in show(c, "LISTS")}
        assert more["used_clients"] == lists["used_clients"] + 5
        assert more["pools"] == 2 and more["used_servers"] == len(show(c, "SERVERS")) > 0
        assert more["free_clients"] > 0
        totals = {row["name"]: row["value"] for row in show(c, "TOTALS")}
        counts = [row for row in show(c, "STATS_TOTALS")]
        assert totals["total_server_assignment_count"] == sum(row["server_assignment_count"] for row in counts)
        with Client(r.at("pool")):
            assert process.wait_until(
                lambda: {row["list"]: row["items"] for row in show(c, "LISTS")}["login_clients"] == 1, 5)
        users = {row["name"]: row for row in show(c, "USERS")}
        assert (users["app"]["pool_size"], users["other"]["pool_mode"]) == ("4", "session")
        for client in clients:
            client.close()


# What is configured


def test_config_and_databases_show_what_was_loaded(cluster, pool):
    r = pool(main={**MAIN, "server_idle_timeout": "90s", "max_client_conn": 77},
             databases={"app": "cluster=main pool_size=9 reserve_pool_size=2 min_pool_size=0",
                        "ro": "cluster=main role=replica dbname=app user=app pool_mode=session",
                        "far": "host=10.0.0.1,10.0.0.2 port=6000 max_db_connections=5"})
    with console(r) as c:
        config = {row["key"]: row for row in show(c, "CONFIG")}
        assert (config["max_client_conn"]["value"], config["max_client_conn"]["default"]) == ("77", "1000")
        assert (config["server_idle_timeout"]["value"], config["server_idle_timeout"]["default"]) == ("90", "600")
        assert (config["workers"]["changeable"], config["stats_users"]["changeable"]) == ("no", "yes")
        databases = {row["name"]: row for row in show(c, "DATABASES")}
        assert (databases["app"]["pool_size"], databases["app"]["reserve_pool_size"]) == (9, 2)
        node = cluster.leader()
        assert (databases["app"]["cluster"], databases["app"]["role"]) == ("main", "primary")
        assert (databases["app"]["host"], databases["app"]["port"]) == (node.address, node.port)
        assert (databases["ro"]["database"], databases["ro"]["force_user"]) == ("app", "app")
        assert (databases["ro"]["pool_mode"], databases["ro"]["role"]) == ("session", "replica")
        assert (databases["far"]["host"], databases["far"]["port"]) == ("10.0.0.1,10.0.0.2", 6000)
        assert databases["far"]["load_balance_hosts"] == "round-robin"
        assert databases["far"]["max_connections"] == 5
        assert databases["pgbouncer"]["pool_mode"] == "statement"


def test_reload_applies_the_file_or_says_what_is_wrong_with_it(pool):
    r = pool(main={**MAIN, "default_pool_size": 5})
    with console(r) as c:
        r.sections["pgrouter"]["default_pool_size"] = 6
        r._write()
        assert c.execute("RELOAD").statusmessage == "RELOAD"
        assert row_of(c, "DATABASES", name="app")["pool_size"] == 6
        r.sections["pgrouter"]["default_pool_size"] = "many"
        r._write()
        with pytest.raises(psycopg.errors.ConfigFileError, match="default_pool_size"):
            c.execute("RELOAD")
        assert row_of(c, "DATABASES", name="app")["pool_size"] == 6


# The end


def test_shutdown_ends_at_once(pool):
    r = pool(main=MAIN)
    client = join(r)
    with console(r) as c:
        c.execute("SHUTDOWN")
        assert process.wait_until(lambda: r.process.poll() == 0, 5)
        with pytest.raises(psycopg.OperationalError):
            client.execute("select 1")
    r.has_ended = True


def test_shutdown_can_wait_for_clients(pool):
    r = pool(main=MAIN)
    client, idle = join(r), join(r)
    with console(r) as c:
        assert c.execute("SHUTDOWN WAIT_FOR_CLIENTS").statusmessage == "SHUTDOWN"
        assert one(client, "select 1") == one(idle, "select 1") == 1
        with pytest.raises(psycopg.OperationalError):
            join(r, seconds=2)
        assert len(show(c, "CLIENTS")) == 3
        client.close()
        assert r.process.poll() is None
        idle.close()
        assert process.wait_until(lambda: r.process.poll() == 0, 5)
    r.has_ended = True


def test_shutdown_can_wait_for_servers(pool):
    r = pool(main=MAIN)
    client, idle = join(r), join(r)
    client.execute("begin")
    with console(r) as c:
        assert c.execute("SHUTDOWN WAIT_FOR_SERVERS").statusmessage == "SHUTDOWN"
        with pytest.raises(psycopg.OperationalError):
            idle.execute("select 1")
        assert one(client, "select 1") == 1
        assert r.process.poll() is None
        client.execute("commit")
        with pytest.raises(psycopg.OperationalError):
            client.execute("select 1")
        assert process.wait_until(lambda: r.process.poll() == 0, 5)
    r.has_ended = True


# Many


@pytest.mark.takes(180)
def test_thousands_of_clients_are_shown_in_pieces(pool, sanitizer):
    n = 2000
    r = pool(main={**MAIN, "max_client_conn": 5000, "auth_type": "trust"})
    clients = []
    for i in range(n):
        client = Client(r.at("pool"))
        client.log_in("app", "app", application_name=f"number {i}")
        clients.append(client)
    c = log_in(r)
    rows = [cells(body) for kind, body in c.ask("show clients") if kind == "D"]
    assert {row[18] for row in rows if row[2] == "app"} == {f"number {i}" for i in range(n)}
    assert len(rows) == n + 1
    slow = Client(r.at("pool"), receive_buffer=4096)
    slow.log_in("postgres", "pgbouncer")
    before = r.memory_kb()
    slow.send(message("Q", b"show clients\0") * 20)
    time.sleep(1)
    assert n_clients(c) == n + 2  # nobody waits for who does not read
    for client in clients[:100]:
        client.close()
    assert process.wait_until(lambda: n_clients(c) == n + 2 - 100, 10)
    assert sanitizer or r.memory_kb() < before + 4096
    for _ in range(20):
        assert [kind for kind, _ in slow.messages_until("Z")].count("D") >= n - 100
    for client in [*clients, c, slow]:
        client.close()


def n_clients(client):
    return [kind for kind, _ in client.ask("show clients")].count("D")


def cells(body):
    """The texts of a DataRow."""
    found, at = [], 2
    while at < len(body):
        n = struct.unpack("!i", body[at:at + 4])[0]
        found.append(None if n < 0 else body[at + 4:at + 4 + n].decode())
        at += 4 + max(n, 0)
    return found
