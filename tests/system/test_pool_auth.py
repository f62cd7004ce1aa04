"""Who may come in to a pool, and what those are told who may not."""

import contextlib
import hashlib
import re
import struct

import psycopg
import pytest

from cluster import process
from harness import pools, wire
from harness.pools import Onlooker, join, one
from harness.ports import free_port
from harness.wire import Client

LOG_IN_KINDS = {0: "ok", 3: "plain", 5: "md5", 10: "scram"}


@pytest.fixture
def secrets(cluster):
    """The password of app as auth_file may hold it, by kind."""
    password = cluster.passwords["app"]
    return {"plain": password,
            "md5": "md5" + hashlib.md5((password + "app").encode()).hexdigest(),
            "scram": cluster.leader().sql("select rolpassword from pg_authid where rolname = 'app'")}


def asked_for(router, user="app", database="app"):
    """How a client is asked to prove itself, or the SQLSTATE of its refusal."""
    with Client(router.at("pool")) as client:
        client.send(wire.startup(user=user, database=database))
        kind, body = client.message()
        if kind == "E":
            return wire.error_fields(body)["C"]
        assert kind == "R"
        return LOG_IN_KINDS[int.from_bytes(body[:4], "big")]


def refusal(router, **more):
    """SQLSTATE and message for a psycopg client that is not let in."""
    with pytest.raises(psycopg.OperationalError) as caught:
        join(router, **more).close()
    return str(caught.value)


def sqlstate(router, password, user="app", database="app"):
    """SQLSTATE of the refusal of a client that sends its password in clear text."""
    with Client(router.at("pool")) as client:
        client.send(wire.startup(user=user, database=database))
        kind, body = client.message()
        if kind == "R" and body[:4] == b"\0\0\0\3":
            client.send(wire.message("p", password.encode() + b"\0"))
            kind, body = client.message()
        assert kind == "E", (kind, body)
        fields = wire.error_fields(body)
        assert fields["S"] == fields["V"] == "FATAL"
        assert client.at_end()
        return fields["C"]


# The right password


@pytest.mark.parametrize("auth_type, kind, asked", [
    ("plain", "plain", "plain"),
    ("plain", "md5", "plain"),
    ("plain", "scram", "plain"),
    ("md5", "plain", "md5"),
    ("md5", "scram", "scram"),
    ("scram-sha-256", "plain", "scram"),
    ("scram-sha-256", "scram", "scram"),
    ("trust", "plain", "ok"),
    ("any", "plain", "ok"),
])
def test_auth_type(pool, secrets, auth_type, kind, asked):
    r = pool(main={"auth_type": auth_type}, secrets={"app": secrets[kind]})
    assert asked_for(r) == asked
    # From md5 nobody can log in to a server that wants SCRAM; from SCRAM only with what a
    # client's own login by SCRAM lets us know, or its password in clear text.
    if kind != "md5":
        with join(r) as client:
            assert one(client, "select current_user") == "app"


def test_an_md5_secret_cannot_log_in_where_the_node_wants_scram_and_the_client_is_told(cluster, pool, secrets):
    leader = cluster.leader()
    leader.sql(f"set password_encryption = md5; create role old login password '{cluster.passwords['app']}'")
    try:
        secret = leader.sql("select rolpassword from pg_authid where rolname = 'old'")
        assert secret.startswith("md5")
        r = pool(main={"auth_type": "md5"}, secrets={"old": secret})
        r.passwords = {"old": cluster.passwords["app"]}
        message = refusal(r, user="old", database="app")
        assert re.search("password authentication failed|SCRAM", message), message
        r.stop()
    finally:
        leader.sql("drop role old")


def test_scram_secrets_log_in_to_every_server_that_is_needed(pool, secrets):
    """On any worker, also when the client that made a server known has left."""
    r = pool(main={"default_pool_size": 8, "pool_mode": "session"}, secrets={"app": secrets["scram"]})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(join(r)) for _ in range(8)]
        assert len({pools.pid_of(client) for client in clients}) == 8
    with join(r) as later:
        assert one(later, "select 1") == 1


