"""docs/monitoring: a real Prometheus scrapes a real run, and evaluates the rules."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request

import pytest

from cluster import process
from harness.pools import join
from harness.ports import free_port

FOLDER = os.path.join(os.path.dirname(__file__), "../../docs/monitoring")
ALERTS, DASHBOARD = os.path.join(FOLDER, "alerts.yml"), os.path.join(FOLDER, "grafana.json")
MAIN = {"pool_mode": "transaction", "default_pool_size": 2}

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


class Prometheus:
    """One of its own, which scrapes a router each half second; rules wait a second at most."""

    def __init__(self, router, folder):
        with open(ALERTS, encoding="utf-8") as file:
            rules = re.sub(r"for: \d+[sm]", "for: 1s", file.read())
        (folder / "alerts.yml").write_text(rules)
        host, port = router.at("stats")
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{"job_name": "pgrouter", "static_configs": [{"targets": [f"{host}:{port}"]}]}]}))
        self.port = free_port()
        with open(folder / "log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address=127.0.0.1:{self.port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        assert process.wait_until(self._is_ready, 60), (folder / "log").read_text()

    def _get(self, path, **arguments):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()

    def _is_ready(self):
        with contextlib.suppress(OSError):
            return "Ready" in self._get("/-/ready")
        return False

    def query(self, expression):
        """[(labels, value)]"""
        answer = json.loads(self._get("/api/v1/query", query=expression))
        assert answer["status"] == "success", answer
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def rules(self):
        groups = json.loads(self._get("/api/v1/rules"))["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def firing(self):
        return {name for name, rule in self.rules().items() if rule["state"] == "firing"}

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def prometheus(tmp_path):
    started = []

    def start(router):
        started.append(Prometheus(router, tmp_path))
        return started[0]

    yield start
    for one in started:
        one.stop()


def names_of(expression):
    return set(re.findall(r"\b(?:pgrouter|pgbouncer|haproxy|process)_\w+", expression))


def expressions():
    """Those of the dashboard and of the rules."""
    with open(DASHBOARD, encoding="utf-8") as file:
        dashboard = json.load(file)
    with open(ALERTS, encoding="utf-8") as file:
        rules = re.findall(r"expr: >?\s*(.*)", file.read())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])], rules


def test_rules_are_valid():
    done = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0 and "12 rules found" in done.stdout, done.stdout + done.stderr


def test_panels_stand_beside_each_other():
    with open(DASHBOARD, encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    places = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not places & cells, panel["title"]
        places |= cells
    assert len({panel["id"] for panel in panels}) == len(panels) > 20


def test_what_is_asked_for_is_there(pool, prometheus):
    """Every panel and rule is asked of a Prometheus that has scraped a run under load; what it counts is what
    clients did."""
    r = pool(main=MAIN)
    server = prometheus(r)
    counts, stop = [], threading.Event()

    def work():
        n = 0
        with join(r) as c:
            while not stop.is_set() or n == 0:
                c.execute("select 1")
                n += 1
        counts.append(n)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert process.wait_until(
            lambda: server.query("sum(rate(pgrouter_pool_queries_total[10s]))")[:1] and
            server.query("sum(rate(pgrouter_pool_queries_total[10s]))")[0][1] > 0, 30)
        panels, rules = expressions()
        for expression in panels:
            for name, value in (("$instance", ".*"), ("$database", ".*"), ("$__rate_interval", "10s")):
                expression = expression.replace(name, value)
            found = server.query(expression)
            if "errors_total" not in expression and "lag_bytes" not in expression and "closed_total" not in expression:
                assert found, expression
        known = set(json.loads(server._get("/api/v1/label/__name__/values"))["data"]) | {"pgrouter_pool_errors_total"}
        for expression in panels + rules:
            assert names_of(expression) <= known, expression
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert process.wait_until(
        lambda: server.query('sum(pgrouter_pool_queries_total{database="app"})')[0][1] == sum(counts), 20)
    assert server.query('histogram_quantile(0.99, sum by (le) (pgrouter_pool_query_seconds_bucket))')[0][1] > 0


def test_rules_fire_when_they_should(cluster, pool, prometheus):
    r = pool(main=MAIN)
    server = prometheus(r)
    assert process.wait_until(lambda: server.query("pgrouter_ready") and all(
        rule["health"] == "ok" for rule in server.rules().values()), 30), server.rules()
    assert server.firing() == set()
    cluster.replicas()[0].kill()
    assert process.wait_until(lambda: server.firing() == {"PgrouterNodeDown"}, 60), server.firing()
    for node in cluster.nodes:
        node.freeze()
    assert process.wait_until(lambda: "PgrouterClusterWithoutPrimary" in server.firing(), 90), server.firing()
