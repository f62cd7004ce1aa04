"""Patroni's keys in etcd: what is seen there, and what becomes of it when etcd is in trouble."""

import subprocess
import threading
import time

import pytest

from cluster import process
from cluster.certificates import Authority
from harness.etcd import Etcd
from harness.fake_etcd import FakeEtcd
from harness.fake_patroni import FakePatroni
from harness.pools import join
from harness.ports import free_port
from test_console import console, show

BASE = "/service/main/"
ASKED, OVER = "switchover asked for", "switchover no longer asked for"


@pytest.fixture
def patroni():
    """The REST API of a node that is the primary, whatever etcd says."""
    with FakePatroni() as fake:
        fake.primary()
        yield fake


@pytest.fixture
def watch(start_router, patroni):
    """Starts a router whose cluster has one node, n1, and watches `etcd`."""
    def start(etcd, main=None, **cluster):
        settings = {"etcd": etcd, "scope": "main", "check_interval": "200ms", **cluster}
        return start_router(nodes=f"n1=127.0.0.1:{free_port()}:{patroni.port}",
                            listeners={"rw": {"role": "primary"}}, cluster=settings,
                            main=main or {}, wait=False)

    return start


def watched(r, since=0, seconds=20):
    return r.log.wait("etcd watched", seconds=seconds, since=since)


def ask(etcd, to="n2"):
    return etcd.put(BASE + "failover", {"leader": "n1", "member": to})


def clear(etcd):
    etcd.put(BASE + "failover", {})


def expect_seen(etcd, r, seconds=10):
    """What is asked for now is seen, and that it is over."""
    mark = r.log.mark()
    ask(etcd)
    r.log.wait(ASKED, seconds=seconds, since=mark, **{"from": "n1", "to": "n2"})
    clear(etcd)
    r.log.wait(OVER, seconds=seconds, since=mark, leader="n1")


# The real cluster


def test_a_switchover_is_seen(cluster, router):
    r = router(cluster=cluster.etcd_settings())
    event = watched(r)
    assert event["keys"] >= 6 and event["prefix"].endswith("/main/")
    old = cluster.leader()
    new = cluster.switchover()
    r.log.wait(ASKED, **{"from": old.name})
    r.log.wait(OVER, leader=new.name)
    r.log.wait("primary changed", **{"is": new.name})
    cluster.wait_for_roles()
    assert len(r.log.find(ASKED)) == len(r.log.find(OVER)) == 1
    assert not r.log.find("etcd lost")


class Demotions:
    """Has a cluster change its primary in all ways, and notes each change: [from, to]."""

    def __init__(self, cluster):
        self.cluster, self.changes = cluster, []
        self._first = self._timeline()

    def _timeline(self):
        return int(self.cluster.leader().sql("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), 16)

    def n_promotions(self):
        """As PostgreSQL has counted them."""
        return self._timeline() - self._first

    def _order(self, path, body, status):
        assert self.cluster.order("POST", path, body)[0] == status

    def _see(self, old):
        new = self.cluster.wait_for_leader(other_than=old)
        self.cluster.wait_for_roles()
        self.changes.append([old.name, new.name])

    def switchover(self, to=None):
        old = self.cluster.leader()
        self.cluster.switchover(to=to)
        self._see(old)

    @staticmethod
    def _in(seconds):
        return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + seconds))

    def scheduled(self):
        old, to = self.cluster.leader(), self.cluster.replicas()[0]
        self._order("/switchover", {"leader": old.name, "candidate": to.name, "scheduled_at": self._in(4)}, 202)
        self._see(old)

    def cancelled(self):
        self._order("/switchover", {"leader": self.cluster.leader().name, "scheduled_at": self._in(5)}, 202)
        assert self.cluster.order("DELETE", "/switchover")[0] == 200

    def rejected(self):
        """By the leader: there is nobody of that name."""
        self.cluster.put_etcd("failover", {"leader": self.cluster.leader().name, "member": "nobody"})
        assert process.wait_until(lambda: self.cluster.etcd_values().get("failover") == "{}", 30)

    def by_hand(self):
        old, to = self.cluster.leader(), self.cluster.replicas()[0]
        self._order("/failover", {"candidate": to.name}, 200)
        self._see(old)

    def in_pause(self):
        self.cluster.pause()
        try:
            self.switchover(to=self.cluster.replicas()[0])
        finally:
            self.cluster.pause(False)


