"""/metrics: read by the parsers that others use; each number is compared with a count taken elsewhere."""

import contextlib
import http.client
import shutil
import subprocess
import threading
import urllib.parse

import psycopg
import pytest

from cluster import process
from harness.ports import free_port
from harness.pools import Later, join, one

parser = pytest.importorskip("prometheus_client.parser")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
LINE = "cluster=main role=primary dbname=app"
MAIN = {"pool_mode": "transaction", "default_pool_size": 2}


def scrape(router, accept=None):
    """Content type and text."""
    connection = http.client.HTTPConnection(*router.at("stats"), timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.getheader("Content-Type"), answer.read().decode()


class Metrics(dict):
    """{family: [samples]} of a scrape."""

    def __init__(self, router):
        _, text = scrape(router, OPEN)
        for family in openmetrics.text_string_to_metric_families(text):
            for sample in family.samples:
                self.setdefault(sample.name, []).append(sample)

    def all(self, family, **labels):
        return [sample for sample in self.get(family, [])
                if all(sample.labels.get(key) == value for key, value in labels.items())]

    def sum(self, family, **labels):
        return sum(sample.value for sample in self.all(family, **labels))

    def one(self, family, **labels):
        samples = self.all(family, **labels)
        assert len(samples) == 1, (family, labels, samples)
        return samples[0].value


def work(router, n, listener="pool", **more):
    with join(router, listener, **more) as connection:
        for _ in range(n):
            connection.execute("select 1")


def test_both_formats_are_what_parsers_understand(pool):
    r = pool(main=MAIN)
    work(r, 3)
    kind, text = scrape(r)
    assert kind == TEXT and "# EOF" not in text
    old = {family.name: family for family in parser.text_string_to_metric_families(text)}
    kind, text = scrape(r, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind == OPEN and text.endswith("\n# EOF\n")
    new = {family.name: family for family in openmetrics.text_string_to_metric_families(text)}
    assert set(old) == set(new) and len(new) > 120
    assert all(family.documentation for family in new.values())
    for name, family in new.items():
        assert family.type == old[name].type != "unknown"
        names = {(sample.name, *sorted(sample.labels.items())) for sample in family.samples}
        assert len(names) == len(family.samples) > 0 or name == "pgrouter_pool_errors", name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="prometheus is not installed")
def test_promtool_has_nothing_to_say(pool):
    r = pool(main=MAIN)
    work(r, 3)
    done = subprocess.run(["promtool", "check", "metrics"], input=scrape(r)[1], text=True,
                          capture_output=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if not line.startswith(("haproxy_", "pgbouncer_"))]
    assert ours == [] and "error while linting" not in done.stderr


def test_what_clients_did_is_what_pools_count(pool, workers):
    """Eight clients of two databases, each with its own number of queries."""
    r = pool(main=MAIN, databases={"app": LINE, "other": LINE})
    threads = [threading.Thread(target=work, args=(r, 20 + i), kwargs={"database": ("app", "other")[i % 2]})
               for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = {"app": 20 + 22 + 24 + 26, "other": 21 + 23 + 25 + 27}
    metrics = Metrics(r)
    for database, n in done.items():
        labels = {"database": database, "user": "app"}
        assert metrics.one("pgrouter_pool_queries_total", **labels) == n
        assert metrics.one("pgrouter_pool_transactions_total", **labels) == n
        assert metrics.one("pgbouncer_stats_totals_queries_total", database=database) == n
        assert metrics.one("pgrouter_pool_query_seconds_count", **labels) == n
        assert metrics.one("pgrouter_pool_query_seconds_bucket", le="+Inf", **labels) == n
        buckets = [sample.value for sample in metrics.all("pgrouter_pool_query_seconds_bucket", **labels)]
        assert buckets == sorted(buckets) and len(buckets) == 16
        assert 0 < metrics.one("pgrouter_pool_query_seconds_sum", **labels) < n * 15
        opened = metrics.one("pgrouter_pool_connect_seconds_count", **labels)
        assert 1 <= opened and metrics.one("pgrouter_pool_connect_seconds_sum", **labels) > 0
    assert metrics.sum("pgrouter_pool_queries_total") == sum(done.values())
    front = metrics.one("haproxy_frontend_sessions_total", proxy="pool")
    assert front == metrics.sum("pgrouter_worker_clients_total") == 8
    assert front == int(r.csv()["pool", "FRONTEND"]["stot"])
    assert len(metrics.all("pgrouter_worker_current_clients")) == workers == metrics.one("haproxy_process_nbthread")
    assert process.wait_until(
        lambda: Metrics(r).one("pgrouter_clients_closed_total", reason="CLIENT_CLOSED") == 8, 10)


def test_who_is_there_now_is_shown(cluster, pool):
    r = pool(main=MAIN)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(join(r)) for _ in range(4)]
        for client in clients[:3]:
            client.autocommit = False
        for client in clients[:2]:
            one(client, "select 1")  # in a transaction: the servers are theirs
        asked = Later(lambda: one(clients[2], "select 1"))
        labels = {"database": "app", "user": "app"}
        assert process.wait_until(
            lambda: Metrics(r).one("pgbouncer_pools_client_waiting_connections", **labels) == 1, 10)
        metrics = Metrics(r)
        assert metrics.one("pgbouncer_pools_client_active_connections", **labels) == 3
        assert metrics.one("pgbouncer_pools_server_active_connections", **labels) == 2
        assert metrics.one("pgbouncer_pools_client_maxwait_seconds", **labels) > 0
        assert metrics.one("pgbouncer_databases_current_connections", name="app") == 2
        assert metrics.one("pgbouncer_databases_pool_size", name="app") == 2
        assert metrics.one("haproxy_frontend_current_sessions", proxy="pool") == 4
        assert metrics.one("pgrouter_clients_admitted") == 4
        leader = cluster.leader().name
        assert metrics.one("pgrouter_node_sessions", node=leader) == 2
        assert metrics.sum("pgrouter_node_sessions") == 2
        for client in clients[:2]:
            client.rollback()
        asked.result()
        clients[2].rollback()


def test_nodes_and_their_cluster_are_shown(cluster, pool):
    r = pool(main=MAIN)
    leader, others = cluster.leader(), cluster.replicas()
    metrics = Metrics(r)
    for node in cluster.nodes:
        role = "primary" if node is leader else "replica"
        assert metrics.one("pgrouter_node_up", cluster="main", node=node.name) == 1
        assert metrics.one("pgrouter_node_role", node=node.name, role=role) == 1
        assert metrics.sum("pgrouter_node_role", node=node.name) == 1
        assert metrics.one("pgrouter_node_check_result", node=node.name, result="ok") == 1
    assert metrics.one("pgrouter_cluster_has_primary", cluster="main") == 1
    assert metrics.one("pgrouter_cluster_held", cluster="main") == 0
    before = metrics.one("pgrouter_node_check_failures_total", node=others[0].name)
    others[0].kill()
    assert process.wait_until(lambda: Metrics(r).one("pgrouter_node_up", node=others[0].name) == 0, 30)
    metrics = Metrics(r)
    assert metrics.one("pgrouter_node_check_failures_total", node=others[0].name) > before
    assert metrics.one("pgrouter_node_downs_total", node=others[0].name) == 1


def test_errors_are_counted_by_class(pool):
    r = pool(main=MAIN)
    with join(r) as connection:
        for query in ("select nothing", "select 1/0", "select 1/0"):
            with pytest.raises(psycopg.Error):
                connection.execute(query)
    errors = {(s.labels["source"], s.labels["class"]): s.value
              for s in Metrics(r).all("pgrouter_pool_errors_total", database="app")}
    assert errors == {("server", "42"): 1, ("server", "22"): 2}


def test_the_process_is_shown_as_the_kernel_sees_it(pool):
    r = pool(main=MAIN)
    before = Metrics(r)
    with join(r), join(r):
        metrics = Metrics(r)
        assert metrics.one("process_open_fds") >= before.one("process_open_fds") + 2
    work(r, 2000)
    used = r.cpu_seconds()
    metrics = Metrics(r)
    assert used - 0.1 <= metrics.one("process_cpu_seconds_total") <= r.cpu_seconds() + 0.1
    assert metrics.one("process_cpu_seconds_total") > before.one("process_cpu_seconds_total")
    assert metrics.one("process_resident_memory_bytes") > r.memory_kb() * 1024 / 2
    assert abs(metrics.one("process_start_time_seconds") - before.one("process_start_time_seconds")) <= 1
    assert metrics.one("pgrouter_build_info") == 1 == metrics.one("pgbouncer_up")


def test_strange_names_are_escaped(pool):
    names = ['a"b', "a\\b", "a\nb", "{le=1}", "ä€"]
    r = pool(main={**MAIN, "stats_users": "app"},
             databases={"*": LINE})
    for name in names:
        psycopg.connect(r.dsn("pool") + " dbname='" + name.replace("\\", "\\\\") + "'").close()
    assert {s.labels["database"] for s in Metrics(r).all("pgbouncer_pools_server_idle_connections")} >= set(names)


def test_a_password_is_asked_for_as_for_the_page(pool):
    r = pool(main=MAIN, more={"stats": {"bind": f"127.0.0.1:{free_port()}", "auth": "ops:secret"}})
    assert r.get("/metrics")[0] == 401
    assert r.get("/metrics", user="ops:secret")[0] == 200


def test_many_scrape_at_a_time_and_none_waits_for_ever(pool):
    """Both formats, the page and the CSV, while clients come and go."""
    r = pool(main=MAIN)
    paths = ["/metrics", "/stats", "/stats;csv", "/metrics"]
    answers = []

    def ask(path):
        for _ in range(10):
            answers.append(r.get(path, timeout=30)[0] if path != "/metrics" else len(scrape(r, OPEN)[1]) > 9000)

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths * 4]
    for thread in threads:
        thread.start()
    work(r, 50)
    for thread in threads:
        thread.join()
    assert len(answers) == 160 and set(answers) == {200, True}


def test_who_balances_is_told_whether_there_is_a_node(cluster, pool):
    r = pool(main=MAIN)
    for path in ("/primary", "/replica"):
        assert r.get(path)[0] == 200
        assert r.get(path + "?cluster=main")[0] == 200
        assert r.get(path + "?cluster=" + urllib.parse.quote("other"))[0] == 404
    for node in cluster.replicas():
        node.kill()
    assert process.wait_until(lambda: r.get("/replica")[0] == 503, 30)
    cluster.leader().freeze()
    assert process.wait_until(lambda: r.get("/primary")[0] == 503, 60)
