"""docker/postgres with real PostgreSQL, Patroni and etcd: what its image runs, outside of containers."""

import contextlib
import getpass
import glob
import http.server
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import tomllib

import pytest
import yaml
from conftest import TOP
from cluster import network, process
from cluster.cluster import postgres_programs, request

psycopg2 = pytest.importorskip("psycopg2")

SCRIPTS = os.path.join(TOP, "docker", "postgres")
MAJORS = [str(major) for major in range(13, 19)]
PASSWORD = "railway"

NASTY = {
    "quotes": """it's "quoted" ``""", "dollars": "$HOME ${PATH} $$ $1", "commands": "$(touch /tmp/x) `id` ; id",
    "colons": "a: b: c #d", "backslashes": "\\ \\\\ \\n \\'", "newline": "line 1\nline 2\n- a: b",
    "braces": "{a: [1, 2]} {{ x }} %s %(x)s", "yaml": "&a *a !!python/object:os.system | > - ? @",
    "template": "<%= 7*7 %>", "numbers": "0123", "none": "null", "truth": "yes", "spaces": "  in the middle  ",
    "unicode": "päss\u00a0\u2028\u0085word\U0001f418", "control": "\x01\x1b[31m\x7f\t", "sql": "'; drop table x; --",
    "dollar quotes": "$$; select 1; $$ $a$ $a$", "format": "%I %L %%", "psql": ":'a' :\"b\" :c \\q \\! id",
    "long": "x" * 900}


