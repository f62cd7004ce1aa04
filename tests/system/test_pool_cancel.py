"""Cancel requests where clients share servers."""

import collections
import itertools
import os
import random
import threading
import time

import psycopg
import pytest

from cluster import process
from harness import pools, wire
from harness.fake_postgres import FakePostgres, answer
from harness.pools import Later, Onlooker, join, one
from harness.wire import Client

TRANSACTION = {"pool_mode": "transaction"}
ROUNDS = int(os.environ.get("PGROUTER_CANCEL_ROUNDS", "1000"))


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_cancel_request_ends_the_query(cluster, pool, mode):
    r = pool(main={"pool_mode": mode})
    with join(r) as client, Onlooker(cluster.leader()) as node:
        sleeping = Later(lambda: client.execute("select pg_sleep(60)"))
        assert node.sees(1, "state = 'active'")
        client.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            sleeping.result(10)
        assert one(client, "select 'goes on'") == "goes on"


def test_a_client_without_a_server_cancels_nobody(cluster, pool):
    """Its last server works for another by now."""
    r = pool(main={**TRANSACTION, "default_pool_size": 1, "workers": 1})
    with join(r) as first, join(r) as second, Onlooker(cluster.leader()) as node:
        assert pools.pid_of(first) == pools.pid_of(second)
        sleeping = Later(lambda: one(second, "select 'slept' from pg_sleep(2)"))
        assert node.sees(1, "state = 'active' and query like '%pg_sleep%'")
        for _ in range(5):
            first.cancel()
        assert sleeping.result() == "slept"


def test_a_client_in_the_queue_is_cancelled_without_a_server(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 1})
    with join(r) as holder, join(r) as queued:
        holder.execute("begin")
        holder.execute("select 1")
        waiting = Later(lambda: queued.execute("select 'never asked'"))
        assert not waiting.is_over(0.3)
        queued.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            waiting.result(5)
        assert one(holder, "select 'untouched'") == "untouched"
        holder.execute("commit")
        with Onlooker(cluster.leader()) as node:
            assert node.count("query like '%never asked%'") == 0
        with join(r) as later:
            assert one(later, "select 1") == 1


def test_a_client_that_was_cancelled_in_the_queue_may_ask_again(pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 1})
    with join(r) as holder, join(r) as queued:
        for _ in range(2):
            holder.execute("begin")
            holder.execute("select 1")
            waiting = Later(lambda: queued.execute("select 1"))
            assert not waiting.is_over(0.2)
            queued.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                waiting.result(5)
            holder.execute("commit")
            assert one(queued, "select 'again'") == "again"


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_what_we_ask_a_server_ourselves_is_not_cancelled(cluster, pool, mode):
    """The client's query is, before the server has heard of it."""
    r = pool(main={"pool_mode": mode, "default_pool_size": 1, "server_check_delay": 0,
                   "server_check_query": "select 'checked' from pg_sleep(1)"})
    with join(r) as client, Onlooker(cluster.leader()) as node:
        one(client, "select 1")
        pid = node.pids()
        if mode == "session":
            client.close()
            client = join(r)
        waiting = Later(lambda: client.execute("select 'never asked'"))
        assert node.sees(1, "state = 'active' and query like '%checked%'")
        client.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            waiting.result(5)
        assert node.count("query like '%never asked%'") == 0
        assert one(client, "select 'goes on'") == "goes on"
        assert node.pids() == pid
        client.close()


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_query_whose_server_is_not_ready_yet_is_cancelled(pool, mode):
    """The server is being given the client's parameters: it must be hit neither then nor later."""
    asked, may_answer = threading.Event(), threading.Event()

    def script(connection):
        code, _ = connection.packet()
        assert code != wire.CANCEL_REQUEST
        connection.send(connection.server.login_answer(application_name=""))
        while True:
            kind, body = connection.message()
            if kind == "Q" and b"application_name" in body:
                asked.set()
                may_answer.wait(20)
                connection.send(wire.message("S", b"application_name\0mine\0") +
                                wire.message("C", b"SET\0") + wire.message("Z", b"I"))
            elif kind == "Q":
                connection.send(answer(body[:-1].decode()))

    with FakePostgres(script) as fake:
        r = pool(main={"pool_mode": mode, "default_pool_size": 1, "auth_type": "trust",
                       "server_tls_sslmode": "disable"},
                 databases={"app": f"host={fake.address} port={fake.port}"})
        with Client(r.at("pool")) as client, Client(r.at("pool")) as request:
            key = client.log_in(application_name="mine")
            client.send(wire.query("unheard") + wire.query("heard"))
            assert asked.wait(10)
            request.send(wire.cancel_request(*key))
            assert request.at_end()
            assert pools.errors_of(client.messages_until("Z")) == ["57014"]
            may_answer.set()
            assert pools.value_of(client.messages_until("Z")) == "heard"
            assert pools.value_of(client.ask("again")) == "again"
        r.stop()
        assert fake.errors == [] and fake.cancels == []