def test_many_users_each_with_a_pool(cluster, pool):
    r = pool(main={"pool_mode": "transaction"},
             databases={"app": "cluster=main", "postgres": "cluster=main"})
    with join(r) as app, join(r, user="postgres", database="app") as superuser:
        for _ in range(3):
            assert one(app, "select current_user") == "app"
            assert one(superuser, "select current_user") == "postgres"
        assert one(superuser, "select current_database()") == "app"
        with join(r, user="postgres", database="postgres") as elsewhere:
            assert one(elsewhere, "select current_database()") == "postgres"


def test_any_logs_in_as_the_user_of_the_database(cluster, pool):
    password = cluster.passwords["app"]
    r = pool(main={"auth_type": "any"},
             databases={"app": f"cluster=main user=app password={password}"}, secrets={})
    with join(r, user="whoever", database="app") as client:
        assert one(client, "select current_user") == "app"


# A wrong one


@pytest.mark.parametrize("auth_type, kind", [
    ("plain", "plain"), ("plain", "md5"), ("plain", "scram"), ("md5", "plain"), ("md5", "md5"),
    ("md5", "scram"), ("scram-sha-256", "plain"), ("scram-sha-256", "scram")])
def test_a_wrong_password_is_refused(pool, secrets, auth_type, kind):
    r = pool(main={"auth_type": auth_type}, secrets={"app": secrets[kind]})
    for wrong in ("wrong", secrets["plain"] + "x", secrets["plain"][:-1], secrets[kind] + "x"):
        assert "password authentication failed" in refusal(r, password=wrong)
    if auth_type == "plain":
        assert sqlstate(r, "wrong") == "28P01"
        assert sqlstate(r, "") == "28P01"
    if kind == "md5":  # the hash is not the password
        assert "password authentication failed" in refusal(r, password=secrets["md5"])


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_unknown_users_are_asked_like_others(pool, secrets, auth_type):
    kind = "scram" if auth_type == "scram-sha-256" else "plain"
    r = pool(main={"auth_type": auth_type}, secrets={"app": secrets[kind]})
    assert asked_for(r, user="nobody") == asked_for(r)
    wrong = refusal(r, user="app", password="wrong", database="app")
    unknown = refusal(r, user="nobody", password="wrong", database="app")
    assert wrong.replace('"app"', "") == unknown.replace('"nobody"', "")
    if auth_type == "plain":
        assert sqlstate(r, "wrong", user="nobody") == sqlstate(r, "wrong") == "28P01"


