"""The statistics page and its CSV: each number is compared with a count taken elsewhere."""

import concurrent.futures
import csv
import html.parser
import http.client
import io
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from cluster import process
from harness import wire
from harness.background import Background
from harness.fake_node import ask_who, fake_nodes, refusal, setting, who
from harness.fake_patroni import Answer
from harness.fake_postgres import FakePostgres, close_at_once, refuse_login
from harness.ports import free_port
from harness.wire import Client

QUICK = {"check_interval": "300ms", "check_fast_interval": "50ms", "check_timeout": "1s"}
TCP = {**QUICK, "check": "tcp"}
COLUMNS = """
    pxname svname qcur qmax scur smax slim stot bin bout dreq dresp ereq econ eresp wretr wredis status
    weight act bck chkfail chkdown lastchg downtime qlimit pid iid sid throttle lbtot tracked type rate
    rate_lim rate_max check_status check_code check_duration hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx
    hrsp_other hanafail req_rate req_rate_max req_tot cli_abrt srv_abrt comp_in comp_out comp_byp comp_rsp
    lastsess last_chk last_agt qtime ctime rtime ttime agent_status agent_code agent_duration check_desc
    agent_desc check_rise check_fall check_health agent_rise agent_fall agent_health addr cookie mode algo
    conn_rate conn_rate_max conn_tot intercepted dcon dses wrew connect reuse cache_lookups cache_hits
    srv_icur src_ilim qtime_max ctime_max rtime_max ttime_max eint idle_conn_cur safe_conn_cur
    used_conn_cur need_conn_est uweight agg_server_status agg_server_check_status agg_check_status srid
    sess_other h1sess h2sess h3sess req_other h1req h2req h3req proto priv_idle_cur reqbin reqbout resbin
    resbout cache_hint_hits""".split()


class Unix(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(at, path, method="GET", body=None, timeout=10):
    """Status, headers and body."""
    connection = Unix(at) if isinstance(at, str) else http.client.HTTPConnection(*at, timeout=timeout)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def table(router, at=None):
    """{(pxname, svname): {column: text}}"""
    text = ask(at or router.at("stats"), "/stats;csv")[2]
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0][0].startswith("# ")
    rows[0][0] = rows[0][0][2:]
    assert all(len(row) == len(rows[0]) for row in rows), rows
    return {(row[0], row[1]): dict(zip(rows[0], row)) for row in rows[1:]}


def numbers(router, listener, server, *columns):
    """These columns of one row."""
    row = table(router)[listener, server]
    return tuple(int(row[column]) for column in columns)


def becomes(router, listener, server, seconds=10, **wanted):
    """Waits until the columns say so."""
    def as_wanted():
        row = table(router)[listener, server]
        return {column: row[column] for column in wanted} == {k: str(v) for k, v in wanted.items()}

    assert process.wait_until(as_wanted, seconds), (wanted, table(router)[listener, server])


def session(router, listener="rw"):
    client = Client(router.at(listener))
    client.log_in()
    return client


def waiting(router, listener="rw"):
    client = Client(router.at(listener), timeout=20)
    client.send(wire.startup(user="app", database="app"))
    return client


# Paths


def test_every_address_serves_every_path(start_router, tmp_path):
    with FakePostgres(name="a") as a:
        path = os.path.join(tmp_path, "stats")
        v6 = free_port("::1")
        r = start_router(nodes=a.node(), cluster=TCP, stats={
            "bind": f"127.0.0.1:{free_port()}, [::1]:{v6}, {path}", "uri": "/mine"})
        for at in (r.at("stats"), ("::1", v6), path):
            for page in ("/", "/stats", "/haproxy?stats", "/mine", "/stats?refresh=1", "/mine;norefresh"):
                status, headers, body = ask(at, page)
                assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8"), page
                assert body.startswith("<!doctype html>") and body.rstrip().endswith("</html>")
            for page in ("/;csv", "/stats;csv", "/haproxy?stats;csv", "/mine;csv", "/stats;csv;norefresh"):
                status, headers, body = ask(at, page)
                assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8"), page
                assert body.startswith("# pxname,svname,")
            assert ask(at, "/healthz")[0] == ask(at, "/readyz")[0] == 200