def test_a_wrong_key_cancels_nothing(cluster, pool):
    r = pool(main={**TRANSACTION, "auth_type": "trust"})
    with Client(r.at("pool")) as client, Onlooker(cluster.leader()) as node:
        process_id, key = client.log_in()
        client.send(wire.query("select 'slept' from pg_sleep(1)"))
        assert node.sees(1, "state = 'active' and query like '%pg_sleep%'")
        backend = node.pids("state = 'active'")[0]
        wrong = bytes(byte ^ 0x55 for byte in key)
        for number, secret in ((process_id, wrong), (process_id ^ 1, key), (backend, key), (0, b"\0" * 4)):
            with Client(r.at("pool")) as canceller:
                canceller.send(wire.cancel_request(number, secret))
                assert canceller.at_end()
        assert pools.value_of(client.messages_until("Z")) == "slept"


def test_a_key_is_void_when_its_client_has_left(cluster, pool):
    r = pool(main={**TRANSACTION, "auth_type": "trust", "default_pool_size": 1})
    with Client(r.at("pool")) as gone:
        process_id, key = gone.log_in()
        assert pools.value_of(gone.ask("select 1")) == "1"
    with Client(r.at("pool")) as client, Onlooker(cluster.leader()) as node:
        client.log_in()
        client.send(wire.query("select 'slept' from pg_sleep(1)"))
        assert node.sees(1, "state = 'active' and query like '%pg_sleep%'")
        with Client(r.at("pool")) as canceller:
            canceller.send(wire.cancel_request(process_id, key))
            assert canceller.at_end()
        assert pools.value_of(client.messages_until("Z")) == "slept"


def test_cancel_requests_hit_their_own_queries_only(pool):
    """Many come too late: they must not reach who has the server by then."""
    r = pool(main={**TRANSACTION, "default_pool_size": 3})
    deadline = time.monotonic() + 6
    n_cancelled = []

    def innocent(number):
        turn = 0
        with join(r) as client:
            while time.monotonic() < deadline:
                turn += 1
                assert one(client, f"select '{number}:{turn}'") == f"{number}:{turn}"
        return turn

    def cancelled(number):
        chance = random.Random(number)
        with join(r) as client:
            while time.monotonic() < deadline:
                timer = threading.Timer(chance.random() * 0.06, client.cancel)
                timer.start()
                try:
                    client.execute("select pg_sleep(0.03)")
                except psycopg.errors.QueryCanceled:
                    n_cancelled.append(number)
                timer.join()

    calls = [Later(lambda n=n: innocent(n)) for n in range(5)]
    calls += [Later(lambda n=n: cancelled(n)) for n in range(3)]
    for call in calls:
        call.result(60)
    assert set(n_cancelled) == {0, 1, 2}


@pytest.mark.parametrize("end", ["silence", "reset"])
def test_a_server_that_may_still_be_cancelled_is_lent_to_nobody(pool, end):
    """The node has the request, and does not say that it is done with it: another server is opened."""
    n_logins, requests, asked = [], [], threading.Event()

    def script(connection):
        code, _ = connection.packet()
        if code == wire.CANCEL_REQUEST:
            requests.append(connection)
            if end == "reset":
                time.sleep(0.5)
                connection.reset()
            connection.receive(1)
        n_logins.append(1)
        name = str(len(n_logins))
        connection.send(connection.server.login_answer())
        while True:
            kind, body = connection.message()
            if kind == "Q" and body == b"slow\0":
                asked.set()
                assert process.wait_until(lambda: requests, 10)
            if kind == "Q":
                connection.send(answer(name))

    with FakePostgres(script) as fake:
        r = pool(main={**TRANSACTION, "default_pool_size": 1, "auth_type": "trust", "server_tls_sslmode": "disable"},
                 databases={"app": f"host={fake.address} port={fake.port}"})
        with (Client(r.at("pool")) as client, Client(r.at("pool")) as request,
              Client(r.at("pool"), timeout=40) as other):
            key = client.log_in()
            other.log_in()
            client.send(wire.query("slow"))
            assert asked.wait(10)
            request.send(wire.cancel_request(*key))
            assert pools.value_of(client.messages_until("Z")) == "1"
            assert pools.value_of(other.ask("who is it")) == "2"
        r.stop()
        assert fake.errors == [] and len(requests) == 1


