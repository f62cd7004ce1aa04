"""Nodes that are named by host names."""

import os
import time

import pytest

from cluster import process
from harness.background import Background
from harness.dns import NameServer, view
from harness.fake_node import ask_who, refusal, who
from harness.fake_postgres import FakePostgres
from harness.wire import Client

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="/etc/hosts of a program's own needs root")

CHECK = {"check": "tcp", "check_interval": "300ms", "check_fast_interval": "50ms", "check_timeout": "1s"}
ANY = {"rw": {"role": "any"}}


@pytest.fixture
def names():
    with NameServer() as server:
        yield server


@pytest.fixture
def two_places():
    """The same port on two addresses: what a name may lead to."""
    with FakePostgres(name="old", address="127.0.0.71") as old, \
            FakePostgres(name="new", address="127.0.0.72", port=old.port) as new:
        yield old, new


def reaches(router, name, seconds=15):
    return process.wait_until(lambda: ask_who(router.at()) == name, seconds)


def test_a_name_is_followed_when_its_address_changes(start_router, names, two_places, tmp_path):
    """Also while the old address still answers, however long its record may be kept."""
    old, new = two_places
    names.records["db.test"] = [old.address]
    r = start_router(nodes=f"db.test:{old.port}", cluster=CHECK, listeners=ANY,
                     main={"dns_min_ttl": "200ms", "dns_max_ttl": "500ms"},
                     prefix=names.prefix(tmp_path))
    assert ask_who(r.at()) == "old"
    kept = Client(r.at())
    kept.log_in()

    names.records["db.test"] = [new.address]
    assert reaches(r, "new")
    assert r.csv()["rw", "db"]["addr"] == f"{new.address}:{new.port}"
    assert who(kept) == "old"  # a session is where it is
    kept.close()

    names.ttl = 0  # records that must not be kept are kept for dns_min_ttl all the same
    n, began = names.asked["db.test"], time.monotonic()
    assert process.wait_until(lambda: names.asked["db.test"] > n + 5, 15)
    at_most = (time.monotonic() - began) / 0.2 + 2
    assert names.asked["db.test"] - n <= at_most

    r.sections["pgrouter"].update(dns_min_ttl="1h", dns_max_ttl="1h")
    r.reload()
    n = names.asked["db.test"]
    assert process.wait_until(lambda: names.asked["db.test"] > n, 10)  # the one that was due
    n += 1
    assert not process.wait_until(lambda: names.asked["db.test"] > n, 1)


def test_a_ttl_between_the_bounds_is_kept(start_router, names, two_places, tmp_path):
    old, _ = two_places
    names.records["db.test"] = [old.address]
    names.ttl = 1
    began = time.monotonic()
    start_router(nodes=f"db.test:{old.port}", cluster=CHECK, listeners=ANY,
                 main={"dns_min_ttl": "100ms", "dns_max_ttl": "1h"}, prefix=names.prefix(tmp_path))
    assert process.wait_until(lambda: names.asked["db.test"] >= 3, 20)
    assert time.monotonic() - began > 1.9
    assert names.asked["db.test"] <= (time.monotonic() - began) + 2


def test_a_node_that_refuses_is_looked_up_again_at_once(start_router, names, two_places, tmp_path):
    old, new = two_places
    names.records["db.test"] = [old.address]
    r = start_router(nodes=f"db.test:{old.port}", cluster=CHECK, listeners=ANY,
                     main={"dns_min_ttl": "100ms", "dns_max_ttl": "1h"}, prefix=names.prefix(tmp_path))
    assert ask_who(r.at()) == "old"
    names.records["db.test"] = [new.address]
    old.refuse()
    assert reaches(r, "new")


def test_the_last_good_answer_is_kept(start_router, names, two_places, tmp_path):
    old, _ = two_places
    names.records["db.test"] = [old.address]
    r = start_router(nodes=f"db.test:{old.port}", cluster=CHECK, listeners=ANY,
                     main={"dns_min_ttl": "100ms", "dns_max_ttl": "100ms"}, prefix=names.prefix(tmp_path))
    del names.records["db.test"]
    n = names.asked["db.test"]
    assert process.wait_until(lambda: names.asked["db.test"] > n + 2, 10)
    assert ask_who(r.at()) == "old"
    assert not r.log.find("node changed", **{"is": "down"})


def test_an_unresolvable_name_is_a_node_that_is_down(start_router, names, two_places, tmp_path):
    old, new = two_places
    r = start_router(nodes=f"a=a.test:{old.port}, b={new.address}:{new.port}", cluster=CHECK,
                     listeners={"rw": {"role": "any", "balance": "roundrobin"}},
                     main={"dns_min_ttl": "100ms", "dns_max_ttl": "500ms"}, prefix=names.prefix(tmp_path))
    down = r.log.wait("node changed", node="a", **{"is": "down"})
    assert "the name is not resolved" in down["evidence"]
    assert {ask_who(r.at()) for _ in range(4)} == {"new"}
    assert r.csv()["rw", "a"]["status"] == "DOWN"
    assert "not resolved" in r.get("/stats")[2]

    names.records["a.test"] = [old.address]
    r.log.wait("node changed", node="a", was="down")
    assert {ask_who(r.at()) for _ in range(4)} == {"old", "new"}