@pytest.mark.parametrize("page", [
    "/nothing", "/stats/", "/statsx", "/haproxy", "/mine", "//", "/healthz/x", "/..", "/%73tats",
    "/stats%3bcsv"])
def test_what_is_not_there_is_404(start_router, page):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP)
        assert ask(r.at("stats"), page)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
def test_other_methods_are_405(start_router, method):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP)
        forbidden = 403 if method == "POST" else 405  # by which one acts, who may
        for page, status in (("/stats", forbidden), ("/healthz", 405), ("/nothing", 405)):
            assert ask(r.at("stats"), page, method)[0] == status
        assert ask(r.at("stats"), "/stats", method, body="x" * 100000)[0] == forbidden


@pytest.mark.parametrize("page", ["/stats", "/stats;csv", "/healthz", "/readyz", "/nothing"])
def test_head_is_get_without_a_body(start_router, page):
    with FakePostgres(name="a") as a:
        r = start_router(nodes=a.node(), cluster=TCP)
        got = ask(r.at("stats"), page)
        status, headers, body = ask(r.at("stats"), page, "HEAD")
        assert (status, body) == (got[0], "")
        assert headers["Content-Type"] == got[1]["Content-Type"]
        assert int(headers["Content-Length"]) > 0


def test_the_page_asks_for_a_password(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK, stats={"auth": "admin:s3cret"})
        status, headers, _ = r.get("/stats")
        assert status == 401 and headers["WWW-Authenticate"].startswith('Basic realm="pgrouter"')
        for wrong in ("admin:", "admin:s3cre", "admin:s3cret ", ":s3cret", "admin", "Admin:s3cret", "x" * 5000):
            assert r.get("/stats;csv", user=wrong)[0] == 401
        assert r.get("/stats;csv", user="admin:s3cret")[0] == r.get("/", user="admin:s3cret")[0] == 200
        assert r.get("/healthz")[0] == r.get("/readyz")[0] == 200
        r.sections["stats"]["auth"] = "other:pass:word"
        r.reload()
        assert r.get("/stats", user="admin:s3cret")[0] == 401
        assert r.get("/stats", user="other:pass:word")[0] == 200


def test_readyz_waits_for_the_first_checks(start_router):
    with fake_nodes("a", "b") as (a, b):
        b.patroni.silent = True
        r = start_router(nodes=setting(a, b), cluster={**QUICK, "check_timeout": "2s"}, wait=False)
        r.log.wait("node changed", node="a", **{"is": "primary"})
        assert (r.get("/readyz")[0], r.get("/healthz")[0]) == (503, 200)
        assert table(r)["rw", "b"]["check_status"] == "INI"
        r.wait_until_ready()  # "b" was asked, and has not answered
        assert table(r)["rw", "b"]["check_status"] == "L7TOUT"
        a.refuse()
        r.log.wait("primary changed", was="a", **{"is": "none"})
        assert r.get("/readyz")[0] == 200  # it waits for a primary: that is its work


def test_without_the_section_there_is_no_page(start_router):
    with FakePostgres(name="a") as a:
        at = ("127.0.0.1", free_port())
        r = start_router(sections={"cluster main": {**TCP, "nodes": a.node()},
                                   "listener rw": {"bind": f"{at[0]}:{at[1]}"}}, wait=False)
        r.log.wait("node changed", node="a", **{"is": "up"})
        assert ask_who(at) == "a"
        assert sum(1 for line in open(f"/proc/{r.process.pid}/net/tcp", encoding="ascii")
                   if f":{at[1]:04X} " in line.split(" rem")[0] and " 0A " in line) == 1


# Columns