def programs_first(*more):
    return ":".join([*more, postgres_programs(), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"])


@pytest.fixture
def folder():
    """Short, for sockets; the user postgres can reach it."""
    path = tempfile.mkdtemp(prefix="pgi", dir="/tmp")
    os.chmod(path, 0o755)
    yield path
    for data in glob.glob(os.path.join(path, "**", "PG_VERSION"), recursive=True):
        process.kill_postgres(os.path.dirname(data))
    process.remove_tree(path)


def run(script, *arguments, environment=None, seconds=60, **options):
    """A script as a command that ends by itself."""
    return subprocess.run([os.path.join(SCRIPTS, script), *arguments], text=True, capture_output=True,
                          timeout=seconds, check=False, stdin=subprocess.DEVNULL,
                          env={"PATH": programs_first(), "LANG": "C.UTF-8", **(environment or {})}, **options)


class Container:
    """What one container would be: a volume, an environment, the image's entry."""

    def __init__(self, folder, name="plain", address="127.0.0.1", **environment):
        self.folder, self.name, self.address = os.path.join(folder, name), name, address
        self.volume = os.path.join(self.folder, "volume")
        self.sockets, self.run = (os.path.join(self.folder, part) for part in ("s", "run"))
        os.makedirs(self.folder, mode=0o755)
        self.port = network.free_port(address)
        self.environment = {
            "PATH": programs_first(), "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_USER": "railway",
            "RAILWAY_VOLUME_MOUNT_PATH": self.volume, "POSTGRES_SOCKET_DIR": self.sockets,
            "PATRONI_RUN_DIR": self.run, "POSTGRES_PARAM_fsync": "off",
            "POSTGRES_PARAM_shared_buffers": "16MB",
            "POSTGRES_INITDB_DIR": os.path.join(self.folder, "initdb.d"), **environment}
        self.process, self.log, self.output = None, "", ""

    def command(self):
        return [os.path.join(SCRIPTS, "wrapper.sh"), "postgres", "-p", str(self.port)]

    def start(self, **more):
        environment = {key: text for key, text in {**self.environment, **more}.items() if text is not None}
        self.log, self.output = "", ""
        # Whoever ran the tests under nohup had this signal ignored, and then a shell cannot heed it.
        self.process = subprocess.Popen(
            ["env", "--default-signal=HUP", *self.command()], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, text=True, errors="replace", cwd="/")
        for stream, kept in ((self.process.stderr, "log"), (self.process.stdout, "output")):
            threading.Thread(target=self._read, args=(self.process, stream, kept), daemon=True).start()

    def _read(self, started, stream, kept):
        for line in stream:
            if started is self.process:
                setattr(self, kept, getattr(self, kept) + line)

    @property
    def everything(self):
        return self.log + self.output

    def wait_for(self, words, seconds=60):
        assert process.wait_until(lambda: re.search(words, self.everything), seconds), \
            f"{self.name} has not said {words!r}:\n{self.everything[-4000:]}"

    def status(self, seconds=60):
        """Exit status; a process that does not end fails the test."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended:\n{self.everything[-4000:]}") from None

    def fails_with(self, words, status=1, **more):
        self.start(**more)
        assert self.status() == status, self.everything
        self.wait_for(words, 5)

    def stop(self, seconds=60):
        self.process.terminate()
        return self.status(seconds)

    def kill(self):
        """All of it, at once, as when the machine loses its power."""
        if self.process is not None and self.process.poll() is None:
            process.Identity.of(self.process.pid).kill_family()
            self.process.wait()
        for data in self.data_folders():
            process.kill_postgres(data)

    def data_folders(self):
        found = glob.glob(os.path.join(self.volume, "**", "PG_VERSION"), recursive=True)
        return [os.path.dirname(path) for path in found if "/base/" not in path]

    @property
    def data(self):
        return os.path.join(self.volume, "pgdata")

    def connect(self, user="railway", password=PASSWORD, database=None, **more):
        found = psycopg2.connect(host=self.address, port=self.port, user=user, password=password,
                                 dbname=database or user, connect_timeout=5, **more)
        found.autocommit = True
        return found

    def can_connect(self, **more):
        try:
            self.connect(**more).close()
        except psycopg2.OperationalError:
            return False
        return True

    def wait_until_up(self, seconds=60, **more):
        assert process.wait_until(lambda: self.process.poll() is not None or self.can_connect(**more), seconds,
                                  step=0.1) and self.process.poll() is None, self.everything[-4000:]

    def sql(self, query, *values, **more):
        """First column of the answer, one line for each row."""
        with contextlib.closing(self.connect(**more)) as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return [row[0] for row in cursor.fetchall()] if cursor.description else None

    def as_superuser(self, query, *values, user="postgres", database="postgres"):
        """Through the socket, as somebody inside the container."""
        with contextlib.closing(psycopg2.connect(host=self.sockets, port=self.port, user=user,
                                                 dbname=database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query, values or None)
                return [row[0] for row in cursor.fetchall()] if cursor.description else None

    def control(self, data=None):
        """How PostgreSQL has ended."""
        text = process.run([os.path.join(postgres_programs(), "pg_controldata"), data or self.data],
                           env={"LC_ALL": "C"})
        return re.search("Database cluster state: *(.*)", text).group(1)

    def is_postgres_there(self):
        return any(process.postgres_processes(data) for data in self.data_folders())


@pytest.fixture
def containers(folder):
    made = []

    def make(*arguments, **environment):
        made.append(Container(folder, *arguments, **environment))
        return made[-1]

    yield make
    for container in made:
        container.kill()


@pytest.fixture
def plain(containers):
    """PostgreSQL alone."""
    return containers()


# patroni.yml


BASE = {"PATRONI_NAME": "postgres-1", "PATRONI_ETCD3_HOSTS": "etcd-1:2379,etcd-2:2379",
        "PATRONI_REPLICATION_PASSWORD": "r", "POSTGRES_USER": "railway", "POSTGRES_PASSWORD": "p",
        "PGDATA": "/v/pgdata"}


def write_settings(folder, **environment):
    path = os.path.join(folder, "patroni.yml")
    environment = {key: text for key, text in {**BASE, **environment}.items() if text is not None}
    return run("patroni_settings.py", "write", path, environment=environment), path


def settings(folder, **environment):
    done, path = write_settings(folder, **environment)
    assert done.returncode == 0, done.stderr
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def patronis(path):
    """The same as Patroni itself reads it."""
    code = "import json, sys; from patroni.config import Config; " \
        "print(json.dumps(Config(sys.argv[1]).local_configuration if hasattr(Config, 'local_configuration') " \
        "else Config(sys.argv[1])._local_configuration))"
    return json.loads(process.run(["/usr/bin/python3", "-c", code, path], env={"PATH": "/usr/bin:/bin"}))


def passwords(folder):
    """What libpq finds in the password file, for each role."""
    with open(os.path.join(folder, "pgpass"), encoding="utf-8", newline="\n") as file:
        lines = file.read().removesuffix("\n").split("\n")
    rows = [[re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:[^:\\]|\\.)+", line)] for line in lines]
    assert all(row[:3] == ["*"] * 3 and len(row) == 5 for row in rows)
    return {row[3]: row[4] for row in rows}


@pytest.mark.parametrize("nasty", [pytest.param(text, id=name) for name, text in NASTY.items()])
def test_values_come_out_as_they_went_in(folder, nasty):
    variables = {"POSTGRES_PARAM_search_path": nasty}
    if "\n" not in nasty:
        variables.update(PATRONI_SUPERUSER_PASSWORD=nasty, PATRONI_REPLICATION_PASSWORD=nasty)
    if len(nasty) < 60 and "\n" not in nasty and "\x01" not in nasty:
        variables.update(PATRONI_REPLICATION_USERNAME=nasty)
        if "/" not in nasty:
            variables.update(PATRONI_NAME=nasty, PATRONI_SCOPE=nasty)
    expected = settings(folder)
    got = settings(folder, **variables)
    expected["postgresql"]["parameters"]["search_path"] = nasty
    if "PATRONI_REPLICATION_USERNAME" in variables:
        expected["postgresql"]["authentication"]["replication"]["username"] = nasty
        quoted = nasty.replace('"', '""')
        expected["postgresql"]["pg_hba"][2] = f'host replication "{quoted}" all scram-sha-256'
    if "PATRONI_NAME" in variables:
        expected["name"] = expected["scope"] = nasty
        for section, port in (("restapi", 8008), ("postgresql", 5432)):
            host = f"[{nasty}]" if ":" in nasty else nasty
            expected[section]["connect_address"] = f"{host}:{port}"
    assert got == expected
    assert patronis(os.path.join(folder, "patroni.yml")) == expected
    assert passwords(folder) == {"postgres": variables.get("PATRONI_SUPERUSER_PASSWORD", "p"), variables.get(
        "PATRONI_REPLICATION_USERNAME", "replicator"): variables.get("PATRONI_REPLICATION_PASSWORD", "r")}


def test_a_pg_hba_file_takes_nasty_names(plain):
    """As PostgreSQL itself reads the lines that are generated."""
    plain.start()
    plain.wait_until_up()
    names = [name for name in NASTY.values() if len(name) < 60 and not re.search("[\n\x01]", name)]
    lines = [settings(plain.folder, PATRONI_REPLICATION_USERNAME=name)["postgresql"]["pg_hba"][2] for name in names]
    with open(os.path.join(plain.data, "pg_hba.conf"), "a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    read = plain.as_superuser("select user_name[1] from pg_hba_file_rules where database = '{replication}' "
                              "and address = 'all' and error is null order by line_number", user="railway")
    assert read == names


@pytest.mark.parametrize("variables, path, expected", [
    ({}, "scope", "railway-pg-ha"),
    ({"PATRONI_SCOPE": "main"}, "scope", "main"),
    ({}, "name", "postgres-1"),
    ({}, "etcd3.hosts", ["etcd-1:2379", "etcd-2:2379"]),
    ({"PATRONI_ETCD3_HOSTS": "'a:1', '[::1]:2'"}, "etcd3.hosts", ["a:1", "[::1]:2"]),
    ({"PATRONI_ETCD3_HOSTS": None, "PATRONI_ETCD_HOSTS": "old:2379"}, "etcd3.hosts", ["old:2379"]),
    ({}, "postgresql.connect_address", "postgres-1:5432"),
    ({}, "restapi.connect_address", "postgres-1:8008"),
    ({"RAILWAY_PRIVATE_DOMAIN": "pg.railway.internal"}, "postgresql.connect_address", "pg.railway.internal:5432"),
    ({"RAILWAY_PRIVATE_DOMAIN": "pg.railway.internal"}, "restapi.connect_address", "pg.railway.internal:8008"),
    ({"RAILWAY_PRIVATE_DOMAIN": "fd12::1"}, "postgresql.connect_address", "[fd12::1]:5432"),
    ({"PATRONI_POSTGRESQL_LISTEN": "127.0.0.5:5555"}, "postgresql.connect_address", "postgres-1:5555"),
    ({"PATRONI_RESTAPI_LISTEN": "127.0.0.5:8888"}, "restapi.listen", "127.0.0.5:8888"),
    ({}, "postgresql.listen", "*:5432"),
    ({}, "restapi.listen", "*:8008"),
    ({}, "postgresql.data_dir", "/v/pgdata"),
    ({}, "postgresql.authentication.superuser.username", "postgres"),
    ({"PATRONI_SUPERUSER_USERNAME": "admin"}, "postgresql.authentication.superuser.username", "admin"),
    ({}, "postgresql.authentication.replication.username", "replicator"),
    ({"PATRONI_REPLICATION_USERNAME": "copy"}, "postgresql.authentication.replication.username", "copy"),
    ({}, "bootstrap.dcs.failsafe_mode", True),
    ({}, "bootstrap.dcs.postgresql.use_pg_rewind", True),
    ({}, "bootstrap.dcs.postgresql.use_slots", True),
    ({}, "bootstrap.dcs.postgresql.parameters.max_connections", "200"),
    ({"POSTGRES_PARAM_max_connections": "500"}, "bootstrap.dcs.postgresql.parameters.max_connections", "500"),
    ({"POSTGRES_PARAM_WORK_MEM": "5MB"}, "postgresql.parameters.work_mem", "5MB"),
    ({"POSTGRES_PARAM_pg_stat_statements__max": "99"}, "postgresql.parameters.pg_stat_statements!max", "99"),
    ({}, "postgresql.parameters.password_encryption", "scram-sha-256"),
    ({}, "postgresql.parameters.ssl", "on"),
    ({"RAILWAY_VOLUME_MOUNT_PATH": "/v"}, "postgresql.parameters.ssl_cert_file", "/v/certs/server.crt"),
    ({}, "postgresql.before_stop", os.path.join(SCRIPTS, "before_stop.sh")),
    ({}, "postgresql.callbacks", {"on_role_change": os.path.join(SCRIPTS, "on_role_change.sh")}),
    ({}, "bootstrap.post_bootstrap", os.path.join(SCRIPTS, "post_bootstrap.sh")),
    ({}, "postgresql.pg_hba", ["local all all trust", "local replication all trust",
                               'host replication "replicator" all scram-sha-256',
                               "host all all all scram-sha-256"])])
def test_what_patroni_is_told(folder, variables, path, expected):
    found = settings(folder, **variables)
    for part in path.split("."):
        found = found[part.replace("!", ".")]
    assert found == expected


@pytest.mark.parametrize("variables, expected", [
    ({}, {"postgres": "p", "replicator": "r"}),
    ({"PATRONI_SUPERUSER_USERNAME": "admin", "PATRONI_SUPERUSER_PASSWORD": "a",
      "PATRONI_REPLICATION_USERNAME": "copy", "PATRONI_REPLICATION_PASSWORD": "c"}, {"admin": "a", "copy": "c"})])
def test_passwords_that_servers_reach_each_other_with(folder, variables, expected):
    write_settings(folder, **variables)
    assert passwords(folder) == expected
    assert os.stat(os.path.join(folder, "pgpass")).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("given, ttl, loop_wait, retry_timeout", [
    ({}, 30, 10, 10),
    ({"TTL": "45"}, 45, 10, 10),
    ({"TTL": "45", "LOOP_WAIT": "5", "RETRY_TIMEOUT": "20"}, 45, 5, 20),
    ({"TTL": "45", "LOOP_WAIT": "10", "RETRY_TIMEOUT": "30"}, 45, 10, 17),
    ({"TTL": "20"}, 20, 10, 5),
    ({"TTL": "20", "LOOP_WAIT": "60"}, 20, 14, 3),
    ({"LOOP_WAIT": "29", "RETRY_TIMEOUT": "3"}, 30, 24, 3)])
def test_timings_obey_patronis_rule(folder, given, ttl, loop_wait, retry_timeout):
    variables = {f"PATRONI_{key}": text for key, text in given.items()}
    dcs = settings(folder, **variables)["bootstrap"]["dcs"]
    assert (dcs["ttl"], dcs["loop_wait"], dcs["retry_timeout"]) == (ttl, loop_wait, retry_timeout)
    assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"]
    wanted = {"TTL": "30", "LOOP_WAIT": "10", "RETRY_TIMEOUT": "10", **given}
    changed = (wanted["LOOP_WAIT"], wanted["RETRY_TIMEOUT"]) != (str(loop_wait), str(retry_timeout))
    said = write_settings(folder, **variables)[0].stderr
    assert len(said.splitlines()) == changed and ("is more than PATRONI_TTL" in said) == changed


@pytest.mark.parametrize("variables, words", [
    ({"PATRONI_NAME": None}, "PATRONI_NAME is not set"),
    ({"PATRONI_NAME": ""}, "PATRONI_NAME is not set"),
    ({"PATRONI_NAME": "a\nscope: b"}, "PATRONI_NAME: a name is one line"),
    ({"PATRONI_NAME": "../leader"}, "PATRONI_NAME: '../leader' has a /"),
    ({"PATRONI_SCOPE": "a/b"}, "PATRONI_SCOPE: 'a/b' has a /"),
    ({"PATRONI_ETCD3_HOSTS": None}, "PATRONI_ETCD3_HOSTS is not set"),
    ({"PATRONI_ETCD3_HOSTS": "etcd-1"}, "PATRONI_ETCD3_HOSTS: 'etcd-1': expected host:port"),
    ({"PATRONI_ETCD3_HOSTS": "[a, b]"}, "expected host:port"),
    ({"PATRONI_ETCD3_HOSTS": "http://a:2379"}, "expected host:port"),
    ({"PATRONI_TTL": "soon"}, "PATRONI_TTL: 'soon' is not a number of seconds from 20 up"),
    ({"PATRONI_TTL": "19"}, "PATRONI_TTL: '19' is not a number of seconds from 20 up"),
    ({"PATRONI_LOOP_WAIT": "0"}, "PATRONI_LOOP_WAIT: '0'"),
    ({"PATRONI_RETRY_TIMEOUT": "2"}, "PATRONI_RETRY_TIMEOUT: '2'"),
    ({"PATRONI_REPLICATION_PASSWORD": None}, "PATRONI_REPLICATION_PASSWORD is not set"),
    ({"PATRONI_REPLICATION_PASSWORD": "a\nb"}, "PATRONI_REPLICATION_PASSWORD: .*line breaks"),
    ({"PATRONI_SUPERUSER_PASSWORD": "a\nb"}, "PATRONI_SUPERUSER_PASSWORD: .*line breaks"),
    ({"POSTGRES_PASSWORD": "a\nb"}, r"PATRONI_SUPERUSER_PASSWORD \(by default POSTGRES_PASSWORD\): .*line breaks"),
    ({"PATRONI_SUPERUSER_USERNAME": "a; touch /tmp/x"}, "PATRONI_SUPERUSER_USERNAME: only letters"),
    ({"PATRONI_SUPERUSER_USERNAME": "-x"}, "PATRONI_SUPERUSER_USERNAME: only letters"),
    ({"PATRONI_REPLICATION_USERNAME": "x" * 64}, "at most 63 bytes"),
    ({"PATRONI_REPLICATION_USERNAME": "a\nhost all all all trust"}, "a name is one line"),
    ({"PATRONI_REPLICATION_USERNAME": "postgres"}, "are the same"),
    ({"POSTGRES_USER": "postgres", "PATRONI_SUPERUSER_PASSWORD": "other"}, "the same, with two passwords"),
    ({"POSTGRES_USER": "replicator"}, "the same, with two passwords"),
    ({"POSTGRES_USER": "a\tb"}, "POSTGRES_USER: a name is one line"),
    ({"POSTGRES_DB": "x" * 64}, "POSTGRES_DB: a name"),
    ({"POSTGRES_PARAM_port": "1"}, "POSTGRES_PARAM_port: port is Patroni's to set"),
    ({"POSTGRES_PARAM_a-b": "1"}, "POSTGRES_PARAM_a-b: 'a-b' is not a setting's name"),
    ({"POSTGRES_PASSWORD": os.fsdecode(b"\xff")}, "POSTGRES_PASSWORD is not UTF-8")])
def test_what_patroni_cannot_be_told_is_said_in_one_sentence(folder, variables, words):
    done, _ = write_settings(folder, **variables)
    assert done.returncode == 1 and done.stdout == ""
    assert re.search(words, done.stderr) and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("variables, url", [
    ({}, "http://127.0.0.1:8008"),
    ({"PATRONI_RESTAPI_LISTEN": "0.0.0.0:9000"}, "http://127.0.0.1:9000"),
    ({"PATRONI_RESTAPI_LISTEN": "[::1]:9000"}, "http://[::1]:9000"),
    ({"PATRONI_RESTAPI_CERTFILE": "/x"}, "https://127.0.0.1:8008")])
def test_where_patroni_is_asked(folder, variables, url):
    assert write_settings(folder, **variables)[0].stdout.strip() == url


def test_patroni_yml_is_for_its_owner_only(folder):
    assert os.stat(write_settings(folder)[1]).st_mode & 0o777 == 0o600


# Certificates


class Certificates:
    def __init__(self, folder):
        self.folder = os.path.join(folder, "certs")

    def make(self, *options, **environment):
        return run("init-ssl.sh", *options, self.folder, environment=environment)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name="server.crt"):
        with open(self.path(name), encoding="ascii") as file:
            return file.read()

    def about(self, *what, name="server.crt"):
        return process.run(["openssl", "x509", "-in", self.path(name), "-noout", *what])

    def lasts(self, days):
        return subprocess.run(["openssl", "x509", "-in", self.path("server.crt"), "-noout", "-checkend",
                               str(int(days * 86400))], check=False, stdout=subprocess.DEVNULL).returncode == 0

    def is_whole(self):
        process.run(["openssl", "verify", "-CAfile", self.path("root.crt"), self.path("server.crt")])
        assert os.stat(self.path("server.key")).st_mode & 0o777 == 0o600
        assert os.stat(self.path("root.key")).st_mode & 0o777 == 0o600
        return self.about("-pubkey") == process.run(["openssl", "pkey", "-in", self.path("server.key"), "-pubout"])


@pytest.fixture
def certificates(folder):
    return Certificates(folder)


def expire(certificates, days):
    """The server's certificate becomes one that lasts so long; its authority stays."""
    process.run(["openssl", "x509", "-x509toreq", "-in", certificates.path("server.crt"), "-signkey",
                 certificates.path("server.key"), "-out", certificates.path("request")])
    process.run(["openssl", "x509", "-req", "-in", certificates.path("request"), "-CA",
                 certificates.path("root.crt"), "-CAkey", certificates.path("root.key"), "-days", str(days),
                 "-out", certificates.path("server.crt"), "-set_serial", "7"])
    assert certificates.is_whole()


def test_certificates_are_made_and_kept(certificates):
    assert certificates.make().returncode == 0
    assert certificates.is_whole()
    assert certificates.lasts(819) and not certificates.lasts(821)
    before = [certificates.read(name) for name in ("server.crt", "server.key", "root.crt", "root.key")]
    assert certificates.make("--tell").returncode == 0
    assert [certificates.read(name) for name in ("server.crt", "server.key", "root.crt", "root.key")] == before


@pytest.mark.parametrize("days, renewed", [(29, True), (31, False)])
def test_certificates_are_renewed_within_30_days(certificates, days, renewed):
    certificates.make()
    expire(certificates, days)
    before, authority = certificates.read(), certificates.read("root.crt")
    assert certificates.make("--tell").returncode == (3 if renewed else 0)
    assert (certificates.read() != before) == renewed
    assert certificates.read("root.crt") == authority, "clients trust it"
    assert certificates.is_whole() and certificates.lasts(400) == renewed


def test_an_expired_certificate_is_renewed_at_the_start_of_the_container(plain):
    plain.start()
    plain.wait_until_up()
    plain.stop()
    certificates = Certificates(plain.volume)
    expire(certificates, 10)
    plain.start()
    plain.wait_until_up(sslmode="verify-full", sslrootcert=certificates.path("root.crt"))
    assert certificates.lasts(400)


@pytest.mark.parametrize("lost", ["server.key", "server.crt", "root.crt"])
def test_certificates_that_do_not_belong_together_are_made_anew(certificates, lost):
    certificates.make()
    os.unlink(certificates.path(lost))
    if lost == "server.key":
        process.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", certificates.path(lost)])
    assert certificates.make("--tell").returncode == 3
    assert certificates.is_whole()


def test_a_certificate_of_somebody_else_is_left_alone(certificates):
    certificates.make()
    expire(certificates, 5)
    os.unlink(certificates.path("root.key"))
    before = certificates.read()
    done = certificates.make("--tell")
    assert done.returncode == 0 and "it was not made here" in done.stderr
    assert certificates.read() == before


def test_names_in_the_certificate(certificates):
    certificates.make(PATRONI_NAME="postgres-2", RAILWAY_PRIVATE_DOMAIN="fd12::7")
    names = certificates.about("-ext", "subjectAltName")
    for name in ("DNS:localhost", "DNS:postgres-2", "IP Address:127.0.0.1", "IP Address:FD12:0:0:0:0:0:0:7"):
        assert name in names


def test_a_nasty_name_is_none_of_the_certificates(certificates):
    assert certificates.make(PATRONI_NAME="a,DNS:evil", RAILWAY_PRIVATE_DOMAIN="b\nDNS:evil").returncode == 0
    assert "evil" not in certificates.about("-ext", "subjectAltName")


def test_ssl_cert_days(certificates):
    certificates.make(SSL_CERT_DAYS="90")
    assert certificates.lasts(89) and not certificates.lasts(91)


@pytest.mark.parametrize("days", ["30", "0", "x", "-5", "1;id"])
def test_ssl_cert_days_that_would_renew_at_every_start(certificates, days):
    done = certificates.make(SSL_CERT_DAYS=days)
    assert done.returncode == 1 and "is not a number of days above 30" in done.stderr


# PostgreSQL alone


def test_it_starts_from_nothing_and_again(plain):
    plain.start()
    plain.wait_until_up()
    plain.sql("create table kept as select 1 as n")
    assert plain.sql("select current_user || ' ' || current_database()") == ["railway railway"]
    assert plain.sql("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [True]
    assert plain.sql("show password_encryption") == ["scram-sha-256"]
    assert not plain.can_connect(password="wrong")
    assert plain.stop() == 0 and plain.control() == "shut down"
    plain.start()
    plain.wait_until_up()
    assert plain.sql("select n from kept") == [1]
    assert "making" not in plain.log


@pytest.mark.parametrize("nasty", [pytest.param(NASTY[name], id=name) for name in
                                   ("quotes", "dollars", "backslashes", "newline", "unicode", "psql", "sql", "long")])
def test_postgres_password(plain, nasty):
    plain.start(POSTGRES_PASSWORD=nasty)
    plain.wait_until_up(password=nasty)
    plain.stop()


@pytest.mark.parametrize("user", ["railway", "é: #`id` (x);"])  # of others PostgreSQL's initdb makes no superuser
@pytest.mark.parametrize("database", ["data", """o'Neil "x" $1 %s\\"""])
def test_postgres_user_and_db(plain, user, database):
    plain.start(POSTGRES_USER=user, POSTGRES_DB=database)
    plain.wait_until_up(user=user, database=database)
    plain.stop()


def test_a_stop_does_not_wait_for_clients(plain):
    plain.start()
    plain.wait_until_up()
    with contextlib.closing(plain.connect()):
        assert plain.stop(30) == 0
    assert plain.control() == "shut down"


def test_a_reload_of_the_container_is_postgresqls(plain):
    plain.start()
    plain.wait_until_up()
    with open(os.path.join(plain.data, "postgresql.conf"), "a", encoding="ascii") as file:
        file.write("work_mem = '9MB'\n")
    plain.process.send_signal(signal.SIGHUP)
    assert process.wait_until(lambda: plain.sql("show work_mem") == ["9MB"], 20)


def test_postgres_user_is_postgres_by_default(plain):
    plain.start(POSTGRES_USER=None)
    plain.wait_until_up(user="postgres")


def test_no_password(plain):
    plain.fails_with("POSTGRES_PASSWORD is not set", POSTGRES_PASSWORD=None)
    plain.start(POSTGRES_PASSWORD=None, POSTGRES_HOST_AUTH_METHOD="trust")
    plain.wait_until_up(password="anything")


def test_secrets_in_files(plain):
    path = os.path.join(plain.folder, "secret")
    with open(path, "w", encoding="ascii") as file:
        file.write("of a file\n")
    plain.fails_with("POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set", POSTGRES_PASSWORD_FILE=path)
    plain.fails_with("cannot be read", POSTGRES_PASSWORD=None, POSTGRES_PASSWORD_FILE="/nowhere")
    plain.start(POSTGRES_PASSWORD=None, POSTGRES_PASSWORD_FILE=path)
    plain.wait_until_up(password="of a file")


def test_postgres_param(plain):
    plain.start(POSTGRES_PARAM_max_connections="37", POSTGRES_PARAM_WORK_MEM="5MB",
                POSTGRES_PARAM_my__setting="it's $HOME \\ \"x\"")
    plain.wait_until_up()
    assert plain.sql("show max_connections") == ["37"] and plain.sql("show work_mem") == ["5MB"]
    assert plain.sql("show my.setting") == ["it's $HOME \\ \"x\""]
    plain.stop()
    plain.fails_with("POSTGRES_PARAM_a-b: 'a-b' is not a setting's name", **{"POSTGRES_PARAM_a-b": "1"})


def test_postgres_initdb_args(plain):
    plain.start(POSTGRES_INITDB_ARGS="--wal-segsize=4 --lc-messages=C")
    plain.wait_until_up()
    assert plain.sql("show wal_segment_size") == ["4MB"] and plain.sql("show lc_messages") == ["C"]


def test_arguments_of_postgres(plain):
    plain.command = lambda: [os.path.join(SCRIPTS, "wrapper.sh"), "-p", str(plain.port), "-c", "work_mem=7MB"]
    plain.start()
    plain.wait_until_up()
    assert plain.sql("show work_mem") == ["7MB"]


def test_another_command(plain):
    plain.command = lambda: [os.path.join(SCRIPTS, "wrapper.sh"), "echo", "something", "else"]
    plain.start()
    assert plain.status() == 0
    plain.wait_for("something else", 5)
    assert not os.path.exists(plain.volume)


@pytest.mark.parametrize("truth, where", [("true", "output"), ("false", "log"), (None, "log")])
def test_log_to_stdout(plain, truth, where):
    plain.start(LOG_TO_STDOUT=truth)
    plain.wait_until_up()
    plain.wait_for("ready to accept connections", 10)
    other = {"log": "output", "output": "log"}[where]
    assert "ready to accept connections" in getattr(plain, where)
    assert "ready to accept connections" not in getattr(plain, other)


def test_pgdata_below_the_volume(plain):
    data = os.path.join(plain.volume, "deep", "below")
    plain.start(PGDATA=data)
    plain.wait_until_up()
    assert plain.data_folders() == [data]


def test_pgdata_that_is_the_volume(plain):
    """New data have a folder in it; data that are there already are gone on with."""
    plain.start(PGDATA=plain.volume)
    plain.wait_until_up()
    assert plain.data_folders() == [plain.data]
    plain.sql("create table kept ()")
    plain.stop()
    moved = plain.volume + "-of-before"
    os.rename(plain.data, moved)
    shutil.rmtree(plain.volume)
    os.rename(moved, plain.volume)
    for path in (plain.volume, None):
        plain.start(PGDATA=path)
        plain.wait_until_up()
        assert plain.sql("select count(*) from kept") == [0]
        assert plain.data_folders() == [plain.volume]
        plain.stop()


def test_pgdata_without_a_volume_is_one(plain):
    plain.start(PGDATA=plain.volume, RAILWAY_VOLUME_MOUNT_PATH=None)
    plain.wait_until_up()
    assert os.path.exists(os.path.join(plain.volume, "certs", "server.crt"))


def test_pgdata_beside_the_volume(plain):
    plain.fails_with("PGDATA: /elsewhere is not on the volume", PGDATA="/elsewhere")


def test_railway_environment_takes_a_volume(plain):
    plain.fails_with("no volume is attached", RAILWAY_ENVIRONMENT="production", RAILWAY_VOLUME_MOUNT_PATH=None)
    plain.start(RAILWAY_ENVIRONMENT="production")
    plain.wait_until_up()


def test_data_of_another_major(plain):
    os.makedirs(plain.data)
    with open(os.path.join(plain.data, "PG_VERSION"), "w", encoding="ascii") as file:
        file.write("12\n")
    plain.fails_with(r"the data in .* are PostgreSQL 12's and this is 1\d")


def test_the_number_of_a_process_that_was_killed(plain):
    """It is another's now, of the same user."""
    plain.start()
    plain.wait_until_up()
    plain.stop()
    other = subprocess.Popen(process.Account().command(["sleep", "60"]))
    try:
        path = os.path.join(plain.data, "postmaster.pid")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{other.pid}\n{plain.data}\n1\n{plain.port}\n\n*\n")
        plain.start()
        plain.wait_until_up()
    finally:
        other.kill()
        other.wait()


def test_data_that_another_container_serves(plain, containers):
    plain.start()
    plain.wait_until_up()
    second = containers("second", RAILWAY_VOLUME_MOUNT_PATH=plain.volume)
    second.fails_with('lock file "postmaster.pid" already exists')
    assert plain.sql("select 1") == [1]


def test_files_that_are_not_postgresqls(plain):
    os.makedirs(plain.data)
    path = os.path.join(plain.data, "letter")
    with open(path, "w", encoding="ascii"):
        pass
    plain.fails_with("holds files, but no data of PostgreSQL")
    assert os.path.exists(path)


@pytest.mark.parametrize("words", ["making new data", "performing post-bootstrap", "database system is ready"])
def test_a_first_start_that_was_cut_off_begins_anew(plain, words):
    plain.start()
    plain.wait_for(words)
    plain.kill()
    plain.start()
    plain.wait_until_up()


def test_a_number_that_another_process_has_by_now(plain):
    """A container that was killed keeps its files, and its next processes have the same numbers."""
    private = os.path.join(plain.run, "private")
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    other = subprocess.Popen(["sleep", "300"], user=user)
    os.makedirs(private)
    with open(os.path.join(private, ".s.PGSQL.5432.lock"), "w", encoding="ascii") as file:
        file.write(f"{other.pid}\n{plain.data}\n0\n5432\n{private}\n")
    for folder in (plain.run, private):
        shutil.chown(folder, user)
    try:
        plain.start()
        plain.wait_until_up()
    finally:
        other.kill()
        other.wait()


def test_initial_files(plain):
    initial = plain.environment["POSTGRES_INITDB_DIR"]
    os.makedirs(initial)
    for name, text in (("1.sql", "create table initial (n int);"),
                       ("2.sh", f"psql -d railway -c 'insert into initial values (2)'")):
        with open(os.path.join(initial, name), "w", encoding="ascii") as file:
            file.write(text)
    plain.start()
    plain.wait_until_up()
    assert plain.sql("select n from initial") == [2]
    plain.stop()
    plain.start()
    plain.wait_until_up()
    assert plain.sql("select n from initial") == [2]


def test_an_initial_file_that_fails(plain):
    initial = plain.environment["POSTGRES_INITDB_DIR"]
    os.makedirs(initial)
    with open(os.path.join(initial, "1.sql"), "w", encoding="ascii") as file:
        file.write("no sql;")
    plain.fails_with("1.sql has failed")
    assert not os.path.exists(os.path.join(plain.data, "PG_VERSION"))
    assert process.wait_until(lambda: not plain.is_postgres_there(), 20)


def test_patroni_enabled_in_the_slim_image(plain):
    """It has no Patroni: nothing else is in this PATH."""
    tools = os.path.join(plain.folder, "bin")
    os.makedirs(tools)
    for name in os.listdir("/usr/bin"):
        if name != "patroni":
            os.symlink(os.path.join("/usr/bin", name), os.path.join(tools, name))
    plain.fails_with("takes the image with Patroni", PATRONI_ENABLED="true",
                     PATH=f"{postgres_programs()}:{tools}")
    plain.fails_with("PATRONI_ENABLED: 'maybe' is neither true nor false", PATRONI_ENABLED="maybe")


# Roles and databases


def bootstrap(container, **environment):
    return run("post_bootstrap.sh", f"host={container.sockets} port={container.port} user=railway dbname=postgres",
               environment=environment)


def test_post_bootstrap_may_be_run_again(plain):
    plain.start(POSTGRES_PARAM_log_statement="all")
    plain.wait_until_up()
    for replication, application in (("r1", "a1"), ("r2", "a2"), ("r2", "a2")):
        done = bootstrap(plain, POSTGRES_USER="app", POSTGRES_PASSWORD=application, POSTGRES_DB="data",
                         REPLICATION_USERNAME="replicator", REPLICATION_PASSWORD=replication)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert plain.can_connect(user="app", password=application, database="data")
        assert plain.can_connect(user="replicator", password=replication, database="data")
        with contextlib.closing(plain.connect(user="app", password=application, database="data")) as connection:
            with connection.cursor() as cursor:
                cursor.execute("create table if not exists t (n int)")
                cursor.execute("insert into t values (1)")
    assert plain.sql("select count(*) from t", user="app", password="a2", database="data") == [3]
    roles = plain.as_superuser("select rolname || ' ' || rolsuper || ' ' || rolreplication from pg_roles "
                               "where oid >= 16384 order by 1", user="railway")
    assert roles == ["app false false", "replicator false true"]
    assert not re.search("PASSWORD '", plain.everything), "the log shows no password"


def test_post_bootstrap_by_hand(plain_for_all):
    """With the variables of the container."""
    done = bootstrap(plain_for_all, POSTGRES_USER="hand", POSTGRES_PASSWORD="h", PATRONI_REPLICATION_USERNAME="hand_r",
                     PATRONI_REPLICATION_PASSWORD="r", PATRONI_SUPERUSER_USERNAME="hand_s",
                     PATRONI_SUPERUSER_PASSWORD="s")
    assert done.returncode == 0, done.stderr
    assert plain_for_all.sql("select rolreplication from pg_roles where rolname = current_user", user="hand_r",
                             password="r", database="hand") == [True]
    assert plain_for_all.sql("select rolsuper from pg_roles where rolname = current_user", user="hand_s",
                             password="s", database="hand") == [True]


@pytest.mark.parametrize("nasty", [pytest.param(text, id=name) for name, text in NASTY.items()])
def test_post_bootstrap_with_nasty_values(plain_for_all, nasty):
    name = nasty[:50].strip() + "!"
    done = bootstrap(plain_for_all, POSTGRES_USER=name, POSTGRES_PASSWORD=nasty, POSTGRES_DB=name,
                     REPLICATION_USERNAME=name + "r", REPLICATION_PASSWORD=nasty)
    assert done.returncode == 0, done.stderr
    assert plain_for_all.sql("select current_user::text", user=name, password=nasty) == [name]
    assert plain_for_all.can_connect(user=name + "r", password=nasty, database=name)


@pytest.fixture(scope="module")
def plain_for_all():
    path = tempfile.mkdtemp(prefix="pgi", dir="/tmp")
    os.chmod(path, 0o755)
    container = Container(path)
    container.start()
    container.wait_until_up()
    yield container
    container.kill()
    process.remove_tree(path)


# Patroni


@pytest.fixture(scope="module")
def etcd():
    """host:port of one that all tests share: each has a scope of its own."""
    path = tempfile.mkdtemp(prefix="pge", dir="/tmp")
    address = f"127.{random.randrange(128, 250)}.{random.randrange(256)}.1"
    client, peer = (f"http://{address}:{network.free_port(address)}" for _ in range(2))
    with open(os.path.join(path, "log"), "wb") as log:
        server = subprocess.Popen(
            ["etcd", "--data-dir", os.path.join(path, "data"), "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", f"default={peer}", "--unsafe-no-fsync"], stdout=log, stderr=log)
    assert process.wait_until(lambda: request(f"{client}/health")[0] == 200, 30)
    yield client.removeprefix("http://")
    server.kill()
    server.wait()
    shutil.rmtree(path)


def etcdctl(etcd, *arguments):
    return process.run(["etcdctl", f"--endpoints=http://{etcd}", *arguments],
                       env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"}).strip()


class Member(Container):
    def __init__(self, folder, name, etcd, scope, **environment):
        address = f"127.{random.randrange(64, 128)}.{random.randrange(256)}.{random.randrange(1, 250)}"
        super().__init__(folder, name, address)
        self.rest_port = network.free_port(address)
        self.environment.update({
            "PATRONI_ENABLED": "true", "PATRONI_NAME": name, "PATRONI_SCOPE": scope, "PATRONI_ETCD3_HOSTS": etcd,
            "PATRONI_REPLICATION_PASSWORD": "replicate", "PATRONI_TTL": "20", "PATRONI_LOOP_WAIT": "1",
            "PATRONI_RETRY_TIMEOUT": "5", "RAILWAY_PRIVATE_DOMAIN": address,
            "PATRONI_POSTGRESQL_LISTEN": f"{address}:{self.port}",
            "PATRONI_RESTAPI_LISTEN": f"{address}:{self.rest_port}",
            "PATRONI_HEALTH_CHECK_INTERVAL": "1", "PATRONI_HEALTH_CHECK_TIMEOUT": "1", **environment})

    def get(self, path):
        return request(f"http://{self.address}:{self.rest_port}{path}")

    def is_followed(self):
        """Who does not stream yet lacks what the leader says last, and cannot follow it as one."""
        assert process.wait_until(lambda: self.as_superuser(
            "select count(*) from pg_stat_replication where state = 'streaming'") == [1], 30), self.everything[-3000:]

    def answers(self, path, seconds=60):
        ok = process.wait_until(lambda: self.process.poll() is not None or self.get(path)[0] == 200, seconds, step=0.1)
        assert ok and self.process.poll() is None, f"{path} {self.get(path)}\n{self.everything[-5000:]}"

    def is_complete(self, seconds=30):
        ok = process.wait_until(lambda: os.path.exists(os.path.join(self.volume, ".patroni_bootstrap_complete"))
                                and not os.path.exists(os.path.join(self.volume, ".patroni_bootstrap_begun")), seconds)
        assert ok, self.everything[-4000:]

    def lead(self):
        """Started, and the leader of its cluster."""
        self.start()
        self.answers("/primary")
        self.is_complete()

    def patroni(self):
        """Its process."""
        done = subprocess.run(["pgrep", "-f", f"patroni {self.run}/patroni.yml"], capture_output=True, text=True,
                              check=True)
        return process.Identity.of(int(done.stdout.split()[0]))


@pytest.fixture
def members(folder, etcd):
    made, scope = [], f"test-{random.randrange(1 << 40)}"

    def make(name="postgres-1", **environment):
        made.append(Member(folder, name, etcd, scope, **environment))
        made[-1].scope = scope
        return made[-1]

    yield make
    for member in made:
        member.kill()


@pytest.fixture
def leader(members):
    member = members()
    member.lead()
    return member


def test_patroni_stops_with_the_container(leader):
    """PostgreSQL too, and cleanly; what was there is there again."""
    assert leader.sql("select current_user || ' ' || current_database()") == ["railway railway"]
    assert leader.sql("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [True]
    leader.sql("create table kept as select 1 as n")
    assert leader.stop() == 0
    assert leader.control() == "shut down" and not leader.is_postgres_there()
    leader.start()
    leader.answers("/primary")
    assert leader.sql("select n from kept") == [1]


def test_patroni_that_dies_ends_the_container_with_postgresql_stopped_cleanly(leader):
    leader.patroni().send(signal.SIGKILL)
    assert leader.status() == 1
    assert leader.control() == "shut down" and not leader.is_postgres_there()
    leader.wait_for("Patroni has ended with status 137", 5)


def test_patroni_that_hangs_ends_the_container_with_postgresql_stopped_cleanly(leader):
    leader.patroni().send(signal.SIGSTOP)
    assert leader.status() == 1
    assert leader.control() == "shut down" and not leader.is_postgres_there()
    leader.wait_for("does not answer", 5)
    leader.start()
    leader.answers("/primary", 90)


def test_a_container_that_is_stopped_while_patroni_hangs(leader):
    leader.patroni().send(signal.SIGSTOP)
    leader.stop()
    assert leader.control() == "shut down" and not leader.is_postgres_there()


def test_patroni_stop_timeout(members):
    """A Patroni in the place of the real one, which does not end when it is asked to."""
    member = members(PATRONI_STOP_TIMEOUT="2")
    shim = os.path.join(member.folder, "patroni")
    with open(shim, "w", encoding="ascii") as file:
        file.write("#!/usr/bin/python3\nimport signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                   "print('deaf', flush=True)\ntime.sleep(300)\n")
    os.chmod(shim, 0o755)
    member.start(PATH=programs_first(member.folder))
    member.wait_for("deaf")
    began = time.monotonic()
    assert member.stop() == 0
    assert time.monotonic() - began >= 2
    assert "killing Patroni" in member.log


def test_in_pause_mode_postgresql_stops_with_the_container(leader):
    request(f"http://{leader.address}:{leader.rest_port}/config", "PATCH", {"pause": True})
    assert process.wait_until(lambda: json.loads(leader.get("/patroni")[1]).get("pause"), 20)
    assert leader.stop() == 0
    assert leader.control() == "shut down" and not leader.is_postgres_there()


def test_patroni_that_never_answers(members):
    """The first answer may take PATRONI_STARTUP_GRACE_PERIOD."""
    member = members(PATRONI_STARTUP_GRACE_PERIOD="4", PATRONI_MAX_HEALTH_FAILURES="2",
                     PATRONI_ETCD3_HOSTS="127.0.0.1:9")
    began = time.monotonic()
    member.start()
    assert member.status() == 1
    assert time.monotonic() - began >= 5
    assert "(2 of 2)" in member.log and "(1 of 2)" in member.log


@pytest.mark.takes(240)
def test_a_replica_with_nasty_passwords(members):
    """Clones, streams, is a member after a restart, and leads when the leader has gone."""
    password = " ".join(text for name, text in NASTY.items() if name not in ("newline", "control", "long", "unicode"))
    nasty = {"POSTGRES_PASSWORD": NASTY["newline"], "PATRONI_SUPERUSER_PASSWORD": password + " s",
             "PATRONI_REPLICATION_PASSWORD": password + " r", "PATRONI_REPLICATION_USERNAME": "it's \"r\": $(id)"}
    first, second = members("postgres-1", **nasty), members("postgres-2", **nasty)
    first.lead()
    second.start()
    second.answers("/replica")
    second.is_complete()
    assert second.can_connect(password=NASTY["newline"])
    assert second.can_connect(user="postgres", password=password + " s")
    assert process.wait_until(lambda: first.as_superuser(
        "select usename::text from pg_stat_replication where state = 'streaming'") ==
        ["it's \"r\": $(id)"], 30), first.everything[-3000:]
    assert second.stop() == 0
    assert second.control() == "shut down in recovery"
    second.start()
    second.answers("/replica")
    assert "thrown away" not in second.log
    first.is_followed()
    assert first.stop() == 0
    second.answers("/primary")
    second.wait_for(f"on_role_change: postgres-2 is now primary of {second.scope}", 10)
    for member in (first, second):
        assert password not in member.everything


def test_what_the_cluster_shows_of_the_environment(members, etcd):
    member = members(POSTGRES_PARAM_max_connections="77", POSTGRES_PARAM_work_mem="5MB")
    member.lead()
    assert member.sql("show max_connections") == ["77"] and member.sql("show work_mem") == ["5MB"]
    config = json.loads(etcdctl(etcd, "get", "--print-value-only", f"/service/{member.scope}/config"))
    assert (config["ttl"], config["loop_wait"], config["retry_timeout"]) == (20, 1, 5)
    assert config["failsafe_mode"] is True
    member.stop()
    member.start(POSTGRES_PARAM_max_connections="88", PATRONI_TTL="25")
    member.answers("/primary")
    member.wait_for("the cluster's settings are now those of the environment")
    config = json.loads(etcdctl(etcd, "get", "--print-value-only", f"/service/{member.scope}/config"))
    assert config["ttl"] == 25 and config["loop_wait"] == 1 and config["failsafe_mode"] is True
    assert config["postgresql"]["parameters"]["max_connections"] == "88"
    assert config["postgresql"]["parameters"]["max_wal_senders"] == "10"


@pytest.mark.parametrize("variable, text", [
    ("PATRONI_HEALTH_CHECK_INTERVAL", "0"), ("PATRONI_HEALTH_CHECK_TIMEOUT", "x"), ("PATRONI_STOP_TIMEOUT", "1;id"),
    ("PATRONI_MAX_HEALTH_FAILURES", "-1"), ("PATRONI_STARTUP_GRACE_PERIOD", "1.5")])
def test_numbers_of_the_runner(members, variable, text):
    members().fails_with(f"{variable}: '{text}' is not a number from 1 up", **{variable: text})


def test_a_variable_that_cannot_be_used_ends_the_container(members):
    members().fails_with("PATRONI_ETCD3_HOSTS: 'x': expected", PATRONI_ETCD3_HOSTS="x")


def test_a_certificate_is_renewed_while_it_runs(members):
    member = members(SSL_CHECK_INTERVAL="1")
    member.lead()
    certificates = Certificates(member.volume)
    expire(certificates, 10)
    assert process.wait_until(lambda: certificates.lasts(400), 20), member.everything[-2000:]
    trusted = {"sslmode": "verify-full", "sslrootcert": certificates.path("root.crt")}
    assert process.wait_until(lambda: member.can_connect(**trusted), 10)


# Data of others, and data that are not complete


@pytest.mark.takes(240)
@pytest.mark.parametrize("user", ["railway", "postgres", "é: #`id` (x);"])
def test_existing_data_are_adopted(members, plain, user):
    """Those of a plain PostgreSQL, whose superuser has any name."""
    plain.start(POSTGRES_USER=user)
    plain.wait_until_up(user=user)
    plain.sql("create table kept as select 1 as n", user=user)
    plain.stop()
    member = members(POSTGRES_USER=user, PATRONI_SUPERUSER_PASSWORD=PASSWORD)
    os.rename(plain.volume, member.volume)
    member.fails_with("Patroni has not made the data")
    member.fails_with("Patroni has not made the data", PATRONI_ADOPT_EXISTING_DATA="false")
    member.start(PATRONI_ADOPT_EXISTING_DATA="true")
    member.answers("/primary")
    member.wait_for("are adopted", 5)
    assert member.sql("select n from kept", user=user) == [1]
    assert member.can_connect(user="postgres", password=PASSWORD)
    second = members("postgres-2", POSTGRES_USER=user, PATRONI_SUPERUSER_PASSWORD=PASSWORD)
    second.start()
    second.answers("/replica")
    assert second.sql("select n from kept", user=user) == [1]
    member.is_followed()
    assert member.stop() == 0
    second.answers("/primary")
    member.start(PATRONI_ADOPT_EXISTING_DATA="true")
    member.answers("/replica")
    assert "are adopted" not in member.log, "once is enough"


def test_data_that_were_killed_are_adopted(members, plain):
    plain.start()
    plain.wait_until_up()
    plain.sql("create table kept as select 1 as n")
    plain.kill()
    member = members(PATRONI_ADOPT_EXISTING_DATA="true")
    os.rename(plain.volume, member.volume)
    member.start()
    member.answers("/primary")
    assert member.sql("select n from kept") == [1]


def test_data_of_another_cluster_are_not_taken(members, containers):
    leader, plain = members(), containers("plain")
    leader.lead()
    plain.start()
    plain.wait_until_up()
    plain.stop()
    member = members("postgres-2", PATRONI_ADOPT_EXISTING_DATA="true")
    os.rename(plain.volume, member.volume)
    member.start()
    assert member.status() == 1
    member.wait_for("system ID mismatch", 5)
    assert member.control() == "shut down"
    assert leader.get("/primary")[0] == 200


@pytest.mark.takes(240)
@pytest.mark.parametrize("words", ["fixing permissions on existing directory", "database system is ready",
                                   "running post_bootstrap"])
def test_a_bootstrap_that_was_cut_off_begins_anew(members, words):
    member = members()
    member.start()
    member.wait_for(words)
    member.kill()
    member.start()
    member.answers("/primary", 90)
    member.is_complete()
    assert member.sql("select current_database()::text") == ["railway"]


@pytest.mark.takes(240)
def test_a_copy_of_the_leader_that_was_cut_off_begins_anew(members, leader):
    leader.as_superuser("create table much as select repeat('x', 500) as t from generate_series(1, 200000)")
    member = members("postgres-2")
    member.start()
    assert process.wait_until(lambda: os.path.isdir(os.path.join(member.data, "base")), 60)
    member.kill()
    member.start()
    member.answers("/replica", 90)
    member.is_complete()


@pytest.mark.takes(240)
def test_a_member_that_was_copied_anew_and_cut_off_begins_anew(members, leader):
    """Patroni does so where pg_rewind cannot help; pg_control comes last."""
    member = members("postgres-2")
    member.start()
    member.answers("/replica")
    member.is_complete()
    member.kill()
    os.unlink(os.path.join(member.data, "global", "pg_control"))
    member.fails_with("holds files, but no data of PostgreSQL")
    with open(os.path.join(member.data, "backup_label"), "w", encoding="ascii"):
        pass
    member.start()
    member.wait_for("was cut off: they are thrown away")
    member.answers("/replica", 90)
    member.is_complete()


def test_data_of_which_nobody_knows_whether_they_are_complete_are_kept(leader, etcd):
    """The store has forgotten the cluster, before this member was known to be complete."""
    leader.sql("create table kept as select 1 as n")
    leader.kill()
    etcdctl(etcd, "del", "--prefix", f"/service/{leader.scope}/")
    os.rename(os.path.join(leader.volume, ".patroni_bootstrap_complete"),
              os.path.join(leader.volume, ".patroni_bootstrap_begun"))
    leader.fails_with("with PATRONI_ADOPT_EXISTING_DATA=true it goes on with them")
    leader.start(PATRONI_ADOPT_EXISTING_DATA="true")
    leader.answers("/primary")
    leader.is_complete()
    assert leader.sql("select n from kept") == [1]


def test_complete_data_are_never_thrown_away(leader, etcd):
    """Not even when the store has forgotten the cluster."""
    leader.sql("create table kept as select 1 as n")
    leader.kill()
    etcdctl(etcd, "del", "--prefix", f"/service/{leader.scope}/")
    leader.start()
    leader.answers("/primary")
    assert leader.sql("select n from kept") == [1]


# What Patroni calls


class Listener(http.server.ThreadingHTTPServer):
    """Records what it is sent; hangs where it is to."""

    daemon_threads = True

    def __init__(self, seconds=0, status=200):
        self.seen, self.seconds, self.status = [], seconds, status
        super().__init__(("127.0.0.1", 0), Recorder)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Recorder(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.seen.append((self.path, dict(self.headers), body))
        time.sleep(self.server.seconds)
        with contextlib.suppress(OSError):
            self.send_response(self.server.status)
            self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def listen():
    made = []

    def make(**options):
        made.append(Listener(**options))
        return made[-1]

    yield make
    for listener in made:
        listener.shutdown()
        listener.server_close()


def before_stop(**environment):
    """What it said, and how long it took: the best of three, on a machine that does more than this."""
    times = []
    while not times or len(times) < 3 and times[-1] >= 2.0:
        began = time.monotonic()
        done = run("before_stop.sh", environment=environment)
        times.append(time.monotonic() - began)
        assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout, times[-1]


def test_before_stop_asks_every_router(listen):
    routers = [listen(), listen()]
    said, _ = before_stop(PGROUTER_URLS=f"{routers[0].url},{routers[1].url}/", PGROUTER_TOKEN="it's \"$x\\")
    for router in routers:
        (path, headers, body), = router.seen
        assert path == "/hold" and body == ""
        assert headers["Authorization"] == "Bearer it's \"$x\\"
        assert f"{router.url}" in said
    assert said.count(" holds\n") == 2


def test_before_stop_without_a_token(listen):
    router = listen()
    before_stop(PGROUTER_URLS=f" {router.url} ")
    assert "Authorization" not in router.seen[0][1]


def test_before_stop_with_a_token_that_would_be_a_header(listen):
    router = listen()
    before_stop(PGROUTER_URLS=router.url, PGROUTER_TOKEN="a\r\nX-Evil: 1")
    assert "X-Evil" not in router.seen[0][1]


def test_before_stop_while_a_router_hangs(listen):
    """The other one is asked nevertheless; 2 s in all."""
    hanging, more, router = listen(seconds=30), listen(seconds=30), listen()
    said, took = before_stop(PGROUTER_URLS=f"{hanging.url},{more.url},{router.url}")
    assert took < 2.0
    assert router.seen and f"{router.url} holds" in said
    assert said.count("has not been asked to hold") == 2


@pytest.mark.parametrize("urls", ["http://127.0.0.1:9", "http://192.0.2.1:8404", "http://no.such.name.invalid:1",
                                  "", " , ", "-o /tmp/x", "$(touch /tmp/x)", "file:///etc/passwd", "*"])
def test_before_stop_without_a_router(urls):
    _, took = before_stop(PGROUTER_URLS=urls)
    assert took < 2.0


def test_before_stop_with_a_router_that_refuses(listen):
    router = listen(status=401)
    said, _ = before_stop(PGROUTER_URLS=router.url)
    assert "has not been asked to hold" in said and "401" in said


def test_before_stop_without_anything():
    done = subprocess.run(["/bin/bash", os.path.join(SCRIPTS, "before_stop.sh")], env={"PATH": "/nowhere",
                          "PGROUTER_URLS": "http://127.0.0.1:9"}, check=False, capture_output=True, timeout=10)
    assert done.returncode == 0


def test_before_stop_of_a_replica_concerns_no_router(listen, plain):
    router = listen()
    plain.start()
    plain.wait_until_up()
    before_stop(PGROUTER_URLS=router.url, PGDATA=plain.data)
    assert len(router.seen) == 1
    plain.stop()
    with open(os.path.join(plain.data, "standby.signal"), "w", encoding="ascii"):
        pass
    plain.start()
    plain.wait_until_up()
    assert plain.control() == "in archive recovery"
    before_stop(PGROUTER_URLS=router.url, PGDATA=plain.data)
    assert len(router.seen) == 1


@pytest.mark.parametrize("role, said", [("master", "primary"), ("primary", "primary"), ("replica", "replica")])
def test_on_role_change(listen, role, said):
    hook = listen()
    done = run("on_role_change.sh", "on_role_change", role, "main \"x\"",
               environment={"NODE_NAME": "it's \"1\"", "ROLE_CHANGE_WEBHOOK": hook.url + "/x"})
    assert done.returncode == 0 and done.stderr == ""
    line, = done.stdout.splitlines()
    assert line.endswith(f"on_role_change: it's \"1\" is now {said} of main \"x\"")
    (path, headers, body), = hook.seen
    assert path == "/x" and headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert told.pop("time") == line.split()[0]
    assert told == {"node": "it's \"1\"", "role": said, "scope": "main \"x\""}


def test_on_role_change_without_a_webhook():
    done = run("on_role_change.sh", "on_role_change", "replica", "main", environment={"NODE_NAME": "a"})
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 1, "")


def test_on_role_change_with_a_webhook_that_is_absent():
    done = run("on_role_change.sh", "on_role_change", "replica", "main",
               environment={"NODE_NAME": "a", "ROLE_CHANGE_WEBHOOK": "http://127.0.0.1:9/"})
    assert done.returncode == 0 and "has not taken it" in done.stdout


def test_on_role_change_knows_no_other_action(listen):
    hook = listen()
    done = run("on_role_change.sh", "on_start", "replica", "main", environment={"ROLE_CHANGE_WEBHOOK": hook.url})
    assert (done.returncode, done.stdout, hook.seen) == (0, "", [])


def test_a_role_change_of_a_real_cluster_reaches_the_webhook(members, listen):
    hook = listen()
    member = members(ROLE_CHANGE_WEBHOOK=hook.url)
    member.lead()
    member.stop()
    member.start()
    member.answers("/primary")
    assert process.wait_until(lambda: hook.seen, 20), member.everything[-3000:]
    told = json.loads(hook.seen[-1][2])
    assert (told["node"], told["role"], told["scope"]) == ("postgres-1", "primary", member.scope)


# Versions


class Registry(http.server.BaseHTTPRequestHandler):
    pages = [["17", "latest", "17.2", "16.9", "17.10-bookworm"], ["17.10", "17.9", "17beta1", "117.11"]]

    def do_GET(self):
        number = int(self.path.partition("page=")[2] or 0)
        if self.path.startswith("/token"):
            body = {"token": "secret"}
        elif self.headers["Authorization"] != "Bearer secret":
            self.send_error(401)
            return
        else:
            body = {"name": "library/postgres", "tags": self.pages[number]}
        self.send_response(200)
        if not self.path.startswith("/token") and number + 1 < len(self.pages):
            self.send_header("Link", f'</v2/library/postgres/tags/list?n=1000&page={number + 1}>; rel="next"')
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def registry():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield {"DOCKER_REGISTRY_URL": url, "DOCKER_TOKEN_URL": f"{url}/token", "RETRY_DELAY": "0"}
    server.shutdown()
    server.server_close()


def test_the_newest_minor_version(registry):
    assert run("get-postgres-version.sh", "17", environment=registry).stdout == "17.10\n"
    assert run("get-postgres-version.sh", "16", environment=registry).stdout == "16.9\n"


def test_a_major_version_that_is_not_there(registry):
    done = run("get-postgres-version.sh", "12", environment=registry)
    assert done.returncode == 1 and done.stdout == "" and "no release 12.x" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["x"], ["17", "18"], ["1.*"]])
def test_versions_are_asked_for_by_major(arguments, registry):
    done = run("get-postgres-version.sh", *arguments, environment=registry)
    assert done.returncode == 2 and "usage" in done.stderr


# Images


def test_there_is_a_variant_of_every_major():
    """As `docker buildx bake` understands the file, where that is installed."""
    path = os.path.join(SCRIPTS, "docker-bake.hcl")
    if shutil.which("docker") is None or subprocess.run(["docker", "buildx", "version"], check=False,
                                                        capture_output=True).returncode != 0:
        pytest.skip("docker buildx is not installed")
    done = subprocess.run(["docker", "buildx", "bake", "-f", path, "--print"], cwd=TOP, check=True,
                          capture_output=True, text=True)
    targets = json.loads(done.stdout)["target"]
    assert targets.keys() == {f"{variant}-{major}" for variant in ("slim", "ha") for major in MAJORS}
    for name, target in targets.items():
        variant, major = name.split("-")
        assert target["target"] == variant
        assert target["args"] == {"PG_MAJOR": major, "BASE_IMAGE": f"postgres:{major}-bookworm"}
        assert target["tags"] == [f"pgrouter/{'postgres-patroni' if variant == 'ha' else 'postgres'}:{major}"]


def test_the_service_of_railway():
    with open(os.path.join(SCRIPTS, "railway.toml"), "rb") as file:
        service = tomllib.load(file)
    assert os.path.join(TOP, service["build"]["dockerfilePath"]) == os.path.join(SCRIPTS, "Dockerfile")
    assert service["deploy"]["requiredMountPath"] == "/var/lib/postgresql/data"


def test_every_variable_is_described():
    """README.md has a row for each that the scripts read."""
    with open(os.path.join(SCRIPTS, "README.md"), encoding="utf-8") as file:
        described = set(re.findall(r"[A-Z][A-Z0-9_]+", file.read()))
    read = set()
    for name in ("wrapper.sh", "init-ssl.sh", "patroni-runner.sh", "patroni_settings.py", "post_bootstrap.sh",
                 "on_role_change.sh", "before_stop.sh"):
        with open(os.path.join(SCRIPTS, name), encoding="utf-8") as file:
            read |= set(re.findall(r"\b((?:PATRONI|POSTGRES|PGROUTER|RAILWAY|SSL|ROLE|LOG)_[A-Z0-9_]*[A-Z0-9])\b",
                                   file.read()))
    inner = {"POSTGRES_INITDB_DIR", "PATRONI_HEALTH_CHECK", "PATRONI_RESTAPI_CERTFILE"}
    assert read - described - inner == set()


def test_the_image_has_every_script():
    with open(os.path.join(SCRIPTS, "Dockerfile"), encoding="utf-8") as file:
        text = file.read()
    for name in os.listdir(SCRIPTS):
        if name.endswith((".sh", ".py")) and name != "get-postgres-version.sh":
            assert f"docker/postgres/{name}" in text, name
            assert name == "common.sh" or os.access(os.path.join(SCRIPTS, name), os.X_OK), name
