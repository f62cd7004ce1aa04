"""The page as people see it: in a browser, by its stream, and by its words."""

import contextlib
import http.client
import os
import re
import time

import pytest

from cluster import process
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
    def start(stats=None, **main):
        r = pool(main={"pool_mode": "transaction", "default_pool_size": 4, **main}, check=QUICK, more={
            "listener rw": {"bind": f"127.0.0.1:{free_port()}", "mode": "tcp", "role": "primary", "cluster": "main"},
            "stats": {"bind": f"127.0.0.1:{free_port()}", **(stats or {})}})
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