def test_the_columns_are_haproxys(start_router):
    with fake_nodes("a", "b") as nodes:
        r = start_router(nodes=setting(*nodes), cluster=QUICK, listeners={
            "rw": {}, "ro": {"role": "replica", "balance": "roundrobin"}})
        lines = ask(r.at("stats"), "/stats;csv")[2].splitlines()
        assert lines[0] == "# " + ",".join(COLUMNS) + ","
        assert list(table(r)) == [(listener, row) for listener in ("rw", "ro")
                                  for row in ("FRONTEND", "a", "b", "BACKEND")]
        rows = table(r)
        assert [rows["rw", name]["type"] for name in ("FRONTEND", "BACKEND", "a")] == ["0", "1", "2"]
        assert {(row["iid"], row["sid"]) for row in rows.values()} == {
            ("1", "0"), ("1", "1"), ("1", "2"), ("2", "0"), ("2", "1"), ("2", "2")}
        assert {row["mode"] for row in rows.values()} == {"tcp"}
        assert {row["pid"] for row in rows.values()} == {"1"}
        assert (rows["rw", "BACKEND"]["algo"], rows["ro", "BACKEND"]["algo"]) == ("leastconn", "roundrobin")
        assert rows["ro", "b"]["addr"] == f"127.0.0.1:{nodes[1].postgres.port}"


def test_sessions_are_counted(start_router):
    with fake_nodes("a", "b", "c") as (a, b, c):
        r = start_router(nodes=setting(a, b, c), cluster=QUICK, listeners={
            "rw": {}, "any": {"role": "any", "balance": "roundrobin"}, "other": {"role": "any"}})
        clients = [session(r, "any") for _ in range(9)]
        on_a = [client for client in clients if who(client) == "a"]
        others = [session(r, "rw") for _ in range(2)]
        for name in "abc":
            assert numbers(r, "any", name, "scur", "smax", "stot", "lbtot") == (3, 3, 3, 3)
        assert numbers(r, "rw", "a", "scur", "smax", "stot") == (2, 2, 2)
        assert numbers(r, "any", "BACKEND", "scur", "smax", "stot") == (9, 9, 9)
        assert numbers(r, "any", "FRONTEND", "scur", "smax", "stot", "conn_tot") == (9, 9, 9, 9)

        for client in on_a:
            client.close()
        becomes(r, "any", "a", scur=0, smax=3, stot=3)
        becomes(r, "any", "FRONTEND", scur=6, smax=9, stot=9)
        clients += [session(r, "any") for _ in range(2)]
        assert numbers(r, "any", "BACKEND", "scur", "smax", "stot") == (8, 9, 11)
        assert sum(len(node.postgres.connections) for node in (a, b, c)) == 11 + 2
        assert numbers(r, "other", "BACKEND", "scur", "smax", "stot") == (0, 0, 0)
        assert len(r.log.find("session began", listener="any")) == 11
        for client in clients + others:
            client.close()


def test_bytes_are_counted(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        sent = received = 0
        clients = [Client(r.at()) for _ in range(3)]
        for n, client in enumerate(clients):
            packets = [wire.ssl_request(), wire.startup(user="app", database="app"),
                       wire.query("select " + "x" * 10000 * n)]
            for packet in packets:
                client.send(packet)
                sent += len(packet)
                if packet is packets[0]:
                    assert client.receive(1) == b"N"
                    received += 1
                else:
                    received += sum(5 + len(body) for _, body in client.messages_until("Z"))
        for row in ("a", "BACKEND", "FRONTEND"):
            becomes(r, "rw", row, bin=sent, bout=received)  # while the sessions are open
        for client in clients:
            client.close()
        becomes(r, "rw", "FRONTEND", scur=0)
        for row in ("a", "BACKEND", "FRONTEND"):
            assert numbers(r, "rw", row, "bin", "bout") == (sent, received)
        assert process.wait_until(lambda: len(r.log.find("session ended")) == 3, 5)
        assert sum(event["bytes_in"] for event in r.log.find("session ended")) == sent


def test_failed_connections_are_counted(start_router):
    with fake_nodes("a", "b") as (a, b):
        b.postgres.script = close_at_once
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"ro": {"role": "replica", "queue_timeout": "700ms"}})
        assert refusal(r.at("ro"))["C"] == "57P03"
        n = len(b.postgres.connections)
        assert n >= 2
        assert numbers(r, "ro", "b", "econ", "wretr") == (n, n)
        assert numbers(r, "ro", "BACKEND", "econ", "wretr") == (n, n)
        assert numbers(r, "ro", "FRONTEND", "dreq", "stot") == (1, 1)