def test_nothing_but_unresolvable_names(start_router, names, tmp_path):
    r = start_router(nodes="a.test:5432, b.test:5432", cluster=CHECK,
                     listeners={"rw": {"role": "any", "queue_timeout": "300ms"}},
                     prefix=names.prefix(tmp_path))
    assert r.is_ready()
    assert refusal(r.at())["C"] == "57P03"


def test_a_silent_resolver_stalls_nobody(start_router, names, two_places, tmp_path):
    """At the end of every test each loop says how long its longest iteration was."""
    old, new = two_places
    names.silent = True
    hosts = ", ".join(f"n{n}.test:{old.port}" for n in range(20))
    r = start_router(nodes=f"{hosts}, b={new.address}:{new.port}", cluster=CHECK,
                     listeners=ANY, prefix=names.prefix(tmp_path), wait=False)
    r.log.wait("node changed", node="b", **{"is": "up"})
    with Background(lambda: ask_who(r.at())) as asking:
        assert process.wait_until(lambda: len(names.asked) == 20, 10)
        asking.wait_for(20)
        r.wait_until_ready(30)
        assert r.get("/stats")[0] == 200
        r.reload()
        asking.wait_for(20)
    assert set(asking.results) == {"new"} and not asking.errors

    names.records["n7.test"] = [old.address]
    names.silent = False
    r.log.wait("node changed", seconds=30, node="n7", was="down")


def test_the_hosts_file_is_asked_first(start_router, names, two_places, tmp_path):
    old, new = two_places
    names.records["db.test"] = [new.address]
    r = start_router(nodes=f"db.test:{old.port}", cluster=CHECK, listeners=ANY,
                     main={"dns_min_ttl": "100ms", "dns_max_ttl": "200ms"},
                     prefix=names.prefix(tmp_path, hosts=f"{old.address} db.test\n"))
    assert ask_who(r.at()) == "old"
    with open(os.path.join(tmp_path, "hosts"), "w", encoding="ascii") as file:
        file.write(f"{new.address} db.test\n")
    assert reaches(r, "new")


def test_another_name_server_is_noticed(start_router, names, two_places, tmp_path):
    old, new = two_places
    names.records["db.test"] = [old.address]
    r = start_router(nodes=f"db.test:{old.port}", cluster=CHECK, listeners=ANY,
                     main={"dns_min_ttl": "100ms", "dns_max_ttl": "200ms"}, prefix=names.prefix(tmp_path))
    assert ask_who(r.at()) == "old"
    with NameServer() as other:
        other.records["db.test"] = [new.address]
        with open(os.path.join(tmp_path, "resolv.conf"), "w", encoding="ascii") as file:
            file.write(other.resolv_conf())
        assert reaches(r, "new")


def test_without_any_name_server(start_router, two_places, tmp_path):
    old, _ = two_places
    r = start_router(nodes=f"gone.test:{old.port}, b={old.address}:{old.port}", cluster=CHECK,
                     listeners=ANY, prefix=view(tmp_path, resolv_conf="", hosts=""), wait=False)
    r.log.wait("node changed", node="b", **{"is": "up"})
    assert ask_who(r.at()) == "old"
    r.wait_until_ready(30)


def test_a_name_with_several_addresses(start_router, names, two_places, tmp_path):
    """One after the other: the first that answers serves."""
    old, new = two_places
    names.records["db.test"] = [old.address, new.address]
    old.refuse()
    r = start_router(nodes=f"db.test:{old.port}", cluster=CHECK, listeners=ANY, prefix=names.prefix(tmp_path))
    assert {ask_who(r.at()) for _ in range(4)} == {"new"}
    old.open()
    new.refuse()
    assert reaches(r, "old")


def test_a_name_of_both_families(start_router, names, tmp_path):
    with FakePostgres(name="six", address="::1") as six:
        names.records["db.test"] = ["127.0.0.79", "::1"]
        r = start_router(nodes=f"db.test:{six.port}", cluster=CHECK, listeners=ANY, prefix=names.prefix(tmp_path))
        assert ask_who(r.at()) == "six"


def test_the_name_goes_to_patroni_as_host(start_router, names, tmp_path):
    """Patroni behind a proxy is found by its name; the connection goes to the address."""
    heads = []

    def patroni(connection):
        heads.append(connection.socket.recv(4096))
        connection.send(b'HTTP/1.0 200 OK\r\n\r\n{"state": "running", "role": "primary", "timeline": 1}')

    names.records["db.test"] = ["127.0.0.73"]
    with FakePostgres(name="only", address="127.0.0.73") as only, \
            FakePostgres(patroni, address="127.0.0.73") as rest:
        r = start_router(nodes=f"db.test:{only.port}:{rest.port}", cluster={**CHECK, "check": "patroni"},
                         prefix=names.prefix(tmp_path))
        assert ask_who(r.at()) == "only"
        assert heads[0].startswith(b"GET /primary HTTP/1.")
        assert f"Host: db.test:{rest.port}\r\n".encode() in heads[0]
