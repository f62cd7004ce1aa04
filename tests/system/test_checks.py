"""How pgrouter finds out which node is what."""

import contextlib
import itertools
import signal
import statistics
import time

import psycopg
import pytest

from cluster import process
from harness.fake_node import ask_who, fake_nodes, refusal, setting, who
from harness.fake_patroni import Answer, FakePatroni
from harness.fake_postgres import FakePostgres
from harness.wire import Client

QUICK = {"check_interval": "300ms", "check_fast_interval": "50ms", "check_timeout": "1s"}
EVERY_ROLE = {role: {"role": role} for role in ("primary", "replica", "read-only", "any")}
NOT_JSON = Answer(200, "<html>It works!</html>")


def where_is(connection):
    """Address of the node behind a connection."""
    return connection.execute("select inet_server_addr()").fetchone()[0].compressed


def where(router, listener, n=1):
    """Addresses of the nodes that n new sessions reach."""
    found = set()
    for _ in range(n):
        with router.connect(listener) as connection:
            found.add(where_is(connection))
    return found


class Answers:
    """In place of FakePatroni.answers: one after the other, the last one for ever."""

    def __init__(self, *answers):
        self.answers, self.n_given = answers, 0

    def get(self, _path, _otherwise):
        self.n_given += 1
        return self.answers[min(self.n_given, len(self.answers)) - 1]

    def wait(self, n, seconds=15):
        assert process.wait_until(lambda: self.n_given >= n, seconds), f"{self.n_given} of {n} requests"

    def wait_for_last(self):
        """Until the last one was given, and the router has taken it: it asks on."""
        self.wait(len(self.answers) + 1)


# check = postgres


def sql_checks(cluster, **more):
    return {"check": "postgres", "check_user": "health",
            "check_password": cluster.passwords["health"], **QUICK, **more}


def without_patroni(cluster):
    """The nodes, and no word of where their Patroni is."""
    return ", ".join(f"{node.name}={node.address}:{node.port}" for node in cluster.nodes)


def who_checks(node):
    """User and database of the checks that a node sees."""
    return set(node.sql("select usename || '@' || datname from pg_stat_activity "
                        "where application_name = 'pgrouter'").split())


def test_check_postgres_finds_the_roles(cluster, router):
    r = router(nodes=without_patroni(cluster), cluster=sql_checks(cluster),
               listeners={"rw": {}, "ro": {"role": "replica", "balance": "roundrobin"}})
    leader = cluster.leader()

    assert where(r, "rw", 2) == {leader.address}
    assert where(r, "ro", 4) == {node.address for node in cluster.nodes if node is not leader}
    assert who_checks(leader) == {"health@postgres"}

    r.sections["cluster main"]["check_dbname"] = "app"
    r.reload()
    assert process.wait_until(lambda: who_checks(leader) == {"health@app"}, 10)

    r.sections["cluster main"]["check_password"] = "wrong"
    since = r.log.mark()
    r.reload()
    down = r.log.wait("node changed", since=since, node=leader.name, **{"is": "down"})
    assert "password authentication failed" in down["evidence"]

    r.sections["cluster main"].update(check_user="app", check_password=cluster.passwords["app"])
    r.reload()
    assert process.wait_until(lambda: who_checks(leader) == {"app@app"}, 10)
    assert where(r, "rw") == {leader.address}


def test_check_postgres_follows_a_switchover(cluster, router):
    r = router(nodes=without_patroni(cluster), cluster=sql_checks(cluster),
               listeners={"rw": {"queue_timeout": "60s"}, "ro": {"role": "replica"}})
    old = cluster.leader()

    new = cluster.switchover()
    r.log.wait("primary changed", seconds=30, **{"is": new.name})

    assert where(r, "rw", 2) == {new.address}
    assert r.log.wait("node changed", seconds=30, node=old.name, **{"is": "replica"})
    assert new.address not in where(r, "ro", 4)


