"""The page as people see it: in a browser, by its stream, and by its words."""

import contextlib
import http.client
import os
import re
import socket
import ssl
import time

import pytest

from cluster import process
from cluster.certificates import Authority
from harness import wire
from harness.background import Background
from harness.chromium import CONTRASTS, FAULTS, Chromium
from harness.pools import Later, join
from harness.ports import free_port

QUICK = {"check_interval": "300ms", "check_fast_interval": "50ms"}
SCREENSHOTS = os.environ.get("PGROUTER_SCREENSHOTS")


@pytest.fixture
def shown(cluster, pool):
    """Starts a router with a pool, listeners without one, and the page."""
    def start(stats=None, wait=True, **main):
        r = pool(main={"pool_mode": "transaction", "default_pool_size": 4, **main}, check=QUICK, more={
            "listener rw": {"bind": f"127.0.0.1:{free_port()}", "mode": "tcp", "role": "primary", "cluster": "main"},
            "stats": {"bind": f"127.0.0.1:{free_port()}", **(stats or {})}}, wait=wait)
        r.page = "http://%s:%s/" % r.at("stats")
        return r

    return start


def section(router, name):
    """A section's text, without its markup."""
    found = re.search(rf"<section id={name}>(.*?)</section>", router.get("/")[2], re.S)
    return re.sub(r"<[^>]*>", " ", found[1])


@contextlib.contextmanager
def traffic(router):
    """Clients of the pool that work all the time."""
    def work():
        with join(router) as client:
            for _ in range(50):
                client.execute("select pg_sleep(0.002)")

    with Background(work, n_threads=6) as working:
        working.wait_for(6)
        yield working


