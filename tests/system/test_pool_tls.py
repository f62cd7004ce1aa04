"""TLS of pools, with clients and with servers, and logins by SCRAM that are bound to it."""

import contextlib
import gc
import os
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import psycopg
import pytest

from cluster import process
from cluster.certificates import Authority
from harness import wire
from harness.fake_postgres import FakePostgres, friendly
from harness.pools import Later, errors_of, join, one, pid_of
from harness.tls import (context_of, encrypt, encrypt_directly, for_clients, is_refused_in_silence,
                         server_context)
from harness.wire import Client

HANDSHAKE_RECORD = 0x16


# Certificates


@pytest.fixture
def folder():
    """Also the cluster's account may read what is here."""
    path = tempfile.mkdtemp(prefix="pgrouter-tls-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def authority(folder):
    return Authority(folder)


@pytest.fixture
def stranger(folder):
    """Another authority, whom nobody trusts."""
    elsewhere = os.path.join(folder, "elsewhere")
    os.mkdir(elsewhere)
    return Authority(elsewhere)


def replace(path, by):
    """As renewals do: the file is never half written."""
    shutil.copy(by, path + ".new")
    os.rename(path + ".new", path)


def renew(settings, authority, name):
    """The same files, with another key and certificate."""
    key, certificate = authority.issue(name, ("127.0.0.1", "localhost"))
    replace(settings["client_tls_key_file"], key)
    replace(settings["client_tls_cert_file"], certificate)


def refusal(router, **more):
    with pytest.raises(psycopg.OperationalError) as caught:
        join(router, **more).close()
    why = str(caught.value)
    del caught
    gc.collect()  # libpq leaves the socket open as long as somebody could ask what went wrong
    return why


def still_serves(router, **more):
    with join(router, **more) as client:
        assert one(client, "select 1") == 1
    return True


def certificate_of(router):
    """What a client is shown, in DER."""
    with encrypt(Client(router.at("pool"))) as client:
        return client.socket.getpeercert(binary_form=True)


def s_client(router, *arguments):
    """What OpenSSL's own client says of its connection."""
    host, port = router.at("pool")
    return subprocess.run(
        ["openssl", "s_client", "-starttls", "postgres", "-connect", f"{host}:{port}", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False).stdout


# Listeners


@pytest.mark.parametrize("sslmode, in_clear, in_secret, without_certificate", [
    ("disable", True, False, None),
    ("allow", True, True, True),
    ("prefer", True, True, True),
    ("require", False, True, True),
    ("verify-ca", False, True, False),
    ("verify-full", False, True, False)])
def test_client_tls_sslmode(pool, authority, sslmode, in_clear, in_secret, without_certificate):
    r = pool(main=for_clients(authority, sslmode, client_tls_ca_file=authority.certificate))
    key, certificate = authority.issue("app", ["app"])
    with Client(r.at("pool")) as client:
        client.send(wire.ssl_request())
        assert client.receive(1) == (b"S" if in_secret else b"N")
    if in_clear:
        assert still_serves(r, sslmode="disable")
    else:
        assert "SSL required" in refusal(r, sslmode="disable")
        with Client(r.at("pool")) as client:
            client.send(wire.startup(user="app", database="app"))
            assert client.error()["C"] == "28000"
            assert client.at_end()
    if in_secret:
        verified = {"sslmode": "verify-full", "sslrootcert": authority.certificate}
        with join(r, **verified, sslcert=certificate, sslkey=key) as client:
            assert client.pgconn.ssl_in_use
            assert one(client, "select repeat('x', 300000)") == "x" * 300000
        if without_certificate:
            assert still_serves(r, **verified)
        else:
            assert "certificate required" in refusal(r, **verified)
            r.log.wait("client refused", reason="TLS_FAILED", text="peer did not return a certificate")
    else:
        assert "does not support SSL" in refusal(r, sslmode="require")


def test_client_tls_ca_file(pool, authority, stranger):
    r = pool(main=for_clients(authority, "verify-full", client_tls_ca_file=authority.certificate))
    for issuer, is_known in ((authority, True), (stranger, False)):
        key, certificate = issuer.issue("app", ["app"])
        way = {"sslmode": "require", "sslcert": certificate, "sslkey": key}
        if is_known:
            assert still_serves(r, **way)
        else:
            assert "SSL error" in refusal(r, **way) or "unknown ca" in refusal(r, **way)


def test_auth_type_cert(cluster, pool, authority):
    """The certificate's common name is the user's, and nobody asks for a password."""
    r = pool(main=for_clients(authority, "verify-full", client_tls_ca_file=authority.certificate,
                              auth_type="cert"))
    key, certificate = authority.issue("app", ["app"])
    way = {"sslmode": "require", "sslcert": certificate, "sslkey": key, "password": "wrong"}
    with join(r, **way) as client:
        assert one(client, "select current_user") == "app"
    for user in ("postgres", "nobody", "app\u0301"):
        assert "certificate authentication failed" in refusal(r, user=user, database="app", **way)
    key, certificate = authority.issue("nobody", ["app"])
    way.update(sslcert=certificate, sslkey=key)
    assert "certificate authentication failed" in refusal(r, user="nobody", database="app", **way)


def test_auth_ident_map(pool, authority, folder):
    """Whose certificate may log in as whom; a reload reads the file again."""
    path = os.path.join(folder, "ident.conf")

    def write(text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    write("# maps\nother  ann  postgres\nours  ann  app\nours  /^(.*)@example\\.com$  \\1\n")
    r = pool(main=for_clients(authority, "verify-full", client_tls_ca_file=authority.certificate,
                              auth_type="cert", auth_ident_file=path, auth_ident_map="ours"))

    def may(name, user):
        key, certificate = authority.issue(name, ["x"])
        way = {"sslmode": "require", "sslcert": certificate, "sslkey": key, "user": user, "database": "app"}
        try:
            with join(r, **way) as client:
                return one(client, "select current_user") == user
        except psycopg.OperationalError as error:
            assert "certificate authentication failed" in str(error)
            return False

    assert may("ann", "app") and not may("ann", "postgres") and not may("app", "app")
    assert may("app@example.com", "app") and may("postgres@example.com", "postgres")
    assert not may("postgres@example.com", "app") and not may("app@example.com.net", "app")
    assert not may("nobody@example.com", "nobody"), "users stand in auth_file"
    write("ours app app\n")
    r.reload()
    assert may("app", "app") and not may("ann", "app")
    write("ours app\n")
    r.reload("configuration not reloaded, the old one goes on")
    assert may("app", "app")


def test_a_unix_socket_needs_no_tls(cluster, pool, authority, folder):
    path = os.path.join(folder, ".s.PGSQL.6432")
    os.chmod(folder, 0o777)
    r = pool(main=for_clients(authority), listener={"bind": path})
    with psycopg.connect(host=folder, port=6432, user="app", dbname="app",
                         password=cluster.passwords["app"]) as client:
        assert one(client, "select 1") == 1
    with Client(path) as client:
        client.send(wire.ssl_request())
        assert client.receive(1) == b"N"
    r.stop()


def test_client_tls_protocols(pool, authority):
    r = pool(main=for_clients(authority, client_tls_protocols="tlsv1.2"))
    with encrypt(Client(r.at("pool"))) as client:
        assert client.socket.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError), Client(r.at("pool")) as client:
        encrypt(client, context_of(version=ssl.TLSVersion.TLSv1_3))
    r.sections["pgrouter"]["client_tls_protocols"] = "secure"
    r.reload()
    with encrypt(Client(r.at("pool"))) as client:
        assert client.socket.version() == "TLSv1.3"


def test_client_tls_ciphers(pool, authority):
    wanted = "ECDHE-ECDSA-CHACHA20-POLY1305"
    r = pool(main=for_clients(authority, client_tls_ciphers=wanted))
    with encrypt(Client(r.at("pool")), context_of(version=ssl.TLSVersion.TLSv1_2)) as client:
        assert client.socket.cipher()[0] == wanted
    with pytest.raises(ssl.SSLError), Client(r.at("pool")) as client:
        encrypt(client, context_of(version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"))


def test_client_tls13_ciphers(pool, authority):
    wanted = "TLS_CHACHA20_POLY1305_SHA256"
    r = pool(main=for_clients(authority, client_tls13_ciphers=wanted))
    with encrypt(Client(r.at("pool"))) as client:
        assert client.socket.cipher()[0] == wanted


def test_client_tls_ecdhcurve(pool, authority):
    r = pool(main=for_clients(authority, client_tls_ecdhcurve="secp384r1"))
    assert "Cipher is TLS_AES" in s_client(r, "-groups", "secp384r1")
    assert "Cipher is (NONE)" in s_client(r, "-groups", "prime256v1")


def rsa_identity(folder, name="rsa"):
    key, certificate = (os.path.join(folder, f"{name}.{end}") for end in ("key", "crt"))
    process.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
                 f"/CN={name}", "-keyout", key, "-out", certificate])
    return {"client_tls_key_file": key, "client_tls_cert_file": certificate}


@pytest.mark.parametrize("dheparams, works", [("auto", True), ("none", False)])
def test_client_tls_dheparams(pool, authority, folder, dheparams, works):
    r = pool(main={**for_clients(authority), **rsa_identity(folder), "client_tls_dheparams": dheparams,
                   "client_tls_ciphers": "DHE-RSA-AES256-GCM-SHA384"})
    said = s_client(r, "-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384")
    assert ("Server Temp Key: DH" in said) is works, said


def test_sessions_of_clients_are_resumed(pool, authority):
    r = pool(main=for_clients(authority, client_tls_protocols="tlsv1.2"))
    context = context_of()
    with encrypt(Client(r.at("pool")), context) as client:
        session = client.socket.session
    with Client(r.at("pool")) as client:
        client.send(wire.ssl_request())
        assert client.receive(1) == b"S"
        client.socket = context.wrap_socket(client.socket, server_hostname="127.0.0.1", session=session)
        assert client.socket.session_reused


# Files, and what is wrong with them


@pytest.mark.parametrize("setting, value, says", [
    ("client_tls_cert_file", "/nowhere.crt", "No such file"),
    ("client_tls_key_file", "/nowhere.key", "No such file"),
    ("client_tls_ca_file", "/nowhere.ca", "No such file"),
    ("client_tls_protocols", "tlsv9", "expected"),
    ("client_tls_ciphers", "NONSENSE", "cipher"),
    ("client_tls13_ciphers", "NONSENSE", "cipher"),
    ("client_tls_ecdhcurve", "nonsense", "curve"),
    ("client_tls_dheparams", "nonsense", "expected"),
    ("server_tls_ca_file", "/nowhere.ca", "No such file"),
    ("server_tls_cert_file", "/nowhere.crt", "key file"),
    ("server_tls_protocols", "tlsv9", "expected"),
])
def test_a_setting_that_will_not_do_is_named_at_the_start(pool, authority, setting, value, says):
    main = for_clients(authority, "verify-full", client_tls_ca_file=authority.certificate,
                       server_tls_sslmode="verify-ca", server_tls_ca_file=authority.certificate)
    r = pool(main={**main, setting: value}, wait=False)
    error = r.log.wait("cannot start")["error"]
    assert error.startswith(setting + ": ") and says in error
    tested = subprocess.run([r.program, "-t", r.ini], capture_output=True, text=True, timeout=20, check=False)
    assert tested.returncode == 1 and tested.stderr == error + "\n"
    assert r.process.wait(10) == 1
    r.kill()


def test_certificates_are_read_again_by_a_reload(pool, authority):
    settings = for_clients(authority)
    r = pool(main=settings)
    way = {"sslmode": "verify-full", "sslrootcert": authority.certificate, "channel_binding": "require"}
    before = certificate_of(r)
    with join(r, **way) as old:
        renew(settings, authority, "renewed")
        r.reload()
        after = certificate_of(r)
        assert after != before
        assert one(old, "select 1") == 1, "a session is not disturbed"
        assert still_serves(r, **way), "bound to the new one"


def test_certificates_are_read_again_when_the_files_change(pool, authority):
    settings = for_clients(authority)
    r = pool(main=settings)
    before = certificate_of(r)
    renew(settings, authority, "renewed")
    r.log.wait("certificates read again")
    assert certificate_of(r) != before
    assert still_serves(r, sslmode="require", channel_binding="require")


def test_a_bad_file_leaves_the_certificate_that_was(pool, authority, folder):
    settings = for_clients(authority)
    r = pool(main=settings)
    before = certificate_of(r)
    nonsense = os.path.join(folder, "nonsense")
    with open(nonsense, "w", encoding="ascii") as file:
        file.write("nonsense\n")
    replace(settings["client_tls_cert_file"], nonsense)
    error = r.log.wait("certificate not read again, the old one goes on")["error"]
    assert settings["client_tls_cert_file"] in error
    assert certificate_of(r) == before
    r.reload()
    assert certificate_of(r) == before and still_serves(r, sslmode="require")
    r.sections["pgrouter"]["client_tls_cert_file"] = nonsense
    r.reload(expect="configuration not reloaded, the old one goes on")
    assert r.log.wait("configuration")["error"].startswith("client_tls_cert_file: ")
    assert certificate_of(r) == before
    r.sections["pgrouter"]["client_tls_cert_file"] = settings["client_tls_cert_file"]
    renew(settings, authority, "renewed")
    r.log.wait("certificates read again")
    assert certificate_of(r) != before


def test_a_reload_that_fails_does_not_lose_a_renewed_certificate(pool, authority):
    settings = for_clients(authority)
    r = pool(main=settings)
    before = certificate_of(r)
    renew(settings, authority, "renewed")
    r.sections["pgrouter"]["pool_mode"] = "nonsense"
    r.reload(expect="configuration not reloaded, the old one goes on")
    assert process.wait_until(lambda: certificate_of(r) != before, 10)


# SCRAM, bound to the connection


def scram_offer(client):
    """Mechanisms."""
    client.send(wire.startup(user="app", database="app"))
    kind, body = client.message()
    assert kind == "R" and body[:4] == b"\0\0\0\x0a", (kind, body)
    return [name.decode() for name in body[4:].split(b"\0") if name]


def choose(client, mechanism, first):
    client.send(wire.message("p", mechanism.encode() + b"\0" + len(first).to_bytes(4, "big") + first))


def test_plus_is_offered_over_tls_alone(pool, authority):
    r = pool(main=for_clients(authority, "prefer"))
    with Client(r.at("pool")) as client:
        assert scram_offer(client) == ["SCRAM-SHA-256"]
    with encrypt(Client(r.at("pool"))) as client:
        assert scram_offer(client) == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
    assert still_serves(r, sslmode="require", channel_binding="require")
    assert still_serves(r, sslmode="require", channel_binding="disable")
    assert "channel binding" in refusal(r, sslmode="disable", channel_binding="require")


def test_plus_is_not_offered_for_a_certificate_without_a_hash(pool, authority, folder):
    key, certificate = (os.path.join(folder, f"ed25519.{end}") for end in ("key", "crt"))
    process.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "30", "-subj",
                 "/CN=ed25519", "-keyout", key, "-out", certificate])
    r = pool(main={**for_clients(authority), "client_tls_key_file": key, "client_tls_cert_file": certificate})
    with encrypt(Client(r.at("pool"))) as client:
        assert scram_offer(client) == ["SCRAM-SHA-256"]
    assert still_serves(r, sslmode="require")