def test_check_postgres_names_the_writable_node_of_the_highest_timeline(cluster, router):
    """The old primary comes back on its own, writable and out of date."""
    r = router(nodes=without_patroni(cluster), cluster=sql_checks(cluster, fall="1"),
               listeners={"rw": {"queue_timeout": "60s"}})
    old = cluster.leader()
    old.freeze()
    cluster.expire_leader()
    new = cluster.wait_for_leader(other_than=None)
    r.log.wait("primary changed", seconds=30, **{"is": new.name})
    since = r.log.mark()
    cluster.signal(old.name, 9)  # Patroni would demote it
    old.thaw()

    warning = r.log.wait("writable node that is not the primary", seconds=20, since=since)
    assert warning["node"] == old.name and warning["timeline"] < warning["highest_timeline"]
    assert where(r, "rw", 3) == {new.address}
    assert not r.log.find("primary changed", since=since)


# Rounds


def test_rise_and_fall_are_counted(start_router):
    with fake_nodes("a", "b") as (a, b):
        good = a.patroni.answers["/primary"]
        r = start_router(nodes=setting(a, b), cluster={**QUICK, "rise": "3", "fall": "4"},
                         listeners={"rw": {"queue_timeout": "0"}})

        def changes(*answers):
            """What becomes of the node under these answers, each given once."""
            since = r.log.mark()
            a.patroni.answers = script = Answers(*answers)
            script.wait_for_last()
            return [event["is"] for event in r.log.find("node changed", since=since, node="a")]

        assert changes(*3 * [NOT_JSON], good) == []
        assert ask_who(r.at()) == "a"
        assert changes(*3 * [NOT_JSON], *3 * [good], *3 * [NOT_JSON], good) == []
        assert changes(*4 * [NOT_JSON]) == ["down"]
        assert refusal(r.at())["C"] == "57P03"
        assert changes(*2 * [good], NOT_JSON) == []
        assert changes(*2 * [good], NOT_JSON) == []
        assert changes(*3 * [good]) == ["primary"]
        assert ask_who(r.at()) == "a"


def gaps(patroni, since=0):
    """Seconds between the requests that have come since."""
    times = [at for at, path in list(patroni.asked_at)[since:] if path == "/primary"]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def wait_for_gap(patroni, fits, seconds=30):
    """Until the last three gaps fit: one alone may be the machine's doing."""
    def three_fit():
        last = gaps(patroni)[-3:]
        return len(last) == 3 and fits(statistics.median(last))

    assert process.wait_until(three_fit, seconds), gaps(patroni)


def test_rounds_follow_the_intervals(start_router):
    slow, fast = 1.0, 0.05
    with fake_nodes("a", "b") as (a, b):
        start_router(nodes=setting(a, b),
                     cluster={"check_interval": "1s", "check_fast_interval": "50ms"})
        wait_for_gap(a.patroni, lambda gap: gap > 0.85 * slow)
        assert max(gaps(a.patroni)[-2:]) < 3 * slow

        since = len(a.patroni.asked_at)
        b.patroni.replica(timeline=2)  # news: something is going on
        wait_for_gap(a.patroni, lambda gap: gap < 0.4 * slow)
        assert process.wait_until(lambda: len(a.patroni.asked_at) > since + 20, 10)
        assert statistics.median(gaps(a.patroni, since)) >= 0.9 * fast

        wait_for_gap(a.patroni, lambda gap: gap > 0.85 * slow)  # all is well again


def test_one_request_per_node_and_round(start_router):
    with fake_nodes("a", "b", "c") as nodes:
        listeners = {f"{role}-{n}": keys for role, keys in EVERY_ROLE.items() for n in range(4)}
        began = time.monotonic()
        start_router(nodes=setting(*nodes), listeners=listeners,
                     cluster={"check_interval": "200ms", "check_fast_interval": "200ms"})
        patronis = [node.patroni for node in nodes]
        assert process.wait_until(lambda: min(p.asked["/primary"] for p in patronis) >= 12, 20)

        n_asked = [sum(p.asked.values()) for p in patronis]
        rounds = (time.monotonic() - began) / 0.2

        assert all(set(p.asked) == {"/primary"} for p in patronis)
        assert max(n_asked) - min(n_asked) <= 1
        # A round that comes in between is allowed at the start, when all is news.
        assert max(n_asked) <= rounds + 2