def test_as_many_holds_as_demotions(cluster, pool):
    """Ten switchovers, and of all else that may stand in the failover key one each."""
    r = pool(main={"admin_users": "postgres"}, check=cluster.etcd_settings())
    watched(r)
    cluster.wait_for_roles()
    demotions = Demotions(cluster)
    for i in range(10):
        demotions.switchover()
        if i == 3:
            demotions.rejected()
        elif i == 6:
            demotions.cancelled()
    demotions.scheduled()
    demotions.by_hand()
    demotions.in_pause()
    expected = demotions.changes
    assert len(expected) == demotions.n_promotions() == 13
    assert process.wait_until(lambda: len(r.log.find("hold ended")) >= len(expected), 20)
    assert [[event["leaves"], event["cause"]] for event in r.log.find("hold began")] == [
        [old, "request"] for old, _ in expected]
    assert [[event["left"], event["is"], event["outcome"]] for event in r.log.find("hold ended")] == [
        [*change, "changed"] for change in expected]
    with console(r) as c:
        rows = show(c, "SWITCHOVERS")
    assert [[row["number"], row["cause"], row["outcome"], row["from"], row["to"]] for row in rows] == [
        [n, "request", "changed", *change] for n, change in enumerate(expected, 1)]


def test_nodes_are_found(cluster, start_router):
    r = start_router(listeners={"rw": {"role": "primary"}, "ro": {"role": "replica"}},
                     cluster=cluster.etcd_settings(), passwords=cluster.passwords)
    with r.connect("rw") as connection:
        assert connection.execute("select pg_is_in_recovery()").fetchone()[0] is False
        with r.connect("ro") as other:
            assert other.execute("select pg_is_in_recovery()").fetchone()[0] is True
        leader, gone = cluster.leader(), cluster.replicas()[0]
        def names():
            return {name for listener, name in r.csv() if listener == "ro"} - {"FRONTEND", "BACKEND"}

        every = {node.name for node in cluster.nodes}
        assert names() == every
        gone.stop()  # its member key goes with it
        assert process.wait_until(lambda: names() == every - {gone.name}, 60)
        # Those that stay keep their sessions, also over a reload.
        r.reload()
        assert connection.execute("select 1").fetchone() == (1,)
        gone.start()
        assert process.wait_until(lambda: names() == every, 60)
        assert connection.execute("select 1").fetchone() == (1,)
        assert cluster.leader() is leader
    r.log.wait("node changed", node=gone.name, **{"is": "replica"})


def test_nodes_that_are_found_stay_without_etcd(cluster, start_router):
    r = start_router(listeners={"rw": {"role": "primary"}}, cluster=cluster.etcd_settings(),
                     passwords=cluster.passwords)
    watched(r)
    cluster.pause()  # else Patroni stops the primary
    mark = r.log.mark()
    cluster.stop_etcd()
    r.log.wait("etcd lost", since=mark)
    with r.connect("rw") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    r.reload()
    with r.connect("rw") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    cluster.start_etcd()
    watched(r, mark, seconds=30)
    cluster.wait_for_roles()
    cluster.pause(False)


@pytest.fixture
def etcd_alone(cluster, router):
    """A router that Patroni's REST API does not answer: all that is known is from etcd."""
    def start(**settings):
        nodes = ", ".join(f"{node.name}={node.address}:{node.port}:1" for node in cluster.nodes)
        r = router(nodes=nodes, cluster={**cluster.etcd_settings(), "check_interval": "300ms", **settings})
        r.log.wait("primary changed", **{"is": cluster.leader().name})
        return r

    return start


def test_etcd_alone_suffices(cluster, etcd_alone):
    r = etcd_alone()
    leader = cluster.leader()
    with r.connect("rw") as connection:
        assert connection.execute("select pg_is_in_recovery()").fetchone()[0] is False
    with r.connect("ro") as connection:
        assert connection.execute("select pg_is_in_recovery()").fetchone()[0] is True
    mark = r.log.mark()
    new = cluster.switchover()
    r.log.wait("primary changed", seconds=20, since=mark, **{"is": new.name})
    r.log.wait("hold ended", seconds=20, since=mark, outcome="changed")
    with r.connect("rw") as connection:
        assert connection.execute("select pg_is_in_recovery()").fetchone()[0] is False
    cluster.wait_for_roles()
    r.log.wait("node changed", seconds=20, since=mark, node=leader.name, **{"is": "replica"})


