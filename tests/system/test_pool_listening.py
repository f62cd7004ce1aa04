"""Where clients of [databases] come in, in files that were written for PgBouncer."""

import grp
import os
import stat

import psycopg
import pytest

from harness.ports import free_port


@pytest.fixture
def as_pgbouncer(cluster, start_router, tmp_path):
    """A router with such a file; its port."""
    def start(**main):
        (tmp_path / "userlist.txt").write_text(f'"app" "{cluster.passwords["app"]}"\n')
        leader, port = cluster.leader(), free_port()
        sections = {
            "databases": {"app": f"host={leader.address} port={leader.port} dbname=app",
                          "*": f"host={leader.address} port={leader.port}"},
            "pgbouncer": {"listen_addr": "127.0.0.1", "listen_port": port, "auth_type": "scram-sha-256",
                          "auth_file": tmp_path / "userlist.txt", "pool_mode": "session",
                          "unix_socket_dir": "", "max_client_conn": 100, "default_pool_size": 5,
                          "ignore_startup_parameters": "extra_float_digits", **main},
            "stats": {"bind": f"127.0.0.1:{free_port()}"}}
        return start_router(sections=sections, passwords=cluster.passwords), port

    return start


def ask(cluster, host, port):
    dsn = cluster.dsn(host, port, "app")
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute("select current_database()").fetchone()[0]


@pytest.mark.parametrize("address, reached", [
    ("127.0.0.1", ["127.0.0.1"]), ("127.0.0.2, ::1", ["127.0.0.2", "::1"]), ("*", ["127.0.0.1", "::1"])])
def test_listen_addr_and_listen_port(cluster, as_pgbouncer, address, reached):
    _, port = as_pgbouncer(listen_addr=address)
    assert [ask(cluster, host, port) for host in reached] == ["app"] * len(reached)
    if address == "127.0.0.1":
        with pytest.raises(psycopg.OperationalError):
            ask(cluster, "127.0.0.2", port)


def test_unix_socket_dir(cluster, as_pgbouncer, tmp_path):
    r, port = as_pgbouncer(unix_socket_dir=tmp_path, listen_addr="", unix_socket_mode="0770")
    path = os.path.join(tmp_path, f".s.PGSQL.{port}")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o770
    assert ask(cluster, tmp_path, port) == "app"
    with pytest.raises(psycopg.OperationalError):
        ask(cluster, "127.0.0.1", port)
    r.stop()
    assert not os.path.exists(path)


def test_unix_socket_group(cluster, as_pgbouncer, tmp_path):
    _, port = as_pgbouncer(unix_socket_dir=tmp_path, listen_addr="", unix_socket_group="tty")
    path = os.path.join(tmp_path, f".s.PGSQL.{port}")
    assert os.stat(path).st_gid == grp.getgrnam("tty").gr_gid
    assert ask(cluster, tmp_path, port) == "app"