class Stream:
    """What a page is sent while it is looked at."""

    def __init__(self, router):
        self.connection = http.client.HTTPConnection(*router.at("stats"), timeout=20)
        self.connection.request("GET", "/live")
        self.answer = self.connection.getresponse()
        self.status = self.answer.status

    def event(self):
        """(section, html) of the next one."""
        lines = []
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if line == "" and lines:
                break
            if line.startswith("data: "):
                lines.append(line[len("data: "):])
        return lines[0], "\n".join(lines[1:])

    def wait_for(self, name, text, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found, html = self.event()
            if found == name and text in html:
                return html
        raise TimeoutError(f"no {text!r} in {name}")

    def close(self):
        self.connection.close()
        self.answer.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# In a browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_the_page_in_a_browser(cluster, shown, tmp_path, width, dark):
    r = shown()
    with traffic(r), Chromium(tmp_path, width=width, dark=dark) as browser:
        browser.get(r.page)
        assert process.wait_until(lambda: browser.text("live") == "Live", 30)
        assert cluster.leader().name in browser.text("clusters")
        assert "app app" in browser.text("pools")
        assert browser.do(FAULTS) == []
        assert {pair: ratio for pair, ratio in browser.do(CONTRASTS).items() if ratio < 4.5} == {}
        assert browser.do("return document.documentElement.scrollWidth") <= width
        assert browser.complaints() == []
        path = os.path.join(SCREENSHOTS or tmp_path, f"{width}-{'dark' if dark else 'light'}.png")
        browser.screenshot(path)
        assert os.path.getsize(path) > 10000


def test_the_page_follows_a_switchover(cluster, shown, tmp_path):
    """Without being loaded again; where the reader is stays as it was."""
    r = shown()
    old = cluster.leader().name
    with traffic(r), Chromium(tmp_path, width=820) as browser:
        browser.get(r.page)
        assert process.wait_until(lambda: f"The primary is {old}" in browser.text("clusters"), 30)
        browser.do("window.isTheSame = true; document.querySelector('#switchovers').scrollIntoView();"
                   "document.querySelector('#events .wide').focus()")
        new = cluster.switchover().name
        assert process.wait_until(lambda: f"The primary is {new}" in browser.text("clusters"), 30)
        assert process.wait_until(lambda: f"{old} → {new}" in browser.text("switchovers"), 30)
        assert process.wait_until(lambda: "primary changed" in browser.text("events"), 30)
        assert browser.do("return window.isTheSame")
        assert browser.do("return document.activeElement.getAttribute('aria-label')") == "Events"
        assert browser.complaints() == []


def test_the_page_tells_when_it_is_not_live(shown, tmp_path):
    r = shown()
    with Chromium(tmp_path) as browser:
        browser.get(r.page)
        assert process.wait_until(lambda: browser.text("live") == "Live", 30)
        r.stop()
        assert process.wait_until(lambda: browser.text("live").startswith("Not live"), 30)


def test_the_page_without_javascript(cluster, shown, tmp_path):
    r = shown(stats={"refresh": "1s"})
    with Chromium(tmp_path, javascript=False) as browser:
        browser.get(r.page)
        old = cluster.leader().name
        assert f"The primary is {old}" in browser.text("clusters")
        for name in ("summary", "pools", "traffic", "switchovers", "events", "proxies", "threads"):
            assert browser.text(name)
        new = cluster.switchover().name
        assert process.wait_until(lambda: f"The primary is {new}" in browser.text("clusters"), 30)


# Its words


def test_refresh(shown):
    r = shown(stats={"refresh": "7s"})
    assert "<meta http-equiv=refresh content=7>" in r.get("/")[2]
    r.sections["stats"]["refresh"] = 0
    r.reload()
    assert "http-equiv" not in r.get("/")[2] and "<script" not in r.get("/")[2]


def test_hide_version(shown, program):
    version = os.popen(f"{program} --version").read().split()[-1]
    r = shown()
    assert version in r.get("/")[2]
    r.sections["stats"]["hide_version"] = 1
    r.reload()
    assert version not in r.get("/")[2]


def test_a_pool_and_its_bar(cluster, shown):
    r = shown(default_pool_size=2)
    with join(r) as first, join(r) as second, join(r) as third:
        for client in (first, second):
            client.execute("begin")
        waiting = Later(lambda: third.execute("select 1"))
        assert process.wait_until(lambda: "2 in use, 2 open, of 2" in section(r, "pools"), 10)
        page = r.get("/")[2]
        assert re.search(r'<rect class=idle width=100\.0 .*<rect class=used width=100\.0 ', page)
        assert re.search(r"class=\"n warn\">1</td>", page)
        first.execute("commit")
        waiting.result()
        assert process.wait_until(lambda: "1 in use, 2 open, of 2" in section(r, "pools"), 10)
        assert re.search(r'<rect class=idle width=100\.0 .*<rect class=used width=50\.0 ', r.get("/")[2])


def test_the_charts_follow_the_traffic(shown):
    r = shown()

    def now(what):
        row = re.search(rf"<th scope=row>{what}</th><td class=n>(.*?)</td>", r.get("/")[2])[1]
        return float(row.removesuffix("/s")) if row != "-" else 0

    with traffic(r):
        assert process.wait_until(lambda: now("Queries") > 1 and now("Clients") >= 6, 60)
        path = re.search(r"<th scope=row>Queries</th>.*?<path d=\"([^\"]*)\"", r.get("/")[2])[1]
        assert path.startswith("M")
    assert process.wait_until(lambda: now("Clients") == 0, 60)


def test_events_name_what_has_happened(shown):
    r = shown()
    assert "primary changed cluster=main" in section(r, "events")
    r.reload()
    assert "configuration" in section(r, "events")


def test_what_others_have_named_is_no_markup(cluster, pool):
    name = "<b>&\"'"
    leader = cluster.leader()
    r = pool(main={"auth_type": "trust"}, databases={"*": "cluster=main"})
    leader.sql("""create database "<b>&""'" owner app""")
    try:
        with wire.Client(r.at("pool")) as client:
            client.log_in(user="app", database=name)
            page = r.get("/")[2]
            assert name not in page and "&lt;b&gt;&amp;&quot;&#39;" in page
        r.stop()
    finally:
        leader.sql("""drop database "<b>&""'" with (force)""")


# By HTTPS


def over_tls(router, certificate, path="/", **more):
    """Status and body; the certificate is proven."""
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection("localhost", router.at("stats")[1], timeout=20, context=context, **more)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def secured(shown, tmp_path):
    def start(**stats):
        authority = Authority(tmp_path)
        key, certificate = authority.issue("router", ["localhost", "127.0.0.1"])
        r = shown(stats={"tls": 1, **stats}, client_tls_sslmode="allow", client_tls_key_file=key,
                  client_tls_cert_file=certificate, wait=False)
        r.ca, r.authority = authority.certificate, authority

        def is_ready():
            with contextlib.suppress(OSError):
                return over_tls(r, r.ca, "/readyz")[0] == 200

        assert process.wait_until(is_ready, 20)
        return r

    return start


def test_https(secured):
    r = secured()
    for path in ("/", "/stats;csv", "/dashboard.css"):
        status, body = over_tls(r, r.ca, path)
        assert status == 200 and len(body) > 1000
    with pytest.raises((OSError, http.client.HTTPException)):  # in clear
        r.get("/")
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(r, None)


def test_https_takes_what_is_long_and_what_breaks_off(secured):
    r = secured()
    at = r.at("stats")
    silent = [socket.create_connection(at) for _ in range(40)]
    half = [socket.create_connection(at) for _ in range(40)]
    for one in half:
        one.send(b"\x16\x03\x01\x02\x00\x01")
    context = ssl.create_default_context(cafile=r.ca)
    done = [context.wrap_socket(socket.create_connection(at), server_hostname="localhost") for _ in range(20)]
    for one in done[:10]:
        one.send(b"GET / HT")
    assert over_tls(r, r.ca)[0] == 200
    for one in silent + half + done:
        one.close()
    for _ in range(300):
        assert over_tls(r, r.ca, "/healthz") == (200, "alive\n")


def test_the_stream_by_https(cluster, secured):
    r = secured()
    context = ssl.create_default_context(cafile=r.ca)
    with context.wrap_socket(socket.create_connection(r.at("stats")), server_hostname="localhost") as one:
        one.settimeout(20)
        one.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = b""
        while b"data: threads" not in seen:
            seen += one.recv(65536)
        assert cluster.leader().name.encode() in seen


def test_a_certificate_that_was_renewed(secured):
    r = secured()
    first = ssl.get_server_certificate(r.at("stats"))
    r.authority.issue("router", ["localhost", "127.0.0.1"])
    r.log.wait("certificates read again", seconds=20)
    assert ssl.get_server_certificate(r.at("stats")) != first


# Its stream


def test_the_stream_sends_what_changes(cluster, shown):
    r = shown()
    with Stream(r) as stream:
        first = dict(stream.event() for _ in range(8))
        assert list(first) == ["summary", "clusters", "pools", "traffic", "switchovers", "events", "proxies",
                               "threads"]
        old = cluster.leader().name
        assert f"<b>{old}</b>" in first["clusters"]
        with join(r) as client:
            client.execute("select 1")
            stream.wait_for("pools", "1 open")
        cluster.leader().freeze()
        stream.wait_for("clusters", "<b class=bad>down</b>")


def test_who_looks_on_needs_the_password(shown):
    r = shown(stats={"auth": "me:secret"})
    assert r.get("/live")[0] == 401
    for path in ("/dashboard.css", "/dashboard.js", "/favicon.svg"):
        assert r.get(path)[0] == 200
    assert r.get("/", user="me:secret")[0] == 200


def test_a_secret_of_postgresqls_in_place_of_the_password(cluster, shown):
    secret = cluster.leader().sql("select rolpassword from pg_authid where rolname = 'app'")
    password = cluster.passwords["app"]
    assert secret.startswith("SCRAM-SHA-256$")
    r = shown(stats={"auth": f"me:{secret}"})
    assert r.get("/", user=f"me:{password}")[0] == 200
    assert r.get("/", user=f"me:{secret}")[0] == 401
    statuses = [r.get("/", user=f"me:{i}")[0] for i in range(100)]
    assert set(statuses) <= {401, 429}
    assert r.get("/", user=f"me:{password}")[0] == 200
    r.sections["stats"]["auth"] = "me:SCRAM-SHA-256$4096:damaged"
    r.reload(expect="configuration not reloaded, the old one goes on")
    assert r.get("/", user=f"me:{password}")[0] == 200


def test_many_look_on_and_go(shown):
    r = shown()
    streams = [Stream(r) for _ in range(70)]
    assert sum(stream.status == 200 for stream in streams) == 64
    assert {stream.status for stream in streams} == {200, 503}
    for stream in streams:
        stream.close()

    def is_free():
        with Stream(r) as stream:
            return stream.status == 200

    assert process.wait_until(is_free, 30)


def test_a_reload_ends_streams_of_an_address_that_goes(shown):
    r = shown()
    with Stream(r) as stream:
        stream.event()
        r.sections["stats"]["bind"] = f"127.0.0.1:{free_port()}"
        r.reload()
        stream.answer.read()  # comes to its end
    with Stream(r) as stream:
        assert stream.status == 200
