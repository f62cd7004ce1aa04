"""What is done by the page's forms, and by HAProxy's."""

import base64
import http.client
import re
import urllib.parse

import pytest

from cluster import process
from harness.chromium import CONTRASTS, FAULTS, Chromium
from harness.pools import Later, join, one
from harness.ports import free_port

QUICK = {"check_interval": "300ms", "check_fast_interval": "50ms"}
ADMIN, LOOKER = "alice:in charge", "bob:looks on"


@pytest.fixture
def managed(cluster, pool):
    def start(stats=None, **main):
        r = pool(main={"pool_mode": "transaction", **main}, check={
            **QUICK, "restapi_user": "patroni", "restapi_password": cluster.passwords["patroni"]}, more={
            "listener ro": {"bind": f"127.0.0.1:{free_port()}", "mode": "tcp", "role": "replica", "cluster": "main"},
            "stats": {"bind": f"127.0.0.1:{free_port()}", "admin": ADMIN, "auth": LOOKER, **(stats or {})}})
        r.page = "http://%s:%s/" % r.at("stats")
        return r

    return start


def post(router, fields, user=ADMIN, path="/", **headers):
    """Status, where it leads to, and what it says."""
    connection = http.client.HTTPConnection(*router.at("stats"), timeout=60)
    if user is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    body = fields if isinstance(fields, str) else urllib.parse.urlencode(fields)
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location"), answer.read().decode()
    finally:
        connection.close()


DONE = (303, "/;st=DONE", "done\n")


def status_of(router, node):
    text = router.get("/;csv", user=LOOKER)[2].splitlines()
    columns = text[0].removeprefix("# ").split(",")
    rows = [dict(zip(columns, line.split(","))) for line in text[1:]]
    return next(row["status"] for row in rows if (row["pxname"], row["svname"]) == ("ro", node))


def test_who_may_act(cluster, managed):
    node = cluster.replicas()[0].name
    drain = {"node": f"main/{node}", "action": "drain"}
    r = managed()
    assert process.wait_until(lambda: status_of(r, node) == "UP", 10)
    for nobody in (None, LOOKER, "alice:", "alice:in charg", "in charge:alice"):
        assert post(r, drain, user=nobody)[0] == 401
    assert r.get("/admin", user=LOOKER)[0] == 401 and r.get("/admin", user=ADMIN)[0] == 303
    looked, acted = r.get("/", user=LOOKER)[2], r.get("/", user=ADMIN)[2]
    assert "<form" not in looked and "href=/admin" in looked
    assert "<form" in acted and "href=/admin" not in acted
    assert status_of(r, node) == "UP"
    assert post(r, drain) == DONE
    assert status_of(r, node) == "DRAIN"
    r.log.wait("done by the page", what=f"drain {node}", who="alice at 127.0.0.1")
    assert f"drain {node} by alice at 127.0.0.1: done" in r.get("/", user=ADMIN)[2]

    r.sections["stats"]["admin"] = ""
    r.reload()
    assert post(r, drain)[0] == 403 and r.get("/admin", user=LOOKER)[0] == 404
    assert r.get("/", user=ADMIN)[0] == 401 and "href=/admin" not in r.get("/", user=LOOKER)[2]


@pytest.mark.parametrize("path", ["/", "/stats", "/haproxy?stats"])
def test_haproxys_form(cluster, managed, path):
    a, b = (node.name for node in cluster.replicas())
    r = managed()
    for action, status in (("drain", "DRAIN"), ("maint", "MAINT"), ("ready", "UP")):
        for backend in ("ro", "#2"):
            assert post(r, [("s", a), ("s", b), ("b", backend), ("action", action)], path=path) == DONE
            assert process.wait_until(lambda s=status: status_of(r, a) == status_of(r, b) == s, 10)
    assert post(r, {"s": "nobody", "b": "ro", "action": "drain"})[0] == 404
    assert post(r, {"s": a, "b": "nobody", "action": "drain"})[0] == 400
    assert post(r, {"b": "ro", "action": "drain"})[0] == 400
    assert post(r, {"s": a, "b": "ro", "action": "explode"})[0] == 400
    assert status_of(r, a) == "UP"


@pytest.mark.parametrize("body", ["", "&&&", "action", "a=%", "s=%zz", "x" * 3000, "s=" + "x" * 2000,
                                  "&".join(["s=x"] * 40), "action=drain&node=" + "x" * 200, "\r\n\r\naction=drain"])