def test_etcd_alone_and_a_primary_that_is_lost(cluster, etcd_alone):
    r = etcd_alone()
    leader = cluster.leader()
    mark = r.log.mark()
    leader.kill()
    r.log.wait("node changed", seconds=20, since=mark, node=leader.name, **{"is": "down"})
    r.log.wait("hold began", since=mark)
    cluster.expire_leader()
    new = cluster.wait_for_leader(other_than=leader)
    r.log.wait("primary changed", seconds=20, since=mark, **{"is": new.name})
    with r.connect("rw") as connection:
        assert connection.execute("select pg_is_in_recovery()").fetchone()[0] is False


def test_etcd_alone_and_noloadbalance(cluster, etcd_alone):
    r = etcd_alone()
    replica = cluster.replicas()[0]
    mark = r.log.mark()
    replica.set_tags(noloadbalance=True)
    try:
        r.log.wait("node changed", seconds=20, since=mark, node=replica.name,
                   **{"is": "replica, noloadbalance"})
    finally:
        replica.set_tags()


def test_a_frozen_node_is_down_whatever_its_key_says(cluster, router):
    """Its kernel accepts connections, and its key lives for the ttl."""
    r = router(cluster={**cluster.etcd_settings(), "check_interval": "300ms", "check_timeout": "500ms"})
    replica = cluster.replicas()[0]
    mark = r.log.mark()
    replica.freeze()
    r.log.wait("node changed", seconds=10, since=mark, node=replica.name, **{"is": "down"})
    replica.thaw()
    r.log.wait("node changed", seconds=20, since=mark, node=replica.name, **{"is": "replica"})


def test_neither_etcd_nor_rest(cluster, etcd_alone):
    r = etcd_alone()
    leader = cluster.leader()
    cluster.pause()  # else Patroni stops the primary
    mark = r.log.mark()
    cluster.stop_etcd()
    r.log.wait("etcd lost", since=mark)
    r.log.wait("node changed", seconds=20, since=mark, node=leader.name, **{"is": "down"})
    cluster.start_etcd()
    r.log.wait("node changed", seconds=30, since=mark, node=leader.name, **{"is": "primary"})
    cluster.wait_for_roles()
    cluster.pause(False)


def test_tls_settings(cluster, router, tmp_path):
    good = cluster.etcd_settings()
    stranger = Authority(str(tmp_path)).certificate
    r = router(cluster=good)
    watched(r)
    for change, why in (({"etcd_cert_file": "", "etcd_key_file": ""}, "alert"),
                        ({"etcd_ca_file": stranger}, "certificate"),
                        ({"etcd": good["etcd"].replace("https", "http")}, "")):
        mark = r.log.mark()
        r.sections["cluster main"].update(change)
        r.reload()
        assert why in r.log.wait("etcd not usable", since=mark)["why"]
        assert not r.log.find("etcd watched", since=mark)
        r.sections["cluster main"].update(good)
        mark = r.log.mark()
        r.reload()
        watched(r, mark)


def test_files_that_cannot_be_read(watch, tmp_path, program):
    with FakeEtcd() as etcd:
        r = watch(etcd.endpoint, etcd_ca_file=tmp_path / "nowhere.crt")
        assert "nowhere.crt" in r.log.wait("etcd not watched")["why"]
        r.log.wait("primary changed", **{"is": "n1"})
        checked = subprocess.run([program, "-t", f"{r.folder}/pgrouter.ini"], check=False,
                                 capture_output=True, text=True)
        assert checked.returncode == 1
        assert checked.stderr.startswith("[cluster main] etcd: CA file"), checked.stderr
        assert not etcd.asked


def test_a_ca_file_makes_it_https(cluster, router):
    settings = cluster.etcd_settings()
    settings["etcd"] = settings["etcd"].replace("https://", "")
    watched(router(cluster=settings))


# An etcd of our own