def test_refused_connects_are_counted(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster=QUICK, listeners={"rw": {"queue_timeout": "500ms"}})
        a.postgres.refuse()
        for n in range(1, 4):
            before, = numbers(r, "rw", "a", "econ")
            assert refusal(r.at())["C"] == "57P03"
            assert numbers(r, "rw", "a", "econ")[0] > before
            assert numbers(r, "rw", "FRONTEND", "dreq") == (n,)
        assert numbers(r, "rw", "a", "stot", "bin") == (0, 0)


def test_refused_logins_are_counted(start_router):
    with fake_nodes("a") as (a,):
        a.postgres.script = refuse_login("28P01", "password authentication failed")
        r = start_router(nodes=setting(a), cluster=QUICK)
        for _ in range(3):
            assert refusal(r.at())["C"] == "28P01"
        becomes(r, "rw", "a", eresp=3, econ=0, scur=0)
        becomes(r, "rw", "BACKEND", eresp=3)


def test_waiting_clients_are_counted(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK,
                         listeners={"rw": {"maxconn": "2", "queue_timeout": "30s"}})
        clients = [session(r) for _ in range(2)]
        clients += [waiting(r) for _ in range(5)]
        becomes(r, "rw", "BACKEND", qcur=5, qmax=5)
        assert numbers(r, "rw", "FRONTEND", "scur", "slim") == (7, 2)
        assert table(r)["rw", "FRONTEND"]["status"] == "FULL"
        for client in clients[:5]:
            client.close()
        becomes(r, "rw", "BACKEND", qcur=0, qmax=5)
        for client in clients[5:]:
            client.messages_until("Z")
            client.close()
        becomes(r, "rw", "FRONTEND", status="OPEN", scur=0, smax=7)
        r.sections["listener rw"]["maxconn"] = "0"
        r.reload()
        assert numbers(r, "rw", "FRONTEND", "slim") == (1000,)  # max_client_conn


def reset_when_asked(connection):
    connection.packet()
    connection.send(connection.server.login_answer())
    connection.message()
    connection.reset()


