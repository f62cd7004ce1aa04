"""How long servers live, and how long clients wait for them."""

import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.fake_postgres import FakePostgres
from harness.pools import Later, Onlooker, errors_of, join, one, pid_of
from harness.wire import Client

TRANSACTION = {"pool_mode": "transaction", "default_pool_size": 1, "workers": 1}


# Servers


def test_server_lifetime(cluster, pool):
    r = pool(main={**TRANSACTION, "server_lifetime": "2s"})
    with join(r) as client, Onlooker(cluster.leader()) as node:
        first = pid_of(client)
        began = time.monotonic()
        while (pid := pid_of(client)) == first:  # it is used all the time
            assert time.monotonic() - began < 10
        assert time.monotonic() - began > 1.5
        assert node.sees(0, f"pid = {first}", seconds=5)

        client.execute("begin")
        mine = pid_of(client)
        assert process.wait_until(
            lambda: node.ask(f"select now() - backend_start > '3s' from pg_stat_activity where pid = {mine}"), 10)
        assert pid_of(client) == mine  # not under a transaction
        client.execute("commit")
        assert pid_of(client) != mine
        assert node.sees(0, f"pid = {pid}", seconds=10)


def test_server_lifetime_of_a_database(cluster, pool):
    r = pool(main=TRANSACTION, databases={
        "app": "cluster=main", "short": "cluster=main dbname=app server_lifetime=1s"})
    with join(r) as client, join(r, database="short") as other, Onlooker(cluster.leader()) as node:
        kept, short = pid_of(client), pid_of(other)
        assert node.sees(0, f"pid = {short}", seconds=10)
        assert node.pids() == [kept]


def test_server_lifetime_of_nothing_uses_each_once(pool):
    r = pool(main={**TRANSACTION, "server_lifetime": "0"})
    with join(r) as client:
        assert len({pid_of(client) for _ in range(5)}) == 5


def test_server_idle_timeout(cluster, pool):
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 4, "server_idle_timeout": "1s"})
    clients = [join(r) for _ in range(4)]
    for client in clients:
        client.execute("begin")
        client.execute("select 1")
    with Onlooker(cluster.leader()) as node:
        for client in clients[1:]:
            client.execute("commit")
        assert node.sees(1, seconds=10)  # that of the open transaction
        assert one(clients[0], "select 'still here'") == "still here"
        clients[0].execute("commit")
        assert node.sees(0, seconds=10)
        assert one(clients[0], "select 1") == 1
    for client in clients:
        client.close()


def fake_pool(pool, fake, main=None):
    """A router whose database leads to a PostgreSQL of the harness."""
    return pool(main={**TRANSACTION, "auth_type": "trust", **(main or {})},
                databases={"app": f"host={fake.address} port={fake.port}"})


class Doorman:
    """A PostgreSQL that notes when a startup packet comes, and how long its sender stays."""

    def __init__(self, answer):
        self.answer, self.came, self.stayed_s = answer, [], []

    def __call__(self, connection):
        code, _ = connection.packet()
        if code == wire.SSL_REQUEST:
            connection.send(b"N")
            code, _ = connection.packet()
        if code != wire.PROTOCOL_3_0:
            return
        began = time.monotonic()
        self.came.append(began)
        if self.answer:
            connection.send(self.answer)
            return
        try:
            connection.receive(1)
        finally:
            self.stayed_s.append(time.monotonic() - began)


def ask(router):
    """A client that comes, asks, and waits for a refusal."""
    with Client(router.at("pool")) as client:
        client.send(wire.startup(user="app", database="app"))
        client.messages_until("E")


def test_server_connect_timeout(pool):
    doorman = Doorman(None)
    with FakePostgres(doorman) as fake:
        r = fake_pool(pool, fake, {"server_connect_timeout": "500ms", "query_wait_timeout": "3s"})
        ask(r)
        assert doorman.stayed_s
        assert 0.4 < doorman.stayed_s[0] < 2


def test_server_login_retry(pool):
    """After a login that failed nobody knocks again before the time is over."""
    doorman = Doorman(wire.error("57P03", "the database system is starting up"))
    with FakePostgres(doorman) as fake:
        r = fake_pool(pool, fake, {"server_login_retry": "2s", "query_wait_timeout": "300ms"})
        began = time.monotonic()
        while time.monotonic() - began < 5:
            ask(r)
        assert 2 <= len(doorman.came) <= 4
        between = [b - a for a, b in zip(doorman.came, doorman.came[1:])]
        assert min(between) > 1.8


def test_a_client_is_told_why_no_server_lets_it_in(pool):
    doorman = Doorman(wire.error("57P03", "the database system is starting up"))
    with FakePostgres(doorman) as fake:
        r = fake_pool(pool, fake, {"server_login_retry": "60s", "query_wait_timeout": "1s"})
        with Client(r.at("pool")) as client:
            client.send(wire.startup(user="app", database="app"))
            fields = wire.error_fields(client.messages_until("E")[-1][1])
        assert "the database system is starting up" in fields["M"]


# Clients


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_query_wait_timeout(pool, mode):
    r = pool(main={"pool_mode": mode, "default_pool_size": 1, "query_wait_timeout": "700ms"})
    with join(r) as holder:
        holder.execute("begin")
        holder.execute("select 1")

        def wait():
            with join(r) as client:
                client.execute("select 1")

        began = time.monotonic()
        with pytest.raises(psycopg.Error, match="query_wait_timeout"):
            Later(wait).result()
        assert 0.6 < time.monotonic() - began < 5
        assert one(holder, "select 'untouched'") == "untouched"
        holder.execute("commit")
    with join(r) as later:
        assert one(later, "select 1") == 1