def test_a_client_that_was_told_of_no_plus_is_warned_of_a_downgrade(pool, authority):
    r = pool(main=for_clients(authority))
    with encrypt(Client(r.at("pool"))) as client:
        scram_offer(client)
        choose(client, "SCRAM-SHA-256", b"y,,n=,r=abcdefghijklmnopqrst")
        assert client.error()["C"] == "28000"
        assert client.at_end()
    r.log.wait("client refused", reason="WRONG_BINDING")
    with encrypt(Client(r.at("pool"))) as client:
        scram_offer(client)
        choose(client, "SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnopqrst")
        assert client.message()[0] == "R"


def carry(near, far):
    """Between two TLS sockets, until one of them ends."""
    while True:
        ready = [end for end in (near, far) if end.pending()] or select.select([near, far], [], [], 20)[0]
        for end in ready:
            data = end.recv(65536)
            if not data:
                return
            (near if end is far else far).sendall(data)


def between(identity, to):
    """A script of FakePostgres: somebody with a certificate of its own who reads along."""
    context = server_context(identity)

    def script(connection):
        code, _ = connection.packet()
        assert code == wire.SSL_REQUEST
        connection.send(b"S")
        near = context.wrap_socket(connection.socket, server_side=True)
        connection.socket = near
        with Client(to) as far:
            carry(near, encrypt(far).socket)
    return script