def test_a_silent_patroni_fails_after_check_timeout(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster={**QUICK, "check_timeout": "700ms", "fall": "1"},
                         listeners={"rw": {"queue_timeout": "0"}, "ro": {"role": "replica"}})
        since, began = r.log.mark(), time.monotonic()
        a.patroni.silent = True
        down = r.log.wait("node changed", node="a", since=since, **{"is": "down"})

        assert down["evidence"] == "no answer within 700 ms"
        assert 0.65 < down.at - began
        assert refusal(r.at())["C"] == "57P03"
        assert ask_who(r.at("ro")) == "b"

        a.patroni.silent = False
        r.log.wait("node changed", node="a", since=since, **{"is": "primary"})
        assert ask_who(r.at()) == "a"


# Lag, tags


@contextlib.contextmanager
def without_replay(node):
    """A real replica that receives and does not replay; it answers queries. (Patroni ends
    a pause of the replay that others have begun.)"""
    def is_replaying(one):
        with open(f"/proc/{one.pid}/cmdline", encoding="latin-1") as file:
            return "startup" in file.read()

    startup = next(filter(is_replaying, process.postgres_processes(node.data)))
    startup.send(signal.SIGSTOP)
    try:
        yield
    finally:
        startup.send(signal.SIGCONT)


def test_a_lagging_replica_gets_no_new_sessions(cluster, router):
    r = router(cluster={**QUICK, "max_lag": "1MB"})
    cluster.wait_for_roles()
    lagging, other = cluster.replicas()
    sessions = [r.connect("ro") for _ in range(4)]
    kept = [session for session in sessions if where_is(session) == lagging.address]

    def serving():
        rows = r.csv()
        return {node for node in (lagging, other) if rows["ro", node.name]["status"] == "UP"}

    with without_replay(lagging):
        cluster.leader().sql("create table ahead as select repeat('x', 1000) "
                             "from generate_series(1, 4000)")
        changed = r.log.wait("node changed", seconds=20, node=lagging.name, **{"is": "replica, lagging"})
        assert changed["was"] == "replica"
        assert process.wait_until(lambda: serving() == {other}, 20)  # which has to replay it too

        assert where(r, "ro", 5) == {other.address}
        for session in kept:
            assert session.execute("select 1").fetchone() == (1,)
        assert len(kept) == 2
    assert process.wait_until(lambda: serving() == {lagging, other}, 20)
    assert where(r, "ro", 4) == {lagging.address, other.address}
    cluster.leader().sql("drop table ahead")
    for session in sessions:
        session.close()


def test_without_a_limit_lag_does_not_matter(start_router):
    with fake_nodes("a", "b") as (a, b):
        b.patroni.replica(lag=90 << 20)
        r = start_router(nodes=setting(a, b), cluster=QUICK, listeners={"ro": {"role": "replica"}})
        assert ask_who(r.at("ro")) == "b"


def test_a_replica_that_does_not_stream_is_a_replica_still(start_router):
    """As for Patroni's /replica, which asks for no more than a running one."""
    with fake_nodes("a", "b") as (a, b):
        b.patroni.replica(streaming=False)
        r = start_router(nodes=setting(a, b), cluster=QUICK, listeners={"ro": {"role": "replica"}})
        assert ask_who(r.at("ro")) == "b"


@contextlib.contextmanager
def tags(node, **tags):
    """Tags of a real node; they are gone afterwards."""
    node.set_tags(**tags)
    try:
        yield
    finally:
        node.set_tags()
        assert process.wait_until(lambda: not node.status().get("tags"), 20)