def test_query_wait_timeout_counts_the_wait_not_the_query(pool):
    r = pool(main={**TRANSACTION, "query_wait_timeout": "500ms"})
    with join(r) as client:
        assert one(client, "select 'slept' from pg_sleep(1.2)") == "slept"
        client.execute("begin")
        assert one(client, "select 'slept' from pg_sleep(1.2)") == "slept"
        client.execute("commit")


def test_no_query_wait_timeout_is_for_ever(pool):
    r = pool(main={**TRANSACTION, "query_wait_timeout": "0"})
    with join(r) as holder, join(r) as patient:
        holder.execute("begin")
        holder.execute("select 1")
        waiting = Later(lambda: one(patient, "select 1"))
        assert not waiting.is_over(1.5)
        holder.execute("commit")
        assert waiting.result() == 1


def test_the_refusal_says_which_limit_it_was(pool):
    r = pool(main={**TRANSACTION, "auth_type": "trust", "query_wait_timeout": "300ms"})
    with join(r) as holder, Client(r.at("pool")) as client:
        client.log_in()
        holder.execute("begin")
        holder.execute("select 1")
        client.send(wire.query("select 1"))
        answer = client.messages_until("E")
        assert errors_of(answer) == ["08P01"]
        assert "query_wait_timeout" in wire.error_fields(answer[-1][1])["M"]
        assert client.at_end()
        r.log.wait("session ended", reason="QUERY_WAIT")


# Clients that take their time


def ends_within(client, seconds):
    """Messages that a raw client hears until it is closed, and how long that took."""
    began = time.monotonic()
    client.socket.settimeout(seconds)
    messages = client.messages_until("E")
    assert client.at_end()
    return messages, time.monotonic() - began


def raw(pool, main, users=None):
    """A client of one server, logged in, and its router."""
    r = pool(main={**TRANSACTION, "auth_type": "trust", **main}, users=users)
    client = Client(r.at("pool"))
    client.log_in()
    return client, r


def check_query_timeout(client, router, cluster):
    client.ask("select 1")
    client.send(wire.query("select pg_sleep(30)"))
    messages, seconds = ends_within(client, 10)
    assert errors_of(messages) == ["57014"]
    assert "query_timeout" in wire.error_fields(messages[-1][1])["M"]
    assert 0.9 < seconds < 5
    router.log.wait("session ended", reason="QUERY_TIMEOUT")
    with Onlooker(cluster.leader()) as node:
        assert node.sees(0, "state = 'active' and query like '%pg_sleep%'")


def check_idle_transaction_timeout(client, router, cluster):
    client.ask("begin")
    messages, seconds = ends_within(client, 10)
    assert errors_of(messages) == ["25P03"]
    assert 0.9 < seconds < 5
    router.log.wait("session ended", reason="IDLE_TRANSACTION")
    with join(router) as other:
        assert one(other, "select 'free again'") == "free again"


def check_transaction_timeout(client, router, cluster):
    client.ask("begin")
    began = time.monotonic()
    with pytest.raises((EOFError, OSError)):
        while True:
            assert time.monotonic() - began < 10, "it goes on"
            client.ask("select pg_sleep(0.05)")
    assert 0.9 < time.monotonic() - began < 5
    router.log.wait("session ended", reason="TRANSACTION_TIMEOUT")


def check_client_idle_timeout(client, router, cluster):
    client.ask("select 1")
    messages, seconds = ends_within(client, 10)
    assert errors_of(messages) == ["57P05"]
    assert 0.9 < seconds < 5
    router.log.wait("session ended", reason="CLIENT_IDLE")


CHECKS = {"query_timeout": check_query_timeout, "client_idle_timeout": check_client_idle_timeout,
          "idle_transaction_timeout": check_idle_transaction_timeout,
          "transaction_timeout": check_transaction_timeout}


@pytest.mark.parametrize("setting", CHECKS)
def test_timeouts_of_clients(cluster, pool, setting):
    client, r = raw(pool, {setting: "1s"})
    with client:
        CHECKS[setting](client, r, cluster)


@pytest.mark.parametrize("setting", CHECKS)
def test_timeouts_of_a_user(cluster, pool, setting):
    client, r = raw(pool, {setting: "60s"}, {"app": f"{setting}=1s"})
    with client:
        CHECKS[setting](client, r, cluster)


def test_a_client_that_works_is_not_idle(pool):
    """Each limit is above what one statement or pause takes, and below what all take."""
    r = pool(main={"pool_mode": "session", "default_pool_size": 1, "query_timeout": "1s",
                   "idle_transaction_timeout": "1s", "client_idle_timeout": "1s",
                   "transaction_timeout": "1500ms"})
    with join(r) as client:
        for _ in range(3):
            client.execute("begin")
            client.execute("select pg_sleep(0.4)")
            time.sleep(0.4)
            client.execute("commit")
            time.sleep(0.4)
        assert one(client, "select 1") == 1


def test_query_wait_notify(pool):
    r = pool(main={**TRANSACTION, "query_wait_notify": "500ms"})
    with join(r) as holder, join(r) as patient:
        notices = []
        patient.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        assert one(patient, "select 1") == 1
        holder.execute("begin")
        holder.execute("select 1")
        waiting = Later(lambda: one(patient, "select 'served'"))
        assert not waiting.is_over(1.5)
        holder.execute("commit")
        assert waiting.result() == "served"
        assert len(notices) == 1
        assert "waits" in notices[0]