def test_somebody_between_client_and_router_is_noticed(cluster, pool, authority, stranger):
    r = pool(main=for_clients(authority))
    identity = stranger.issue("thief", ["127.0.0.1"])
    with FakePostgres(between(identity, r.at("pool"))) as thief:
        dsn = {"host": "127.0.0.1", "port": thief.port, "user": "app", "dbname": "app",
               "password": cluster.passwords["app"], "sslmode": "require", "gssencmode": "disable"}
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            psycopg.connect(**dsn)
        with psycopg.connect(**dsn, channel_binding="disable") as client:
            assert one(client, "select 1") == 1, "who does not bind does not notice"
    r.log.wait("client refused", reason="WRONG_BINDING")


def test_somebody_between_router_and_server_is_noticed(cluster, pool, stranger):
    leader = cluster.leader()
    identity = stranger.issue("thief", ["127.0.0.1"])
    with FakePostgres(between(identity, (leader.address, leader.port))) as thief:
        r = pool(databases={"app": f"host=127.0.0.1 port={thief.port}"})
        assert "channel binding" in refusal(r)
        assert "channel binding" in r.log.wait("server lost")["text"]
        r.stop()


def test_logins_to_servers_go_on_when_their_certificate_changes(cluster, pool, authority):
    leader = cluster.leader()
    key, certificate = authority.issue("renewed", [leader.address], cluster.account)
    r = pool(main={"server_tls_sslmode": "require", "pool_mode": "session"})
    try:
        with join(r) as before:
            assert one(before, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            leader.reload(ssl_key_file=key, ssl_cert_file=certificate)
            assert process.wait_until(
                lambda: one(before, "show ssl_cert_file") == certificate, 10)
            with join(r) as after:
                assert pid_of(after) != pid_of(before)
                assert one(after, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    finally:
        leader.sql("alter system reset ssl_key_file")
        leader.sql("alter system reset ssl_cert_file")
        leader.sql("select pg_reload_conf()")


# Servers


def over_tls(identity, seen):
    """A script of FakePostgres: it has TLS, and tells of each connection in `seen`."""
    context = server_context(identity)

    def script(connection):
        code, _ = connection.packet()
        if code == wire.SSL_REQUEST:
            connection.send(b"S")
            connection.socket = context.wrap_socket(connection.socket, server_side=True)
            seen.append({"version": connection.socket.version(), "cipher": connection.socket.cipher()[0],
                         "was_resumed": connection.socket.session_reused})
            friendly(connection)
        else:
            seen.append({"code": code})
    return script


def over_direct_tls(identity, seen, alpn="postgresql"):
    """The same as PostgreSQL 17: TLS begins at once. Who asks for it first is sent away."""
    context = server_context(identity)
    if alpn is not None:
        context.set_alpn_protocols([alpn])

    def script(connection):
        first = connection.socket.recv(1, socket.MSG_PEEK)
        if first == b"":  # a check
            return
        if first != b"\x16":
            seen.append("asked")
            return
        connection.socket = context.wrap_socket(connection.socket, server_side=True)
        seen.append(connection.socket.selected_alpn_protocol())
        friendly(connection)
    return script


def of_fake(pool, server, **main):
    return pool(main={"auth_type": "trust", "server_login_retry": "200ms", **main}, secrets={"app": ""},
                databases={"app": f"host={server.address} port={server.port}"})


@pytest.mark.parametrize("sslmode, is_secret, is_demanded", [
    ("disable", False, False), ("allow", True, False), ("prefer", True, False), ("require", True, True),
    ("verify-ca", True, True), ("verify-full", True, True)])
def test_server_tls_sslmode(cluster, pool, sslmode, is_secret, is_demanded):
    main = {"server_tls_sslmode": sslmode, "server_tls_ca_file": cluster.ca}
    with join(pool(main=main)) as client:
        assert one(client, "select ssl from pg_stat_ssl where pid = pg_backend_pid()") is is_secret
        assert one(client, "select repeat('x', 300000)") == "x" * 300000
    with FakePostgres() as without:
        r = of_fake(pool, without, **main)
        if is_demanded:
            assert "server_tls_sslmode" in refusal(r)
        else:
            with join(r) as client:
                assert one(client, "select") == "fake"
        r.stop()


def test_server_tls_ca_file(cluster, pool, stranger):
    r = pool(main={"server_tls_sslmode": "verify-ca", "server_tls_ca_file": stranger.certificate})
    assert "TLS with the node" in refusal(r)
    r.log.wait("server lost", sqlstate=28000)
    r.sections["pgrouter"]["server_tls_ca_file"] = cluster.ca
    r.reload()
    assert process.wait_until(lambda: serves(r, connect_timeout=3), 5), "it is asked again at once"


def serves(router, **more):
    with contextlib.suppress(psycopg.OperationalError):
        return still_serves(router, **more)
    return False


@pytest.mark.parametrize("sslmode, works", [("require", True), ("verify-ca", True), ("verify-full", False)])
def test_verify_full_asks_for_the_nodes_name(pool, authority, sslmode, works):
    with FakePostgres(over_tls(authority.issue("elsewhere", ["elsewhere"]), [])) as server:
        r = of_fake(pool, server, server_tls_sslmode=sslmode, server_tls_ca_file=authority.certificate)
        if works:
            assert serves_fake(r)
        else:
            assert "mismatch" in refusal(r)
        r.stop()


def serves_fake(router):
    with join(router) as client:
        return one(client, "select") == "fake"


def test_server_tls_cert_file(cluster, pool):
    """The node knows us by it."""
    key, certificate = (os.path.join(cluster.folder, f"node.{end}") for end in ("key", "crt"))
    r = pool(main={"server_tls_sslmode": "require", "server_tls_key_file": key,
                   "server_tls_cert_file": certificate})
    with join(r) as client:
        assert one(client, "select client_dn from pg_stat_ssl where pid = pg_backend_pid()") == "/CN=node"


@pytest.mark.parametrize("setting, value, column, expected", [
    ("server_tls_protocols", "tlsv1.2", "version", "TLSv1.2"),
    ("server_tls_protocols", "secure", "version", "TLSv1.3")])
def test_server_tls_protocols(pool, setting, value, column, expected):
    with join(pool(main={setting: value})) as client:
        assert one(client, f"select {column} from pg_stat_ssl where pid = pg_backend_pid()") == expected


def test_server_tls_ciphers(pool):
    wanted = "ECDHE-ECDSA-CHACHA20-POLY1305"
    with join(pool(main={"server_tls_protocols": "tlsv1.2", "server_tls_ciphers": wanted})) as client:
        assert one(client, "select cipher from pg_stat_ssl where pid = pg_backend_pid()") == wanted


def test_server_tls13_ciphers(pool):
    wanted = "TLS_CHACHA20_POLY1305_SHA256"
    with join(pool(main={"server_tls13_ciphers": wanted})) as client:
        assert one(client, "select cipher from pg_stat_ssl where pid = pg_backend_pid()") == wanted


def test_servers_are_opened_anew_when_the_settings_change(pool):
    r = pool(main={"server_tls_sslmode": "disable", "pool_mode": "transaction"})
    is_secret = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
    with join(r) as client:
        assert one(client, is_secret) is False
        r.sections["pgrouter"]["server_tls_sslmode"] = "require"
        r.reload()
        assert process.wait_until(lambda: one(client, is_secret), 5)


def test_sessions_with_servers_are_resumed(pool, authority):
    seen = []
    with FakePostgres(over_tls(authority.issue("fake", ["127.0.0.1"]), seen)) as server:
        r = of_fake(pool, server, server_tls_sslmode="verify-full", server_tls_ca_file=authority.certificate,
                    server_lifetime="0", workers=1)
        for _ in range(3):
            assert serves_fake(r)
        r.stop()
    assert [connection["was_resumed"] for connection in seen[:3]] == [False, True, True]


def test_bytes_behind_a_servers_answer_end_the_connection(pool):
    """CVE-2021-23222, CVE-2021-3935: what is not encrypted must not pass for such."""
    def script(connection):
        code, _ = connection.packet()
        assert code == wire.SSL_REQUEST
        connection.send(b"S" + connection.server.login_answer())
        assert connection.at_end()

    with FakePostgres(script) as server:
        r = of_fake(pool, server)
        assert "more than that" in refusal(r)
        r.stop()
        assert server.errors == []


@pytest.mark.parametrize("answer", [b"N" + b"Z", b"X", b"\0" * 100])
def test_nonsense_in_place_of_a_servers_answer(pool, answer):
    def script(connection):
        connection.packet()
        connection.send(answer)
        connection.at_end()

    with FakePostgres(script) as server:
        r = of_fake(pool, server)
        assert "TLS with the node" in refusal(r)
        r.stop()


@pytest.mark.parametrize("says", [b"", b"S"])
def test_a_server_that_is_silent_in_the_handshake_is_given_up(pool, says):
    def script(connection):
        connection.packet()
        connection.send(says)
        connection.receive(100000)

    with FakePostgres(script) as server:
        r = of_fake(pool, server, server_connect_timeout="500ms", query_wait_timeout="2s")
        begin = time.monotonic()
        assert "query_wait_timeout" in refusal(r)
        assert time.monotonic() - begin < 10
        r.log.wait("server lost", state="CONNECTING")
        r.stop()


# Cancel requests


def sleeper(client):
    process_id, key = client.log_in()
    client.send(wire.query("select pg_sleep(30)"))
    time.sleep(0.3)
    return process_id, key


@pytest.mark.parametrize("how", ["plain", "tls", "direct"])
def test_a_cancel_request_inside_tls(pool, authority, how):
    r = pool(main=for_clients(authority, auth_type="trust", server_tls_sslmode="require"))
    with encrypt(Client(r.at("pool"))) as client:
        process_id, key = sleeper(client)
        with Client(r.at("pool")) as other:
            if how == "tls":
                encrypt(other)
            elif how == "direct":
                encrypt_directly(other, context_of(alpn="postgresql"))
            other.send(wire.cancel_request(process_id, key))
            assert other.at_end()
        assert errors_of(client.messages_until("Z")) == ["57014"]


@pytest.mark.parametrize("sslmode, is_secret", [("disable", False), ("require", True)])
def test_a_cancel_request_goes_to_the_server_as_its_connection_does(pool, authority, sslmode, is_secret):
    context = server_context(authority.issue("fake", ["127.0.0.1"]))
    asked = threading.Event()

    def slow(connection):
        if is_secret:
            code, _ = connection.packet()
            assert code == wire.SSL_REQUEST
            connection.send(b"S")
            connection.socket = context.wrap_socket(connection.socket, server_side=True)
        code, body = connection.packet()
        if code == wire.CANCEL_REQUEST:
            connection.server.cancels.append(body)
            return
        connection.send(connection.server.login_answer())
        connection.message()
        asked.set()
        assert process.wait_until(lambda: connection.server.cancels, 10)
        connection.send(wire.error("57014", "cancelled", severity="ERROR") + wire.message("Z", b"I"))
        connection.message()

    with FakePostgres(slow) as server:
        r = of_fake(pool, server, server_tls_sslmode=sslmode)
        with Client(r.at("pool")) as client:
            process_id, key = client.log_in()
            client.send(wire.query("slow"))
            assert asked.wait(10)
            with Client(r.at("pool")) as other:
                other.send(wire.cancel_request(process_id, key))
                assert other.at_end()
            assert client.error()["C"] == "57014"
        assert len(server.cancels) == 1 and server.errors == []
        r.stop()


# Direct TLS


def test_direct_tls_with_alpn(pool, authority):
    r = pool(main=for_clients(authority, auth_type="trust"))
    with encrypt_directly(Client(r.at("pool")), context_of(authority, alpn="postgresql")) as client:
        assert client.socket.selected_alpn_protocol() == "postgresql"
        client.log_in()
        assert client.ask("select 1")[-1][0] == "Z"


def test_direct_tls_in_small_pieces(pool, authority):
    r = pool(main=for_clients(authority, auth_type="trust"))
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context_of(alpn="postgresql").wrap_bio(arriving, leaving, server_hostname="127.0.0.1")
    with Client(r.at("pool")) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def dribble():
            for byte in leaving.read():
                client.send(bytes([byte]))

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                dribble()
                arriving.write(client.socket.recv(65536))
        tls.write(wire.startup(user="app", database="app"))
        dribble()
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                assert tls.read(1) == b"R"
                break
            arriving.write(client.socket.recv(65536))


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_direct_tls_without_our_alpn_is_refused(pool, authority, alpn):
    r = pool(main=for_clients(authority))
    with Client(r.at("pool")) as client, pytest.raises((ssl.SSLError, OSError)):
        encrypt_directly(client, context_of(alpn=alpn))
    assert "ALPN" in r.log.wait("client refused", reason="TLS_FAILED")["text"]
    assert still_serves(r)


def test_direct_tls_where_there_is_none(pool):
    r = pool()
    with Client(r.at("pool")) as client, pytest.raises((ssl.SSLError, OSError)):
        encrypt_directly(client, context_of(alpn="postgresql"))
    r.log.wait("client refused", reason="TLS_MISSING")


def test_asking_for_tls_with_other_alpn_than_ours(pool, authority):
    """libpq before 17 asks by SSLRequest and names no protocol; another one is a mistake."""
    r = pool(main=for_clients(authority))
    with pytest.raises((ssl.SSLError, OSError)), Client(r.at("pool")) as client:
        encrypt(client, context_of(alpn="http/1.1"))
    assert still_serves(r)


# Hostile clients


@pytest.mark.parametrize("request_of", [wire.ssl_request, wire.gssenc_request])
def test_bytes_behind_a_request_to_encrypt_end_the_connection(pool, authority, request_of):
    """CVE-2021-23214: what is not encrypted must not pass for such."""
    r = pool(main=for_clients(authority, "prefer", auth_type="trust"))
    for more in (wire.startup(user="app", database="app"), bytes([HANDSHAKE_RECORD]), b"\0"):
        with Client(r.at("pool")) as client:
            client.send(request_of() + more)
            assert is_refused_in_silence(client)
    r.log.wait("client refused", reason="TLS_TOO_SOON")
    assert still_serves(r)


@pytest.mark.parametrize("request_of", [wire.ssl_request, wire.gssenc_request])
def test_requests_to_encrypt_inside_of_tls_are_refused(pool, authority, request_of):
    r = pool(main=for_clients(authority))
    with encrypt(Client(r.at("pool"))) as client:
        client.send(request_of())
        assert is_refused_in_silence(client)
    with encrypt_directly(Client(r.at("pool")), context_of(alpn="postgresql")) as client:
        client.send(request_of())
        assert is_refused_in_silence(client)
    with encrypt(Client(r.at("pool"))) as client:
        client.send(bytes([HANDSHAKE_RECORD, 3, 1, 0, 100]))
        assert is_refused_in_silence(client)
    assert still_serves(r)


@pytest.mark.parametrize("requests", [
    [wire.ssl_request, wire.ssl_request], [wire.gssenc_request, wire.gssenc_request]])
def test_who_was_told_no_may_not_ask_again(pool, requests):
    r = pool()
    with Client(r.at("pool")) as client:
        client.send(requests[0]())
        assert client.receive(1) == b"N"
        client.send(requests[1]())
        assert is_refused_in_silence(client)
    with Client(r.at("pool")) as client:
        for request_of in (wire.gssenc_request, wire.ssl_request):
            client.send(request_of())
            assert client.receive(1) == b"N"
        assert scram_offer(client) == ["SCRAM-SHA-256"]


@pytest.mark.parametrize("says", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
def test_silence_in_the_handshake_ends_in_time(pool, authority, says):
    r = pool(main=for_clients(authority, client_login_timeout="700ms"))
    with Client(r.at("pool")) as client:
        client.send(wire.ssl_request())
        assert client.receive(1) == b"S"
        client.send(says)
        begin = time.monotonic()
        assert is_refused_in_silence(client)
        assert 0.2 < time.monotonic() - begin < 5
    r.log.wait("client refused", reason="LOGIN_TIMEOUT")
    with encrypt(Client(r.at("pool"))) as client:  # and after it
        assert is_refused_in_silence(client)


@pytest.mark.parametrize("says", [
    b"GET / HTTP/1.0\r\n\r\n", b"\0" * 3000, b"\x16\x03\x01\xff\xff" + b"x" * 70000,
    b"\x15\x03\x01\x00\x02\x02\x28", b"\x17\x03\x03\x00\x10" + b"y" * 16])
def test_nonsense_in_the_handshake_ends_that_connection(pool, authority, says):
    r = pool(main=for_clients(authority))
    with Client(r.at("pool")) as client:
        client.send(wire.ssl_request())
        assert client.receive(1) == b"S"
        with contextlib.suppress(OSError):
            client.send(says)
            while client.socket.recv(65536):  # an alert, at most
                pass
    r.log.wait("client refused", reason="TLS_FAILED")
    assert still_serves(r)


def test_a_client_that_leaves_in_the_handshake(pool, authority):
    r = pool(main=for_clients(authority))
    for leave in (Client.close, Client.reset, Client.finish):
        client = Client(r.at("pool"))
        client.send(wire.ssl_request())
        assert client.receive(1) == b"S"
        leave(client)
        client.close()
    assert still_serves(r)


def test_forged_records_end_that_connection(pool, authority):
    r = pool(main=for_clients(authority, auth_type="trust"))
    with encrypt(Client(r.at("pool"))) as client, still_open(r) as other:
        client.log_in()
        raw = socket.socket(fileno=client.socket.detach())
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"z" * 32)
        raw.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(65536):
                pass
        raw.close()
        client.socket = socket.socket()
        assert one(other, "select 1") == 1


@contextlib.contextmanager
def still_open(router, **more):
    with join(router, sslmode="require", **more) as client:
        assert one(client, "select 1") == 1
        yield client


def test_many_clients_over_tls_at_once(pool, authority, workers):
    r = pool(main=for_clients(authority, "require", pool_mode="transaction", default_pool_size=4,
                              server_tls_sslmode="require"))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(join(r, sslmode="require", channel_binding="require"))
                   for _ in range(24)]
        answers = [Later(lambda c=c, i=i: [one(c, f"select {i} + n from generate_series({k}, {k}) n")
                                           for k in range(20)])
                   for i, c in enumerate(clients)]
        for i, answer in enumerate(answers):
            assert answer.result(30) == [i + k for k in range(20)]


def test_bulk_over_tls_both_ways(pool, authority):
    r = pool(main=for_clients(authority, server_tls_sslmode="require"))
    line = "x" * 1000 + "\n"
    with join(r, sslmode="require") as client:
        with client.cursor() as cursor:
            with cursor.copy("copy (select repeat('y', 1000) from generate_series(1, 20000)) to stdout") as copy:
                assert sum(len(piece) for piece in copy) == 20000 * 1001
            cursor.execute("create temp table bulk (line text)")
            with cursor.copy("copy bulk from stdin") as copy:
                for _ in range(20000):
                    copy.write(line)
            cursor.execute("select count(*), sum(length(line)) from bulk")
            assert cursor.fetchone() == (20000, 20000000)


@pytest.mark.parametrize("protocol, pool_mode", [
    ("simple", "transaction"), ("extended", "transaction"), ("prepared", "session")])
def test_pgbench_over_tls_both_ways(cluster, pool, authority, folder, protocol, pool_mode):
    script = os.path.join(folder, "script.sql")
    with open(script, "w", encoding="ascii") as file:
        file.write("\\set n random(1, 1000)\nselect :n, ssl from pg_stat_ssl where pid = pg_backend_pid();\n")
    r = pool(main=for_clients(authority, pool_mode=pool_mode, server_tls_sslmode="require"))
    host, port = r.at("pool")
    said = subprocess.run(
        [os.path.join(cluster.programs, "pgbench"), "-n", "-M", protocol, "-c", "8", "-j", "2", "-t", "50",
         "-f", script, "-h", host, "-p", str(port), "-U", "app", "app"],
        env={**os.environ, "PGPASSWORD": cluster.passwords["app"], "PGSSLMODE": "verify-full",
             "PGSSLROOTCERT": authority.certificate, "PGCHANNELBINDING": "require"},
        capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert "number of failed transactions: 0" in said.stdout
    assert "processed: 400/400" in said.stdout


# Direct TLS with servers


DIRECT = {"server_tls_sslnegotiation": "direct", "server_tls_sslmode": "require"}


def test_server_tls_sslnegotiation(pool, authority):
    """TLS begins without a question, with ALPN; requests to cancel likewise."""
    seen = []
    with FakePostgres(over_direct_tls(authority.issue("fake", ["127.0.0.1"]), seen)) as server:
        r = of_fake(pool, server, **DIRECT, server_tls_ca_file=authority.certificate)
        for sslmode in ("require", "verify-ca", "verify-full"):
            r.sections["pgrouter"]["server_tls_sslmode"] = sslmode
            r.reload()
            assert serves_fake(r)
        assert set(seen) == {"postgresql"}
        with join(r) as client:
            assert one(client, "select") == "fake"
            client.cancel()
            assert process.wait_until(lambda: server.cancels, 5)
        assert set(seen) == {"postgresql"}
        r.stop()
        r = of_fake(pool, server, server_tls_sslmode="require", query_wait_timeout="2s")
        refusal(r)
        assert "asked" in seen
        r.stop()


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_a_server_that_does_not_agree_on_the_protocol_is_not_spoken_to(pool, authority, alpn):
    """Else what is meant for PostgreSQL might be taken by another kind of server."""
    seen = []
    with FakePostgres(over_direct_tls(authority.issue("fake", ["127.0.0.1"]), seen, alpn)) as server:
        r = of_fake(pool, server, **DIRECT)
        assert "ALPN" in refusal(r)
        r.stop()


def test_a_server_that_does_not_know_direct_tls(cluster, pool):
    """As PostgreSQL before 17: it takes the ClientHello for a packet, and closes."""
    r = pool(main={**DIRECT, "query_wait_timeout": "2s"})
    assert "server" in refusal(r)
    r.log.wait("server lost")


def test_sslnegotiation_of_a_cluster(cluster, pool, authority):
    """It goes before the general one."""
    seen = []
    with FakePostgres(over_direct_tls(authority.issue("fake", ["127.0.0.1"]), seen)) as server:
        r = pool(main={"auth_type": "trust", "server_tls_sslmode": "require"},
                 databases={"app": "cluster=main", "new": "cluster=seventeen"},
                 more={"cluster seventeen": {"nodes": f"a=127.0.0.1:{server.port}", "check": "tcp",
                                             "sslnegotiation": "direct"}})
        with join(r, database="new") as client:
            assert one(client, "select") == "fake"
        assert seen == ["postgresql"] and still_serves(r)
        r.stop()