def test_what_is_no_form(managed, body):
    r = managed()
    assert post(r, body)[0] == 400
    assert post(r, body + "&" + "y" * 5000)[0] == 413


def test_a_page_of_others_cannot_act(cluster, managed):
    """A browser sends the password of its user along."""
    node = cluster.replicas()[0].name
    drain = {"node": f"main/{node}", "action": "drain"}
    r = managed()
    token = re.search(r"name=csrf value=(\w+)", r.get("/", user=ADMIN)[2])[1]
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                    {"Referer": "http://evil.example/"}):
        for wrong in ({}, {"csrf": ""}, {"csrf": "0" * 32}, {"csrf": token[:-1]}):
            assert post(r, {**drain, **wrong}, **headers)[0] == 403
        assert post(r, {**drain, "csrf": token}, **headers) == DONE
    assert status_of(r, node) == "DRAIN"
    assert r.stop() is None
    r = managed()
    assert re.search(r"name=csrf value=(\w+)", r.get("/", user=ADMIN)[2])[1] != token


def test_a_database_is_paused(managed):
    r = managed()
    with join(r) as client:
        assert one(client, "select 1") == 1
        assert post(r, {"db": "app", "action": "pause"}) == DONE
        waiting = Later(lambda: one(client, "select 2"))
        assert not waiting.is_over(0.5)
        assert post(r, {"db": "app", "action": "resume"}) == DONE
        assert waiting.result(20) == 2
        status, _, why = post(r, {"db": "nothing", "action": "pause"})
        assert status == 409 and "no such database" in why
        r.log.wait("not done by the page", what="pause nothing")


def test_what_takes_long_goes_on(managed):
    r = managed()
    with join(r) as client:
        client.execute("begin")
        assert post(r, {"db": "app", "action": "pause"}) == DONE  # it waits for the transaction
        assert not r.log.find("done by the page", what="pause app")
        client.execute("commit")
        r.log.wait("done by the page", what="pause app")
        assert post(r, {"db": "app", "action": "resume"}) == DONE


@pytest.mark.parametrize("waits", [False, True])
def test_the_end_of_pgrouter_is_an_answer(managed, waits):
    r = managed(shutdown_timeout="1s")
    client = join(r)
    client.execute("begin")
    pausing = Later(lambda: post(r, {"db": "app", "action": "pause"}))
    assert pausing.is_over(10 if waits else 0.5) == waits
    r.stop()
    assert pausing.result(20)[0] in ((303,) if waits else (303, 409, 503))
    client.close()


def test_switchover(cluster, managed):
    r = managed()
    old, to = cluster.leader(), cluster.replicas()[0]
    fields = {"cluster": "main", "to": to.name, "action": "switchover"}
    assert post(r, fields)[0] == 400  # not confirmed
    status, _, why = post(r, {**fields, "to": "nobody", "sure": "yes"})
    assert status == 409 and "nobody" in why
    assert cluster.leader() is old
    assert post(r, {**fields, "sure": "yes"}) == DONE
    r.log.wait("done by the page", seconds=60, what="switchover main", who="alice at 127.0.0.1")
    assert cluster.leader() is to


def test_forms_in_a_browser(cluster, managed, tmp_path):
    node = cluster.replicas()[0].name
    r = managed()
    host, port = r.at("stats")
    with join(r) as client, Chromium(tmp_path, width=820) as browser:
        client.execute("select 1")
        browser.get("http://alice:in%%20charge@%s:%s/admin" % (host, port))
        assert browser.do(FAULTS) == []
        assert {pair: ratio for pair, ratio in browser.do(CONTRASTS).items() if ratio < 4.5} == {}
        browser.do(f"""
            const form = document.querySelector("select[name=node]").form;
            form.elements.node.value = "main/{node}";
            form.elements.action.value = "drain";
            form.querySelector("button").click();""")
        assert process.wait_until(lambda: f"drain {node} by alice" in browser.text("act"), 20)
        assert process.wait_until(lambda: "draining" in browser.text("clusters"), 20)
        assert browser.complaints() == []
        to = cluster.replicas()[1].name
        browser.do(f"""
            const form = document.querySelector("select[name=to]").form;
            form.elements.to.value = "{to}";
            form.elements.sure.checked = true;
            form.querySelector("button").click();""")
        r.log.wait("done by the page", seconds=60, what="switchover main")
        assert process.wait_until(lambda: f"The primary is {to}" in browser.text("clusters"), 30)
