"""Everything at once, by chance: every answer must belong to its question."""

import contextlib
import random
import threading
import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.traffic import SECONDS, SEED, Traffic
from harness.wire import Client

N_THREADS = 12
SWITCHOVER_FROM_S = 30  # shorter runs have none
CANCELS_PER_S = 10      # pgrouter lets 20 pass


class TcpTraffic(Traffic):
    def __init__(self, router):
        super().__init__(router)
        self._cancels = threading.Lock()

    def may_cancel(self):
        """Waits for its turn."""
        with self._cancels:
            time.sleep(1 / CANCELS_PER_S)

    def is_an_end(self, error):
        return isinstance(error, psycopg.OperationalError) or super().is_an_end(error)


class Session:
    """A connection of one thread, and what may be done on it."""

    def __init__(self, traffic, chance):
        self.traffic, self.chance = traffic, chance
        self.listener = chance.choice(["rw", "ro"])
        self.connection = traffic.router.connect(
            self.listener, sslmode=chance.choice(["disable", "require"]),
            channel_binding=chance.choice(["disable", "prefer"]))

    def close(self):
        self.connection.close()

    def ask(self):
        tag = self.traffic.tag()
        for prepare in (None, True):
            found = self.connection.execute("select %s::text, pg_is_in_recovery()", [tag],
                                            prepare=prepare).fetchone()
            assert found[0] == tag, f"{found[0]} is the answer to another question than {tag}"
            assert self.traffic.changing.is_set() or found[1] == (self.listener == "ro")

    def ask_much(self):
        tag, n = self.traffic.tag(), self.chance.randrange(1, 200000)
        found = self.connection.execute("select %s || repeat('x', %s)", [tag, n]).fetchone()[0]
        assert found == tag + "x" * n

    def ask_in_a_pipeline(self):
        tags = [self.traffic.tag() for _ in range(self.chance.randrange(2, 40))]
        with self.connection.pipeline():
            cursors = [self.connection.execute("select %s::text", [tag]) for tag in tags]
        assert [cursor.fetchone()[0] for cursor in cursors] == tags

    def err(self):
        tag = self.traffic.tag()
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match=tag):
            self.connection.execute("select %s::text::int", [tag])

    def copy_out(self):
        tag, n = self.traffic.tag(), self.chance.randrange(1, 2000)
        with self.connection.cursor().copy(
                f"copy (select '{tag}', n from generate_series(1, {n}) n) to stdout") as copy:
            rows = [bytes(row).decode() for row in copy]
        assert rows == [f"{tag}\t{i}\n" for i in range(1, n + 1)]

    def copy_in(self):
        if self.listener == "ro":
            return  # a standby has no temporary tables
        tag, n = self.traffic.tag(), self.chance.randrange(1, 2000)
        self.connection.execute("create temp table if not exists mine (tag text)")
        with self.connection.cursor().copy("copy mine from stdin") as copy:
            for _ in range(n):
                copy.write(f"{tag}\n")
        assert self.connection.execute("delete from mine where tag = %s", [tag]).rowcount == n

    def cancel(self):
        """Asked for until it is heard, so this session is of no more use afterwards."""
        pgconn, canceller = self.connection.pgconn, self.connection.pgconn.get_cancel()
        pgconn.send_query(b"select pg_sleep(60)")
        pgconn.flush()
        asked = 0
        while pgconn.is_busy():
            self.traffic.may_cancel()
            canceller.cancel()
            asked += 1
            assert asked < 100, "nobody hears the cancel request"
            pgconn.consume_input()
        result = pgconn.get_result()
        if not self.traffic.changing.is_set():
            assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        self.close()

    def leave_in_the_middle(self):
        """With the answer on its way, or a transaction open."""
        self.connection.pgconn.send_query(self.chance.choice(
            [b"begin; select 1", b"select repeat('x', 1000000)", b"select pg_sleep(0.05)"]))
        self.connection.pgconn.flush()
        self.close()


def garbage(traffic, chance):
    with Client(traffic.router.at(chance.choice(["rw", "ro"]))) as client:
        client.send(chance.choice([
            b"GET / HTTP/1.1\r\n\r\n", b"\0" * 8, wire.startup(user="app")[:9], b"\x16", b"",
            wire.ssl_request() + b"\x16\x03", chance.randbytes(chance.randrange(1, 300)),
            wire.cancel_request(chance.randrange(1 << 31), chance.randbytes(4))]))
        if chance.random() < 0.5:
            client.reset()


def look_at_the_page(traffic, chance):
    path = chance.choice(["/", "/stats;csv", "/healthz", "/readyz", "/nothing"])
    status = traffic.router.get(path, timeout=30)[0]
    assert status == (404 if path == "/nothing" else 200)


WITH_SESSION = [Session.ask, Session.ask_much, Session.ask_in_a_pipeline, Session.err,
                Session.copy_out, Session.copy_in]
LAST_OF_SESSION = [Session.cancel, Session.leave_in_the_middle, Session.close]
WITHOUT = [garbage, look_at_the_page]


def live(traffic, chance):
    """One session from its login to its end, and something beside it."""
    beside = chance.choice(WITHOUT)
    beside(traffic, chance)
    traffic.n_done[beside.__name__] += 1

    session = Session(traffic, chance)
    with contextlib.closing(session):
        acts = [chance.choice(WITH_SESSION) for _ in range(chance.randrange(8))]
        for act in [*acts, chance.choice(LAST_OF_SESSION)]:
            act(session)
            traffic.n_done[act.__name__] += 1


def reload(traffic, chance):
    """What does not concern sessions."""
    r = traffic.router
    r.sections["listener rw"]["maxconn"] = str(chance.randrange(100, 200))
    r.sections["listener ro"]["balance"] = chance.choice(["roundrobin", "leastconn", "random"])
    r.sections["cluster main"]["check_interval"] = chance.choice(["1s", "500ms"])
    r.reload()


def switch_over(traffic, cluster):
    with traffic.change():
        new = cluster.switchover()
        cluster.wait_for_roles()
        r = traffic.router
        r.log.wait("primary changed", seconds=30, **{"is": new.name})
        with r.connect("rw") as connection:
            assert connection.execute("select inet_server_addr()").fetchone()[0].compressed == new.address
        time.sleep(2)  # whoever was cut has said so


@pytest.mark.traffic
@pytest.mark.takes(int(SECONDS) + 180)
def test_random_traffic(cluster, router):
    r = router(cluster={"check_interval": "1s"})
    traffic, chance = TcpTraffic(r), random.Random(SEED)
    switched = SECONDS < SWITCHOVER_FROM_S
    with traffic.of(N_THREADS, live):
        while traffic.goes_on():
            time.sleep(min(1.0, SECONDS / 5))
            reload(traffic, chance)
            if not switched and traffic.has_run(0.5):
                switched = True
                switch_over(traffic, cluster)
    acts = {act.__name__ for act in WITH_SESSION + LAST_OF_SESSION + WITHOUT}
    assert acts <= set(traffic.n_done)
    assert process.wait_until(lambda: r.sessions()[0] == 0, 10)
    assert not [event for event in r.log.all if event.level in ("ERROR", "FATAL")]