def test_noloadbalance_is_honoured(cluster, router):
    r = router(cluster=QUICK)
    one, other = cluster.replicas()
    kept = next(c for c in iter(lambda: r.connect("ro"), None) if where_is(c) == one.address)
    with tags(one, noloadbalance=True):
        r.log.wait("node changed", seconds=20, node=one.name, **{"is": "replica, noloadbalance"})
        assert not one.is_replica()  # Patroni itself says so
        assert where(r, "ro", 4) == {other.address}
        assert kept.execute("select 1").fetchone() == (1,)
    r.log.wait("node changed", seconds=20, node=one.name, was="replica, noloadbalance")
    assert where(r, "ro", 4) == {one.address, other.address}
    kept.close()


def test_check_uri_asks_patroni_itself(cluster, router):
    r = router(cluster=QUICK, listeners={
        "green": {"check_uri": "/replica?tag_color=green", "queue_timeout": "1s"},
        "leader": {"check_uri": "/leader"}})
    assert where(r, "leader", 2) == {cluster.leader().address}
    assert refusal(r.at("green"))["M"] == "no node answers the listener's check_uri with 200"

    one, _ = cluster.replicas()
    with tags(one, color="green"):
        assert process.wait_until(lambda: r.csv()["green", one.name]["status"] == "UP", 20)
        assert where(r, "green", 4) == {one.address}
        session = r.connect("green")
    r.log.wait("session ended", seconds=20, listener="green", node=one.name, reason="ROLE_CHANGED")
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")


def test_check_uri_is_asked_where_a_listener_wants_it_only(start_router):
    with fake_nodes("a", "b") as nodes:
        for node in nodes:
            node.patroni.answers["/health"] = Answer(200, "")
        start_router(nodes=setting(*nodes), cluster=QUICK, listeners={
            "one": {"check_uri": "/health"}, "two": {"check_uri": "/health"}, "rw": {}})
        for node in nodes:
            asked = node.patroni.asked
            assert process.wait_until(lambda: asked["/health"] > 5, 10)
            assert set(asked) == {"/primary", "/health"}
            assert abs(asked["/health"] - asked["/primary"]) <= 2


def test_check_uri_counts_rise_and_fall(start_router):
    with fake_nodes("a", "b") as (a, b):
        for node in (a, b):
            node.patroni.answers["/mine"] = Answer(503 if node is b else 200, "anything")
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"mine": {"check_uri": "/mine", "queue_timeout": "10s"}})
        assert {ask_who(r.at("mine")) for _ in range(3)} == {"a"}
        a.patroni.answers["/mine"] = Answer(503, "")
        b.patroni.answers["/mine"] = Answer(200, "")
        assert process.wait_until(lambda: r.csv()["mine", "a"]["status"] == "DOWN", 10)
        assert {ask_who(r.at("mine")) for _ in range(3)} == {"b"}


# Who is primary


def test_two_claimants_on_one_timeline_stop_writes(start_router):
    with fake_nodes("a", "b", "c") as (a, b, c):
        r = start_router(nodes=setting(a, b, c), cluster=QUICK,
                         listeners={"rw": {"queue_timeout": "1s"}, "ro": {"role": "replica"}})
        session = Client(r.at())
        session.log_in()
        b.patroni.primary()

        alarm = r.log.wait("two primaries, writes stop")
        assert alarm.level == "error" and "a and b both claim" in alarm["evidence"]
        error = refusal(r.at())
        assert error["C"] == "57P03" and "both claim to be the primary on timeline 1" in error["M"]
        assert session.at_end()
        assert ask_who(r.at("ro")) == "c"

        a.patroni.replica()
        r.log.wait("one primary again")
        assert ask_who(r.at()) == "b"
        session.close()


def test_a_moment_of_two_claimants_is_no_alarm(start_router):
    """The end of a switchover looks like that for as long as one answer is older. Which
    of the two answers first in a round differs, so it happens often."""
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK)
        replica = b.patroni.answers["/primary"]
        b.patroni.primary(timeline=1)
        claim = b.patroni.answers["/primary"]
        b.patroni.answers = script = Answers(*15 * [claim, replica, replica])
        script.wait_for_last()
        assert not r.log.find("two primaries, writes stop")
        assert ask_who(r.at()) == "a"