def scram_first(router, user):
    """Salt and rounds with which SCRAM begins."""
    with Client(router.at("pool")) as client:
        client.send(wire.startup(user=user, database="app"))
        assert client.message()[1][:4] == b"\0\0\0\x0a"
        first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
        client.send(wire.message("p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first))
        kind, body = client.message()
        assert (kind, body[:4]) == ("R", b"\0\0\0\x0b")
        fields = dict(part.split("=", 1) for part in body[4:].decode().split(","))
        return fields["s"], fields["i"]


def test_the_salt_of_an_unknown_user_tells_nothing(pool, secrets):
    """The same at each attempt, as that of a known one; different for different users."""
    r = pool(secrets={"app": secrets["scram"]})
    known, unknown = scram_first(r, "app"), scram_first(r, "nobody")
    assert [scram_first(r, "nobody") for _ in range(8)] == [unknown] * 8  # on every worker
    assert [scram_first(r, "app") for _ in range(8)] == [known] * 8
    assert scram_first(r, "somebody") != unknown
    assert (len(known[0]), known[1]) == (len(unknown[0]), unknown[1])


def test_the_salt_of_an_unknown_user_outlives_a_restart(pool, secrets):
    """As that of a known one does; also when other users have come and gone."""
    r = pool(secrets={"app": secrets["scram"]})
    before = [scram_first(r, user) for user in ("app", "nobody")]
    r.stop()
    again = pool(secrets={"app": secrets["scram"], "another": secrets["plain"]})
    assert [scram_first(again, user) for user in ("app", "nobody")] == before


def test_scram_mock_secret(pool, secrets):
    """Processes with the same have the same salts; a reload applies another."""
    def start(**main):
        return pool(main=main, secrets={"app": secrets["scram"]})

    one, other = (start(scram_mock_secret="of several machines") for _ in range(2))
    plain = start()
    assert scram_first(one, "nobody") == scram_first(other, "nobody") != scram_first(plain, "nobody")
    assert scram_first(one, "app") == scram_first(plain, "app")
    plain.sections["pgrouter"]["scram_mock_secret"] = "of several machines"
    plain.reload()
    assert scram_first(plain, "nobody") == scram_first(one, "nobody")


def test_trust_knows_the_users_of_auth_file_only(pool, secrets):
    r = pool(main={"auth_type": "trust"}, secrets={"app": secrets["plain"]})
    assert asked_for(r) == "ok"
    assert asked_for(r, user="nobody") in ("28P01", "28000")


def test_an_empty_password_is_refused(pool):
    r = pool(main={"auth_type": "plain"}, secrets={"app": ""})
    assert sqlstate(r, "") == "28P01"


@pytest.mark.parametrize("auth_type", ["plain", "trust"])
def test_an_unknown_database_is_told_to_who_may_come_in(pool, secrets, auth_type):
    r = pool(main={"auth_type": auth_type}, secrets={"app": secrets["plain"]})
    assert sqlstate(r, secrets["plain"], database="nowhere") == "3D000"
    if auth_type == "plain":
        assert sqlstate(r, "wrong", database="nowhere") == "28P01"


def test_a_database_that_the_node_does_not_have_is_told(pool):
    r = pool(databases={"app": "cluster=main", "gone": "cluster=main"})
    with pytest.raises(psycopg.OperationalError, match='database "gone" does not exist'):
        with join(r, database="gone") as client:
            client.execute("select 1")
    with join(r) as client:  # nobody else minds
        assert one(client, "select 1") == 1


def test_a_star_takes_every_database(pool):
    r = pool(databases={"*": "cluster=main"})
    with join(r) as client:
        assert one(client, "select current_database()") == "app"
    with join(r, user="postgres", database="postgres") as client:
        assert one(client, "select current_database()") == "postgres"


def test_a_password_that_the_node_refuses_is_told(cluster, pool):
    """auth_file is wrong: the client is told, and no wrong password goes out again and again."""
    r = pool(main={"auth_type": "trust"}, secrets={"app": "not the password"})
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        with join(r) as client:
            client.execute("select 1")


# Hostile


@pytest.mark.parametrize("answer", [
    wire.message("p", b""), wire.message("p", b"\0" * 3), wire.message("p", b"x" * 100_000 + b"\0"),
    wire.message("p", b"SCRAM-SHA-256\0\x7f\xff\xff\xff"), wire.message("p", b"SCRAM-SHA-1\0\0\0\0\0"),
    wire.message("p", b"SCRAM-SHA-256\0\0\0\0\x05n,,n="), wire.query("select 1"),
    wire.message("p", b"SCRAM-SHA-256-PLUS\0\0\0\0\x05n,,n="), b"p\0\0\0\1", b"p\x7f\xff\xff\xff"])
@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_nonsense_in_place_of_a_password_is_refused(pool, auth_type, answer):
    r = pool(main={"auth_type": auth_type})
    with Client(r.at("pool")) as client:
        client.send(wire.startup(user="app", database="app"))
        assert client.message()[0] == "R"
        client.send(answer)
        with contextlib.suppress(EOFError, ConnectionError):
            kind, body = client.message()
            assert kind == "E" and wire.error_fields(body)["C"] in ("28P01", "08P01")
            assert client.at_end()
    with join(r) as client:
        assert one(client, "select 1") == 1


def test_a_silent_client_is_sent_away_at_its_password(pool):
    r = pool(main={"client_login_timeout": "500ms"})
    with Client(r.at("pool")) as client:
        client.send(wire.startup(user="app", database="app"))
        assert client.message()[0] == "R"
        assert client.error()["C"] == "08P01"
        assert client.at_end()


# Settings


def test_a_forced_users_key_is_its_own(cluster, pool):
    """Not that of whoever has logged in to the database last."""
    with Onlooker(cluster.leader()) as node:
        secret = node.ask("select rolpassword from pg_authid where rolname = 'app'")
        other = node.ask("select rolpassword from pg_authid where rolname = 'postgres'")
        r = pool(main={"pool_mode": "transaction"}, secrets={"app": secret, "postgres": other},
                 databases={"app": "cluster=main user=app"})
        with join(r) as client, join(r, user="postgres", dbname="app") as guest:
            assert one(guest, "select current_user") == "app"
            node.connection.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                                    "where usename = 'app'")
            assert node.sees(0)
            assert one(client, "select current_user") == "app"
            with join(r, user="postgres", dbname="app") as another:
                assert one(another, "select current_user") == "app"


def test_another_password_reaches_clients_that_are_there(cluster, pool):
    """Their pool's next server is logged in to with it."""
    r = pool(main={"pool_mode": "transaction", "max_db_connections": 2}, secrets={
        "rotated": "first", "postgres": cluster.passwords["postgres"]})
    with Onlooker(cluster.leader()) as node:
        node.connection.execute("create role rotated login password 'first'")
        try:
            with psycopg.connect(r.dsn("pool", dbname="app", user="rotated", password="first"), autocommit=True) as client:
                client.execute("select 1")
                node.connection.execute("alter role rotated password 'second'")
                r.auth_file.write_text('"rotated" "second"\n')
                r.reload()
                assert node.connection.execute("select count(pg_terminate_backend(pid)) from "
                                               "pg_stat_activity where usename = 'rotated'").fetchone() == (1,)
                assert process.wait_until(lambda: node.count("usename = 'rotated'") == 0, 5)
                assert client.execute("select current_user").fetchone() == ("rotated",)
                with psycopg.connect(r.dsn("pool", dbname="app", user="rotated", password="second")) as other:
                    assert other.execute("select 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(r.dsn("pool", dbname="app", user="rotated", password="first"))
        finally:
            r.stop()
            node.connection.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                                    "where usename = 'rotated'")
            node.connection.execute("drop role rotated")


def test_auth_file_is_read_again_by_a_reload(cluster, pool, secrets):
    r = pool(secrets={"app": "another"})
    assert "password authentication failed" in refusal(r)
    r.auth_file.write_text(f'"app" "{secrets["scram"]}"\n')
    r.reload()
    with join(r) as client:
        assert one(client, "select 1") == 1
        r.auth_file.write_text("")
        r.reload()
        assert "password authentication failed" in refusal(r)
        assert one(client, "select 'still inside'") == "still inside"


def test_auth_type_of_a_listener(pool):
    r = pool(more={"listener open": {"mode": "pool", "bind": f"127.0.0.1:{free_port()}",
                                     "auth_type": "trust"}})
    assert asked_for(r) == "scram"
    r.passwords = {}
    with join(r, listener="open") as client:
        assert one(client, "select current_user") == "app"


def test_scram_iterations(pool, secrets):
    """Of a password that stands in clear text; a SCRAM secret has its own."""
    for n in (4096, 100):
        r = pool(main={"scram_iterations": n}, secrets={"app": secrets["plain"]})
        with Client(r.at("pool")) as client:
            client.send(wire.startup(user="app", database="app"))
            client.messages_until("R")
            client.send(wire.message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", 32) +
                                     b"n,,n=,r=abcdefghijklmnopqrstuvwx"))
            first = client.messages_until("R")[-1][1][4:].decode()
        assert first.split(",")[2] == f"i={n}"
        with join(r) as client:
            assert one(client, "select 1") == 1
        r.stop()