def test_aborts_and_bad_requests_are_counted(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        for _ in range(3):
            session(r).reset()
        becomes(r, "rw", "a", cli_abrt=3, srv_abrt=0, scur=0)
        a.postgres.script = reset_when_asked
        for _ in range(2):
            with pytest.raises((ConnectionResetError, EOFError)):
                who(session(r))
        becomes(r, "rw", "BACKEND", cli_abrt=3, srv_abrt=2)
        for _ in range(4):
            with Client(r.at()) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.at_end()
        becomes(r, "rw", "FRONTEND", ereq=4)
        session(r).close()
        becomes(r, "rw", "BACKEND", cli_abrt=3, srv_abrt=2, stot=6)


def test_rates_are_counted(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        began, seen = time.monotonic(), set()
        for _ in range(40):
            ask_who(r.at())
        took = time.monotonic() - began

        def calmed_down():
            rate, rate_max = numbers(r, "rw", "FRONTEND", "rate", "rate_max")
            seen.add(rate)
            return rate == 0

        assert process.wait_until(calmed_down, 10)
        rate_max, conn_rate_max = numbers(r, "rw", "FRONTEND", "rate_max", "conn_rate_max")
        assert 40 / (took + 2) <= rate_max <= 40
        assert conn_rate_max == rate_max >= max(seen)


def test_times_of_sessions_are_shown(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        assert table(r)["rw", "a"]["lastsess"] == "-1"
        ask_who(r.at())
        assert process.wait_until(lambda: numbers(r, "rw", "a", "lastsess") == (1,), 5)
        ctime, most = numbers(r, "rw", "a", "ctime", "ctime_max")
        assert ctime <= most < 5000
        ask_who(r.at())
        assert numbers(r, "rw", "a", "lastsess")[0] <= 1


class Script:
    """In place of FakePatroni.answers: counts what it gave."""

    def __init__(self, good):
        self.good, self.bad, self.n_bad, self.n = good, None, 0, 0

    def get(self, _path, _otherwise):
        self.n += 1
        self.n_bad += self.bad is not None
        return self.bad or self.good


def test_checks_are_counted(start_router):
    with fake_nodes("a", "b") as (a, b):
        r = start_router(nodes=setting(a, b), cluster={**QUICK, "rise": "2", "fall": "3"})
        a.patroni.answers = script = Script(a.patroni.answers["/primary"])
        row = table(r)["rw", "a"]
        assert [row[c] for c in ("status", "chkfail", "chkdown", "check_status", "check_code", "check_rise",
                                 "check_fall", "act", "downtime")] == \
            ["UP", "0", "0", "L7OK", "200", "2", "3", "1", "0"]
        assert row["last_chk"] == row["check_desc"] == "200 running master timeline 1"

        for n in range(1, 3):
            script.bad = Answer(500, "")
            becomes(r, "rw", "a", status="DOWN", chkdown=n, check_status="L7STS", check_code=500, act=0)
            assert numbers(r, "rw", "a", "check_health")[0] == 3
            script.bad = None
            n_given = script.n
            assert process.wait_until(lambda: script.n > n_given + 1, 5)
            becomes(r, "rw", "a", status="UP", chkdown=n, chkfail=script.n_bad)
            assert table(r)["rw", "BACKEND"]["status"] == "UP"

        began = time.monotonic()
        a.refuse()
        becomes(r, "rw", "a", status="DOWN", check_status="L4CON")
        assert table(r)["rw", "BACKEND"]["status"] == "DOWN"
        assert process.wait_until(lambda: numbers(r, "rw", "a", "downtime")[0] >= 1, 10)
        assert numbers(r, "rw", "a", "lastchg")[0] <= time.monotonic() - began + 1
        assert numbers(r, "rw", "a", "downtime")[0] <= time.monotonic() - began + 3


def test_statuses_and_reasons_of_checks(start_router):
    with fake_nodes("a", "b", "c") as (a, b, c):
        r = start_router(nodes=setting(a, b, c),
                         cluster={**QUICK, "check_timeout": "300ms", "drain": "c"},
                         listeners={"rw": {}, "ro": {"role": "replica"}})
        rows = table(r)
        assert {name: rows["rw", name]["status"] for name in "abc"} == {"a": "UP", "b": "DOWN", "c": "DRAIN"}
        assert {name: rows["ro", name]["status"] for name in "abc"} == {"a": "DOWN", "b": "UP", "c": "DRAIN"}
        b.patroni.silent = True
        becomes(r, "ro", "b", status="DOWN", check_status="L7TOUT")
        assert numbers(r, "ro", "b", "check_duration")[0] >= 290
        becomes(r, "ro", "BACKEND", status="DOWN", act=0, weight=0)
        assert table(r)["rw", "BACKEND"]["status"] == "UP"


def test_counters_outlive_a_reload(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        for _ in range(3):
            ask_who(r.at())
        becomes(r, "rw", "a", stot=3)
        r.reload()
        assert numbers(r, "rw", "a", "stot", "chkdown") == (3, 0)
        assert numbers(r, "rw", "FRONTEND", "stot") == (3,)
        ask_who(r.at())
        becomes(r, "rw", "a", stot=4)


# The page


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += " " + data


def test_the_page_shows_the_nodes(start_router):
    with fake_nodes("a-node", "b-node") as nodes:
        r = start_router(nodes=setting(*nodes), cluster=QUICK, listeners={
            "rw": {}, "read.only": {"role": "replica"}})
        client = session(r)
        page = Page(ask(r.at("stats"), "/")[2])
        assert re.search(r"a-node\s+primary,\s+up\s+Address\s+127\.0\.0\.1:\d+\s.*"
                         r"200 running master timeline 1", page.text)
        assert re.search(r"b-node\s+replica,\s+up\s+Address\s+127\.0\.0\.1:\d+\s", page.text)
        for word in ("rw", "read.only", "main", f"127.0.0.1:{r.port('rw')}", "worker-0", "control"):
            assert word in page.text
        nodes[0].refuse()
        becomes(r, "rw", "a-node", status="DOWN")
        page = Page(ask(r.at("stats"), "/")[2])
        assert "Connection refused" in page.text and "no node holds Patroni" in page.text
        client.close()


def test_the_page_loads_nothing_from_elsewhere(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        status, headers, body = ask(r.at("stats"), "/")
        page = Page(body)
        assert not {tag for tag, _ in page.tags} & {"style", "img", "iframe", "object", "embed", "base"}
        for tag, attributes in page.tags:
            for name, text in attributes.items():
                assert name not in ("srcset", "data", "action", "style") and not name.startswith("on")
                assert "//" not in (text or ""), (tag, name, text)
                if name in ("src", "href") and not text.startswith("#"):
                    assert ask(r.at("stats"), text)[0] == 200
        style = ask(r.at("stats"), "/dashboard.css")[2]
        assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style
        assert "//" not in ask(r.at("stats"), "/dashboard.js")[2]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-cache"


EVIL = '<script>alert("x")</script>&amp;\',"\n\r\t=cmd|;\x7f'


def test_what_peers_say_is_escaped(start_router):
    with fake_nodes("a", "b") as (a, b):
        b.patroni.answers["/primary"] = Answer(503, {"state": EVIL, "role": "<b>replica</b>", "timeline": 1})
        r = start_router(nodes=setting(a, b), cluster=QUICK,
                         listeners={"rw": {}, "uri": {"check_uri": "/<i>x&y</i>\"'"}})
        r.log.wait("node changed", node="b")
        body = ask(r.at("stats"), "/")[2]
        tags = [tag for tag, _ in Page(body).tags]
        assert tags.count("script") == body.count("<script src=/dashboard.js defer></script>") == 1
        assert "i" not in tags
        assert "<b>replica" not in body and "<i>x" not in body
        assert "&lt;script&gt;" in body
        rows = table(r)  # all rows have all columns
        assert rows["rw", "b"]["last_chk"].startswith("503 <script>")
        assert len(ask(r.at("stats"), "/stats;csv")[2].splitlines()) == 1 + 2 * 4
        assert not any("\n" in event.line or "\r" in event.line for event in r.log.all)


# HAProxy's JSON


def test_the_json_says_what_the_csv_says(start_router):
    with fake_nodes("a", "b") as nodes:
        r = start_router(nodes=setting(*nodes), cluster=QUICK, listeners={"rw": {}, "ro": {"role": "replica"}})
        client = session(r)
        becomes(r, "rw", "a", status="UP")
        becomes(r, "ro", "b", status="UP")
        moves = {"lastchg", "lastsess", "check_duration", "rate", "conn_rate", "downtime"}
        for path in ("/;json", "/stats;json", "/haproxy?stats;json;norefresh"):
            status, headers, body = ask(r.at("stats"), path)
            assert (status, headers["Content-Type"]) == (200, "application/json")
            rows, wanted = json.loads(body), table(r)
            assert len(rows) == len(wanted) == 2 * 4
            for row in rows:
                found = {field["field"]["name"]: field["value"]["value"] for field in row}
                cells = wanted[found["pxname"], found["svname"]]
                assert {name: str(value) for name, value in found.items() if name not in moves} == {
                    name: text for name, text in cells.items() if text and name not in moves}
                assert {field["objType"] for field in row} == {
                    {"FRONTEND": "Frontend", "BACKEND": "Backend"}.get(found["svname"], "Server")}
                assert {(field["proxyId"], field["id"]) for field in row} == {(found["iid"], found["sid"])}
                assert all(COLUMNS[field["field"]["pos"]] == field["field"]["name"] for field in row)
        scur = next(field for field in rows[0] if field["field"]["name"] == "scur")
        assert scur["tags"] == {"origin": "Metric", "nature": "Gauge", "scope": "Process"}
        assert scur["value"] == {"type": "u32", "value": 1}
        client.close()


# Guests that misbehave


def test_idle_http_connections_delay_nobody(start_router):
    """300 are more than the page takes at a time, and one of its readers is slow."""
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        idle = [socket.create_connection(r.at("stats")) for _ in range(300)]
        for n, one in enumerate(idle):
            one.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\nX-Slow: "[:n % 40])
        over = threading.Event()

        def drip():
            while not over.wait(0.01):
                for one in idle[-40:]:
                    one.sendall(b"y")

        thread = threading.Thread(target=drip)
        thread.start()
        times = []
        for _ in range(30):
            began = time.monotonic()
            assert ask_who(r.at()) == "a"
            times.append(time.monotonic() - began)
        over.set()
        thread.join()
        assert max(times) < 3 and sorted(times)[15] < 0.5, times
        for one in idle:
            one.close()
        assert process.wait_until(r.is_ready, 20)
        assert numbers(r, "rw", "FRONTEND", "stot") == (30,)


def test_a_silent_http_client_is_sent_away(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        with Client(r.at("stats"), timeout=30) as client:
            client.send(b"GET /st")
            assert client.at_end()


def test_who_does_not_read_the_page_delays_nobody(start_router):
    with fake_nodes("a") as (a,):
        names = [f"n{n}" for n in range(60)]
        nodes = ", ".join(f"{name}=127.0.0.1:{a.postgres.port}:{a.patroni.port}" for name in names)
        r = start_router(nodes=nodes, cluster={**QUICK, "check_interval": "2s", "check_fast_interval": "2s"},
                         listeners={f"l{n}": {"role": "any"} for n in range(6)}, wait=False)
        r.wait_until_ready(30)
        deaf = []
        for _ in range(60):
            client = Client(r.at("stats"), receive_buffer=4096)
            client.send(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
            deaf.append(client)
        for _ in range(20):
            assert ask_who(r.at("l0")) == "a"
        rows = table(r)
        assert len(rows) == 6 * 62
        assert sum(int(rows["l0", name]["stot"]) for name in names) == 20
        for client in deaf:
            client.close()


def test_many_requests_at_once(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda n: ask(r.at("stats"), "/stats;csv" if n % 2 else "/", timeout=30),
                                    range(300)))
        assert {answer[0] for answer in answers} == {200}


@pytest.mark.parametrize("request_", [
    b"\0" * 1000, b"GET\r\n\r\n", b"GET /stats HTTP/9.9\r\n\r\n", b"GET /stats\r\n\r\n",
    b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 100000,
    b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50, wire.startup(user="app"), b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4"],
                         ids=lambda request: ascii(request[:24]))
def test_garbage_on_the_stats_port(start_router, request_):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        for end in ("close", "reset", "finish"):
            with Client(r.at("stats")) as client:
                try:
                    client.send(request_)
                    getattr(client, end)()
                except OSError:  # we have been cut off
                    pass
        assert r.get("/healthz")[0] == 200
        assert ask_who(r.at()) == "a"


def test_requests_while_it_reloads_and_ends(start_router):
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        with Background(lambda: ask(r.at("stats"), "/stats;csv")[0], n_threads=4) as asking:
            for n in range(10):
                r.sections["stats"]["uri"] = f"/{n}"
                r.reload()
                asking.wait_for(4)
            assert not asking.errors and set(asking.results) == {200}
            client = session(r)
            r.signal(signal.SIGTERM)
            asking.wait_for(4)
            client.close()
            assert process.wait_until(lambda: not r.is_alive(), 10)