def test_an_older_timeline_gets_nobody(start_router):
    with fake_nodes("a", "b") as (a, b):
        a.patroni.primary(timeline=5)
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"rw": {"queue_timeout": "500ms"}})
        a.refuse()
        b.patroni.primary(timeline=4)

        warning = r.log.wait("writable node that is not the primary", node="b")
        assert (warning["timeline"], warning["highest_timeline"]) == (4, 5)
        error = refusal(r.at())
        assert error["C"] == "57P03"
        assert "b claims to be the primary on timeline 4, but timeline 5 was seen" in error["M"]
        assert not b.postgres.connections

        b.patroni.primary(timeline=6)
        r.log.wait("primary changed", **{"is": "b"})
        assert ask_who(r.at()) == "b"


def test_the_older_of_two_claimants_gets_nobody(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK)
        b.patroni.primary(timeline=2)
        r.log.wait("primary changed", **{"is": "b"})
        r.log.wait("node changed", node="a", **{"is": "writable, behind the fence"})
        assert {ask_who(r.at()) for _ in range(4)} == {"b"}


def test_another_system_identifier_begins_anew(start_router):
    """A cluster that was restored begins with timeline 1 again."""
    with fake_nodes("a", "b") as (a, b):
        a.patroni.primary(timeline=9)
        b.patroni.replica(timeline=9)
        r = start_router(nodes=setting(a, b), cluster=QUICK)
        for node in (a, b):
            node.refuse()
        r.log.wait("node changed", node="b", **{"is": "down"})
        a.patroni.primary(timeline=1, system_identifier="7999999999999999999")
        b.patroni.replica(timeline=1, system_identifier="7999999999999999999")
        for node in (a, b):
            node.open()
        r.log.wait("system identifier changed", **{"is": 7999999999999999999})
        assert ask_who(r.at()) == "a"


def test_a_writable_node_without_the_lock_is_an_alarm(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"rw": {}, "ro": {"role": "replica", "queue_timeout": "0"}})
        b.patroni.primary()
        b.patroni.answers["/primary"].status = 503
        r.log.wait("writable node that is not the primary", node="b")
        assert {ask_who(r.at()) for _ in range(4)} == {"a"}
        assert refusal(r.at("ro"))["M"] == "no replica is available"


def test_a_standby_cluster_says_so(start_router):
    with fake_nodes("a", "b") as (a, b):
        a.patroni.replica()
        a.patroni.answers["/primary"].body["role"] = "standby_leader"
        r = start_router(nodes=setting(a, b), cluster=QUICK, listeners={
            "rw": {"queue_timeout": "500ms"}, "ro": {"role": "replica"}})
        error = refusal(r.at())
        assert error["C"] == "57P03"
        assert error["M"].endswith("a standby cluster has no primary, only a standby leader")
        assert {ask_who(r.at("ro")) for _ in range(4)} == {"b"}  # as Patroni's /replica


def test_pause_mode_keeps_a_primary_without_the_lock(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK)
        session = Client(r.at())
        session.log_in()
        body = a.patroni.answers["/primary"].body
        a.patroni.answers = script = Answers(Answer(503, {**body, "pause": True, "cluster_unlocked": True}))
        script.wait(5)
        assert who(session) == ask_who(r.at()) == "a"
        session.close()


# Patroni's answers are hostile


def http(body, head="HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n"):
    return head.encode() + b"\r\n" + body


BODY = (b'{"state": "running", "role": "master", "timeline": 99, "server_version": 150020, '
        b'"xlog": {"location": 9}}')