def test_scope_and_namespace_lead_to_the_keys(watch, tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.patroni(namespace="/db", scope="orders")
        etcd.patroni(scope="orders")
        r = watch(etcd.endpoints(), namespace="/db/", scope="orders")
        assert watched(r)["prefix"] == "/db/orders/"
        etcd.put("/db/orders2/failover", {"leader": "n1"})
        etcd.put("/service/orders/failover", {"leader": "n1"})
        etcd.put("/db/orders/failover", {"leader": "n1"})
        r.log.wait(ASKED, **{"from": "n1", "to": "any"})
        assert len(r.log.find(ASKED)) == 1
        assert not r.log.find("nothing of Patroni's in etcd")
        mark = r.log.mark()
        r.sections["cluster main"]["scope"] = "other"
        r.reload()
        r.log.wait("nothing of Patroni's in etcd", since=mark)


def test_a_request_is_read_as_patroni_reads_it(watch, tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.patroni()
        ask(etcd)  # before we came
        r = watch(etcd.endpoints())
        r.log.wait(ASKED, to="n2")
        etcd.put(BASE + "leader", "n2")
        r.log.wait(OVER, leader="n2")
        for value in ({}, {"leader": "n1"}, {"member": "n2"}, "", "null"):
            etcd.put(BASE + "failover", value)
        due = time.time() + 3
        etcd.put(BASE + "failover", {"leader": "n2", "scheduled_at": time.strftime(
            "%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + "+00:00"})
        etcd.put(BASE + "failover", {})  # cancelled
        due = int(time.time() + 3)
        etcd.put(BASE + "failover", {"leader": "n2", "member": "n1", "scheduled_at": time.strftime(
            "%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + "+00:00"})
        mark = r.log.mark()
        assert len(r.log.find(ASKED)) == 1
        r.log.wait(ASKED, since=mark, to="n1")
        assert time.time() >= due
        etcd.delete(BASE + "failover")
        r.log.wait(OVER, since=mark, leader="n2")
        etcd.put(BASE + "config", {"pause": True, "loop_wait": 1})
        etcd.put(BASE + "failover", {"leader": "n2"})
        etcd.put(BASE + "failover", {"leader": "n2", "member": "n3"})
        r.log.wait(ASKED, since=mark, to="n3")
        assert len(r.log.find(ASKED)) == 3


def test_nobody_holding_the_lock_ends_no_request(watch, tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.patroni()
        r = watch(etcd.endpoints())
        watched(r)
        ask(etcd)
        r.log.wait(ASKED)
        etcd.delete(BASE + "leader")
        clear(etcd)
        time.sleep(1)
        assert not r.log.find(OVER)
        etcd.put(BASE + "leader", "n2")
        r.log.wait(OVER, leader="n2")


def test_a_member_that_is_killed(watch, tmp_path):
    with Etcd(tmp_path, members=3) as etcd:
        etcd.patroni()
        r = watch(etcd.endpoints())
        first = etcd.member_at(watched(r)["endpoint"])
        expect_seen(etcd, r)
        mark = r.log.mark()
        first.kill()
        r.log.wait("etcd lost", since=mark)
        second = watched(r, mark)["endpoint"]
        assert second != first.endpoint
        expect_seen(etcd, r)
        first.start()
        expect_seen(etcd, r)


def test_a_member_that_has_lost_the_others(watch, tmp_path):
    with Etcd(tmp_path, members=3) as etcd:
        etcd.patroni()
        r = watch(etcd.endpoints())
        first = etcd.member_at(watched(r)["endpoint"])
        others = [member for member in etcd.members if member is not first]
        mark = r.log.mark()
        for member in others:
            member.freeze()
        assert "no leader" in r.log.wait("etcd lost", seconds=30, since=mark)["why"]
        mark = r.log.mark()
        for member in others:
            member.thaw()
        watched(r, mark, seconds=30)
        expect_seen(etcd, r)


def test_a_frozen_member_is_left(watch, tmp_path):
    with Etcd(tmp_path, members=3) as etcd:
        etcd.patroni()
        r = watch(etcd.endpoints())
        first = etcd.member_at(watched(r)["endpoint"])
        mark = r.log.mark()
        first.freeze()  # its kernel goes on to answer for it
        ask(etcd)
        assert "silent" in r.log.wait("etcd lost", seconds=20, since=mark)["why"]
        watched(r, mark)
        r.log.wait(ASKED, since=mark)
        first.thaw()


def test_the_only_member_is_frozen(watch, tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.patroni()
        r = watch(etcd.endpoints(), check_timeout="500ms")
        watched(r)
        mark = r.log.mark()
        etcd.members[0].freeze()
        r.log.wait("etcd lost", seconds=20, since=mark)
        etcd.members[0].thaw()
        watched(r, mark)
        expect_seen(etcd, r)


def test_a_watch_whose_revision_was_compacted(watch, tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.patroni()
        with Gate(etcd.members[0].port, b"/watch") as gate:
            r = watch(gate.endpoint, check_timeout="20s")
            gate.wait()  # all was read, the watch is on its way
            ask(etcd, "n3")
            ask(etcd)
            etcd.compact()
            gate.open()
            assert "compacted" in r.log.wait("etcd lost")["why"]
            r.log.wait(ASKED, to="n2")
            clear(etcd)
            r.log.wait(OVER)


def test_a_token_that_expires_is_renewed(watch, tmp_path):
    with Etcd(tmp_path, options=["--auth-token-ttl", "1"]) as etcd:
        etcd.patroni(loop_wait=3)  # so often the token is needed
        etcd.enable_auth("secret", "router", 'pass "word', BASE)
        r = watch(etcd.endpoints(), main={"verbose": 1}, etcd_user="router",
                  etcd_password="'pass \"word'")
        watched(r)
        r.log.wait("etcd wants a new token", seconds=20)
        assert not r.log.find("etcd lost")
        mark = r.log.mark()
        etcd.members[0].kill()  # and forgets all tokens
        r.log.wait("etcd lost", since=mark)
        etcd.members[0].start()
        watched(r, mark)
        etcd.log_in("root", "secret")
        expect_seen(etcd, r)


def test_a_wrong_password(watch, tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.patroni()
        etcd.enable_auth("secret", "router", "password", BASE)
        r = watch(etcd.endpoints(), etcd_user="router", etcd_password="wrong")
        assert "authentication failed" in r.log.wait("etcd not usable")["why"]
        mark = r.log.mark()
        r.sections["cluster main"].pop("etcd_user")
        r.sections["cluster main"].pop("etcd_password")
        r.reload()
        assert "user name is empty" in r.log.wait("etcd not usable", since=mark)["why"]


def test_a_user_where_there_are_none(watch, tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.patroni()
        r = watch(etcd.endpoints(), etcd_user="router", etcd_password="password")
        watched(r)
        expect_seen(etcd, r)


def test_a_gateway_that_is_off_is_said_once(watch, patroni, tmp_path):
    with Etcd(tmp_path, options=["--enable-grpc-gateway=false"]) as etcd:
        r = watch(etcd.endpoints())
        r.log.wait("etcd has no JSON gateway")
        r.log.wait("primary changed", **{"is": "n1"})
        asked = patroni.asked["/primary"]
        assert process.wait_until(lambda: patroni.asked["/primary"] > asked + 5, 20)
        assert len(r.log.find("etcd has no JSON gateway")) == 1
        assert not r.log.find("etcd not usable")


def test_an_etcd_that_is_not_there(watch, patroni):
    r = watch(f"127.0.0.1:{free_port()}, no-such-host.invalid:2379")
    r.log.wait("primary changed", **{"is": "n1"})
    r.log.wait("etcd not usable")
    asked = patroni.asked["/primary"]
    assert process.wait_until(lambda: patroni.asked["/primary"] > asked + 5, 20)
    assert len(r.log.find("etcd not usable")) <= 4


# A gateway that lies


@pytest.fixture
def fake():
    with FakeEtcd() as etcd:
        etcd.put(BASE + "leader", "n1")
        for name in ("n1", "n2", "n3"):
            etcd.put(BASE + "members/" + name, {"state": "running"})
        etcd.put(BASE + "config", {"loop_wait": 1})
        yield etcd


@pytest.mark.parametrize("gateway", ["/v3", "/v3beta", "/v3alpha"])
def test_gateways_of_older_versions(watch, fake, gateway):
    fake.gateway = gateway
    r = watch(fake.endpoint)
    watched(r)
    expect_seen(fake, r)


@pytest.mark.parametrize("cut", [1, 2, 7, 64])
def test_messages_that_are_cut_anywhere(watch, fake, cut):
    fake.cut = cut
    r = watch(fake.endpoint)
    watched(r)
    expect_seen(fake, r)
    assert fake.asked["/v3/watch"] == 1


def test_a_stream_that_says_nothing(watch, fake):
    r = watch(fake.endpoint)
    watched(r)
    fake.is_deaf = True
    mark = r.log.mark()
    ask(fake)
    assert "silent" in r.log.wait("etcd lost", since=mark)["why"]
    r.log.wait(ASKED, since=mark)


def test_an_etcd_that_says_nothing_at_all(watch, fake):
    with FakeEtcd() as other:
        other.is_silent = True
        r = watch(f"{other.endpoint}, {fake.endpoint}", check_timeout="500ms")
        assert watched(r)["endpoint"] == fake.endpoint
        expect_seen(fake, r)


def test_another_cluster_answers(watch, fake):
    r = watch(fake.endpoint)
    watched(r)
    mark = r.log.mark()
    fake.cluster_id = "18"
    fake.keys.clear()
    fake.revision = 1
    fake.put(BASE + "members/n8", {})
    fake.put(BASE + "leader", "n9")
    assert "another etcd cluster" in r.log.wait("etcd lost", since=mark)["why"]
    r.log.wait("etcd is another cluster now", since=mark, was=17)
    assert watched(r, mark)["revision"] == 3
    fake.put(BASE + "failover", {"leader": "n9"})
    r.log.wait(ASKED, since=mark, **{"from": "n9"})


@pytest.mark.parametrize("text", ["nonsense\n", '{"result":7}\n', '{"error":{"message":"gone"}}\n',
                                  '{"result":{"canceled":true}}\n', "{" * 100000])
def test_messages_that_make_no_sense(watch, fake, text):
    r = watch(fake.endpoint)
    watched(r)
    mark = r.log.mark()
    fake.say(text)
    if text[0] == "{" and "}" not in text:
        fake.drop_streams()
    r.log.wait("etcd lost", since=mark)
    watched(r, mark)
    expect_seen(fake, r)


def test_a_gateway_that_ends_each_watch_at_once(watch, fake):
    r = watch(fake.endpoint)
    watched(r)
    began = time.monotonic()
    while time.monotonic() < began + 5:
        fake.drop_streams()
        time.sleep(0.01)
    assert fake.asked["/v3/watch"] < 12
    assert len(r.log.find("etcd watched")) < 12


class Gate:
    """Passes connections on to a port; those whose request has `word` in its first line
    wait until the gate is opened."""

    def __init__(self, port, word):
        import socket
        import threading
        self.word, self.is_open, self.has_come = word, threading.Event(), threading.Event()
        self._target, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = threading
        self._socket = socket
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        head = client.recv(65536)
        if self.word in head.split(b"\r\n")[0]:
            self.has_come.set()
            self.is_open.wait(30)
        server = self._socket.create_connection(("127.0.0.1", self._target))
        server.sendall(head)
        self._threads.Thread(target=self._pump, args=(client, server), daemon=True).start()
        self._pump(server, client)

    def _pump(self, source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(self._socket.SHUT_RDWR)
            except OSError:
                pass

    def wait(self):
        assert self.has_come.wait(20)

    def open(self):
        self.is_open.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


# What it is for


@pytest.mark.parametrize("rest", ["open", "closed"])
def test_writers_of_a_pool_notice_a_switchover_by_a_wait_alone(cluster, pool, rest):
    """Where Patroni's REST API does not answer, its keys prove the new primary: and a login that shows
    in_hot_standby = off."""
    closed = ", ".join(f"{node.name}={node.address}:{node.port}:1" for node in cluster.nodes)
    r = pool(main={"pool_mode": "transaction"},
             check={**cluster.etcd_settings(), **({"nodes": closed} if rest == "closed" else {})})
    old = cluster.leader()
    r.log.wait("primary changed", **{"is": old.name})
    with join(r) as connection:
        connection.execute("drop table if exists noticed")
        connection.execute("create table noticed (writer int, number int)")
    errors, acknowledged, is_over = [], [], threading.Event()

    def write(writer):
        number = 0
        try:
            with join(r) as connection:
                while not is_over.is_set():
                    connection.execute("insert into noticed values (%s, %s)", (writer, number))
                    acknowledged.append((writer, number))
                    number += 1
                    time.sleep(0.005)
        except Exception as error:  # whatever the driver raises
            errors.append(repr(error))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    assert process.wait_until(lambda: len(acknowledged) > 200, 30)
    new = cluster.switchover()
    cluster.wait_for_roles()
    ended = r.log.wait("hold ended", seconds=30)
    assert (ended["left"], ended["is"], ended["outcome"]) == (old.name, new.name, "changed")
    (proof,) = r.log.find("primary changed", **{"is": new.name})
    assert proof["evidence"].startswith("etcd: ") == (rest == "closed")
    n = len(acknowledged)
    assert process.wait_until(lambda: errors or len(acknowledged) > n + 200, 30)
    is_over.set()
    for thread in threads:
        thread.join(30)
    assert not errors
    rows = cluster.leader().sql("select string_agg(writer || ':' || number, ',') from noticed", "app")
    assert sorted(rows.split(",")) == sorted(f"{writer}:{number}" for writer, number in acknowledged)
