"""Patroni's REST API behind TLS: checks of nodes, and SWITCHOVER."""

import os
import shutil
import subprocess

import pytest

from cluster.certificates import Authority
from test_switchover import managed, order, refusal

__all__ = ["managed"]


@pytest.fixture(scope="module")
def running_cluster(own_cluster):
    """One of its own: a Patroni 3.0 that has gone back to http does not reach the others
    any more."""
    return own_cluster(n_nodes=2)


@pytest.fixture
def secured(cluster):
    """Function that lets Patroni speak TLS, as Cluster.secure_rest()."""
    return cluster.secure_rest


def trusting(cluster, **more):
    return {"restapi_tls": "verify-full", "restapi_ca_file": cluster.ca, **more}


def with_certificate(cluster):
    key, certificate = cluster.client_certificate()
    return trusting(cluster, restapi_cert_file=certificate, restapi_key_file=key)


def see_primary(router, mark=0):
    router.log.wait("primary changed", since=mark)


def change(router, **settings):
    """Where the log stood before."""
    mark = router.log.mark()
    router.sections["cluster main"].update(settings)
    router.reload()
    return mark


def is_not_asked(router, cluster, mark, why=""):
    node = cluster.leader().name
    change = router.log.wait("node changed", seconds=20, since=mark, node=node, **{"is": "down"})
    assert why in change["evidence"], change


def test_whom_it_trusts(cluster, managed, secured, tmp_path):
    secured()
    stranger = Authority(str(tmp_path)).certificate
    r = managed(**trusting(cluster))
    for trust, why in (({"restapi_tls": "off", "restapi_ca_file": ""}, ""),
                       ({"restapi_ca_file": stranger}, "certificate"),
                       ({"restapi_tls": "verify-ca", "restapi_ca_file": stranger}, "certificate")):
        is_not_asked(r, cluster, change(r, **trust), why)
        see_primary(r, change(r, **trusting(cluster)))
    assert "proven" in order(r)


def test_whom_the_certificate_names(cluster, managed, secured, tmp_path):
    stranger = Authority(str(tmp_path)).certificate
    secured(names_node=False)
    r = managed(**trusting(cluster, restapi_tls="require", restapi_ca_file=""))
    is_not_asked(r, cluster, change(r, **trusting(cluster)), "no alternative certificate subject name")
    see_primary(r, change(r, restapi_tls="verify-ca"))
    is_not_asked(r, cluster, change(r, restapi_ca_file=stranger), "certificate")


def test_a_certificate_of_our_own(cluster, managed, secured):
    secured("required")
    r = managed(**trusting(cluster), wait=False)
    is_not_asked(r, cluster, 0)
    see_primary(r, change(r, **with_certificate(cluster)))
    assert "proven" in order(r)
    cluster.heal()
    secured("optional")
    change(r, restapi_cert_file="", restapi_key_file="")
    assert "client certificate required" in refusal(r, "SWITCHOVER")[1]


def test_a_new_certificate_is_read(cluster, managed, secured, tmp_path):
    """As they are renewed in place: with the next reload, or a little later by itself."""
    secured("required")
    authority = Authority(str(tmp_path))
    strange_key, strange = authority.issue("router", ["127.0.0.1"])
    r = managed(**trusting(cluster, restapi_cert_file=strange, restapi_key_file=strange_key), wait=False)
    is_not_asked(r, cluster, 0)
    key, certificate = cluster.client_certificate()
    mark = r.log.mark()
    shutil.copy(key, strange_key)
    shutil.copy(certificate, strange)
    see_primary(r, mark)


def test_files_that_cannot_be_read(cluster, managed, secured, program, tmp_path):
    secured()
    r = managed(**trusting(cluster))
    ini = os.path.join(r.folder, "pgrouter.ini")
    mark = r.log.mark()
    r.sections["cluster main"].update(restapi_ca_file=str(tmp_path / "nowhere.crt"))
    r.reload("configuration not reloaded, the old one goes on")
    assert "nowhere.crt" in r.log.wait("configuration", since=mark)["error"]
    checked = subprocess.run([program, "-t", ini], check=False, capture_output=True, text=True)
    assert checked.returncode == 1
    assert checked.stderr.startswith("[cluster main] restapi_tls: CA file"), checked.stderr
    assert "proven" in order(r), "what was goes on"