HOSTILE = {
    "nothing": b"",
    "not HTTP": b"\x15\x03\x01\x00\x02\x02\x28" * 100,
    "PostgreSQL": b"E\0\0\0\x40SFATAL\0C08P01\0Minvalid length of startup packet\0\0",
    "not JSON": http(b"It works!"),
    "JSON, but no object": http(b"[1, 2, 3]"),
    "an empty object": http(b"{}"),
    "10 MB of JSON": http(b'{"a": "' + b"x" * (10 << 20) + b'"}'),
    "10 MB of lists": http(b"[" * (10 << 20)),
    "a deep one below the limit": http(b'{"a":' * 10000 + b"1" + b"}" * 10000),
    "10 MB of headers": http(b"", "HTTP/1.0 200 OK\r\n" + "X-Filler: yes\r\n" * (10 << 20 >> 4)),
    "one long header": http(BODY, "HTTP/1.0 200 OK\r\nX: " + "y" * (1 << 20) + "\r\n"),
    "half an answer": http(BODY[:40]),
    "less than was promised": http(BODY, "HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n"),
    "a length that is none": http(BODY, "HTTP/1.0 200 OK\r\nContent-Length: -1\r\n"),
    "half a header": b"HTTP/1.0 200",
    "broken chunks": http(b"fffffffffffffffff\r\n" + BODY,
                          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"),
    "another place": http(BODY, "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/primary\r\n"),
    "zero bytes": http(b"\0" * 1000),
    "a zero byte inside": http(BODY.replace(b"master", b"mas\0ter")),
    "no UTF-8": http(BODY.replace(b"master", b"m\xc3ster")),
    "wrong types": http(b'{"state": 1, "role": ["master"], "timeline": "99", "xlog": 7, '
                        b'"patroni": [], "tags": "x", "database_system_identifier": {}}'),
    "no timeline": http(b'{"state": "running", "role": "master"}'),
    "a timeline below zero": http(BODY.replace(b"99", b"-99")),
    "a timeline too large": http(BODY.replace(b"99", b"99999999999")),
    "a timeline that is no integer": http(BODY.replace(b"99", b"1e300")),
    "a number that overflows": http(BODY.replace(b"99", b"9" * 400)),
    "an unknown role": http(BODY.replace(b"master", b"witch")),
    "status 500": http(BODY, "HTTP/1.0 500 Oops\r\n"),
    "status 100 for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 10000,
    "compressed": http(b"\x1f\x8b\x08\0" + b"\0" * 100, "HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("said", HOSTILE)
def test_a_hostile_answer_is_no_answer(start_router, said):
    """It makes nobody primary, and the node that gives it goes down as if it were silent."""
    with fake_nodes("a", "b", "c") as (a, b, c):
        r = start_router(nodes=setting(a, b, c), cluster=QUICK, listeners={
            "rw": {"queue_timeout": "0"}, "ro": {"role": "replica"}})
        r.log.wait("primary changed", **{"is": "a"})
        since = r.log.mark()
        b.patroni.answers["/primary"] = Answer(raw=HOSTILE[said])
        r.log.wait("node changed", node="b", was="replica")
        assert ask_who(r.at()) == "a"
        assert {ask_who(r.at("ro")) for _ in range(4)} == {"c"}
        assert not r.log.find("primary changed", since=since)

        b.patroni.replica()
        r.log.wait("node changed", node="b", since=since, **{"is": "replica"})
        assert process.wait_until(
            lambda: {ask_who(r.at("ro")) for _ in range(4)} == {"b", "c"}, 5)


class DrippingPatroni(FakePatroni):
    """Says one byte at a time; a request takes longer than anybody waits."""

    is_slow = False

    def _answer(self, connection, path):
        if not self.is_slow:
            super()._answer(connection, path)
            return
        for byte in self.answers[path].encode() + b" " * 10000:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)  # the drip itself


def test_a_slow_drip_fails_after_check_timeout(start_router):
    with fake_nodes("a") as (a,), FakePostgres(name="b") as postgres, DrippingPatroni() as patroni:
        patroni.replica()
        r = start_router(nodes=f"{a}, {postgres.node(rest_port=patroni.port)}",
                         cluster={**QUICK, "check_timeout": "400ms"},
                         listeners={"rw": {}, "ro": {"role": "replica", "queue_timeout": "0"}})
        assert ask_who(r.at("ro")) == "b"
        patroni.is_slow = True
        down = r.log.wait("node changed", node="b", **{"is": "down"})
        assert down["evidence"] == "no answer within 400 ms"
        assert ask_who(r.at()) == "a"
        assert refusal(r.at("ro"))["C"] == "57P03"


@pytest.mark.parametrize("state", ["stopping", "stopped", "starting", "restarting", "crashed"])
def test_a_lock_without_a_running_server_is_no_primary(start_router, state):
    """Patroni answers 200 for a second after its PostgreSQL has gone."""
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"rw": {"queue_timeout": "300ms"}})
        n = len(a.postgres.connections)
        a.patroni.answers["/primary"].body = {**a.patroni.answers["/primary"].body, "state": state}
        r.log.wait("primary changed", was="a", **{"is": "none"})
        assert refusal(r.at())["C"] == "57P03"
        assert len(a.postgres.connections) == n