class Rounds:
    """A short query and a cancel request for it that comes late, more or less, again and again."""

    def __init__(self, router, n):
        self.router, self.n_wanted = router, n
        self.tags = itertools.count()
        self.hits = collections.Counter()  # of queries that were cancelled, by their tags
        self.n_done = 0
        self.over = threading.Event()

    def ask(self, client, may_be_cancelled):
        """What was answered: itself, or that it was cancelled, which is counted."""
        tag = f"tag {next(self.tags)}"
        client.send(wire.query(f"select '{tag}'"))
        yield tag
        answer = client.messages_until("Z")
        if errors := pools.errors_of(answer):
            assert errors == ["57014"]
            self.hits[tag] += 1
            assert may_be_cancelled, f"{tag}: it was not meant"
        else:
            assert pools.value_of(answer) == tag

    def innocent(self):
        with pools.logged_in(self.router) as client:
            while not self.over.is_set():
                for _ in self.ask(client, False):
                    pass

    def canceller(self, number, n):
        """The connection that carries the request is there already: its worker takes it as it comes.
        Requests come from many addresses, each of which may send twenty in a second."""
        chance = random.Random(number)
        with Client(self.router.at("pool")) as client:
            key = client.log_in()
            for turn in range(n):
                source = f"127.{number + 1}.{turn // 250 % 250}.{turn % 250 + 1}"
                with Client(self.router.at("pool"), source=source) as request:
                    for _ in self.ask(client, True):
                        if is_early := chance.random() < 0.2:
                            request.send(wire.cancel_request(*key))
                    if not is_early:
                        request.send(wire.cancel_request(*key))
                    assert request.at_end()
                self.n_done += 1


@pytest.mark.takes(120 + ROUNDS // 20)
def test_late_cancel_requests_reach_nobody_else(pool):
    """Also not when the server has gone to another client, on another worker, by then."""
    r = pool(main={**TRANSACTION, "auth_type": "trust", "default_pool_size": 2, "workers": 4, "verbose": 1})
    rounds = Rounds(r, ROUNDS)
    innocents = [Later(rounds.innocent) for _ in range(5)]
    cancellers = [Later(lambda n=n: rounds.canceller(n, ROUNDS // 8)) for n in range(8)]
    for call in cancellers:
        call.result(100 + ROUNDS // 20)
    rounds.over.set()
    for call in innocents:
        call.result()
    print(f"{rounds.n_done} rounds, {sum(rounds.hits.values())} in time")
    assert rounds.n_done == ROUNDS // 8 * 8 and set(rounds.hits.values()) <= {1}
    done = [event["worker"] for event in r.log.find() if event.get("reason", "").startswith("CANCEL_")]
    assert len(done) == rounds.n_done and set(done) == set(range(4))


def test_cancel_wait_timeout(pool):
    """A node that takes a cancel request and does not close: who asked is let go."""
    def script(connection):
        code, _ = connection.packet()
        while code in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            connection.send(b"N")
            code, _ = connection.packet()
        if code != wire.CANCEL_REQUEST:
            connection.send(connection.server.login_answer())
        while True:  # says nothing more
            connection.receive(1)

    with FakePostgres(script) as fake:
        r = pool(main={**TRANSACTION, "auth_type": "trust", "cancel_wait_timeout": "1s"},
                 databases={"app": f"host={fake.address} port={fake.port}"})
        with Client(r.at("pool")) as client, Client(r.at("pool")) as request:
            process_id, key = client.log_in()
            client.send(wire.query("select 1"))
            time.sleep(0.3)
            began = time.monotonic()
            request.send(wire.cancel_request(process_id, key))
            assert request.at_end()
            assert 0.7 < time.monotonic() - began < 3