# Patroni hangs, or is not there


def test_a_hung_patroni_takes_its_node_down(cluster, router):
    r = router(cluster={**QUICK, "fall": "2"},
               listeners={"rw": {"queue_timeout": "300ms"}})
    leader = cluster.leader()
    session = r.connect()
    leader.freeze_patroni()
    r.log.wait("primary changed", seconds=15, was=leader.name, **{"is": "none"})
    assert r.log.wait("session ended")["reason"] == "NODE_DOWN"
    assert refusal(r.at())["M"] == "no primary is available: no node holds Patroni's leader lock"
    leader.thaw_patroni()
    r.log.wait("primary changed", seconds=30, was="none")
    with r.connect() as connection:
        assert connection.execute("select pg_is_in_recovery()").fetchone() == (False,)
    session.close()


def test_check_user_speaks_for_a_hung_patroni(cluster, router):
    r = router(cluster={**QUICK, "check_user": "health", "check_password": cluster.passwords["health"]})
    leader = cluster.leader()
    replica = cluster.replicas()[0]
    since = r.log.mark()
    session = r.connect()
    leader.freeze_patroni()
    replica.freeze_patroni()

    def spoken_for(node):
        return "PostgreSQL" in r.csv()["rw", node.name]["last_chk"]

    assert process.wait_until(lambda: spoken_for(leader) and spoken_for(replica), 15)
    assert session.execute("select 1").fetchone() == (1,)
    assert where(r, "rw", 2) == {leader.address}
    assert replica.address in where(r, "ro", 4)
    assert not r.log.find("node changed", since=since)
    leader.thaw_patroni()
    replica.thaw_patroni()
    session.close()


# check = tcp


def test_check_tcp_takes_who_accepts(start_router):
    with FakePostgres(name="a") as a, FakePostgres(name="b") as b:
        r = start_router(nodes=f"{a.node()}, {b.node()}", cluster={**QUICK, "check": "tcp"},
                         listeners={"any": {"role": "any", "balance": "roundrobin"}})
        assert {ask_who(r.at("any")) for _ in range(4)} == {"a", "b"}
        a.refuse()
        down = r.log.wait("node changed", node="a", **{"is": "down"})
        assert down["was"] == "up"
        assert {ask_who(r.at("any")) for _ in range(4)} == {"b"}
        a.open()
        r.log.wait("node changed", node="a", was="down", **{"is": "up"})
        assert {ask_who(r.at("any")) for _ in range(4)} == {"a", "b"}


def test_one_node_with_check_tcp_serves_every_role(start_router):
    with FakePostgres(name="only") as only:
        r = start_router(nodes=only.node(), cluster={**QUICK, "check": "tcp"}, listeners=EVERY_ROLE)
        assert {ask_who(r.at(role)) for role in EVERY_ROLE} == {"only"}
