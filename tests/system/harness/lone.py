"""One PostgreSQL that nobody watches: it is stopped and started as a test likes.

    with Lone(folder) as node:
        pool(databases={"app": node.line()}, ...)
        node.restart("fast")
"""

import os
import shutil
import signal
import subprocess
import tempfile

import psycopg

from cluster import process
from cluster.cluster import postgres_programs

from .ports import free_port


class Lone:
    """Everybody may log in without a password; its database is app, its user too."""

    def __init__(self, **parameters):
        self.account, self.programs = process.Account(), postgres_programs()
        self.folder = tempfile.mkdtemp(prefix="pgrouter-lone-", dir=process.scratch())
        self.account.own(self.folder)
        self.data, self.port = os.path.join(self.folder, "data"), free_port("127.0.0.1")
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8",
                  "-D", self.data)
        self.parameters = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
            "shared_buffers": "32MB", "max_connections": 100, "jit": "off", "autovacuum": "off", **parameters}
        self.start()
        with self.connect("postgres", "postgres") as connection:
            connection.execute("create role app login superuser")
            connection.execute("create database app owner app")

    def _run(self, program, *arguments, **more):
        done = subprocess.run(
            self.account.command([os.path.join(self.programs, program), *arguments]), cwd="/", text=True,
            env=self.account.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, check=False, timeout=60, **more)
        assert done.returncode == 0, f"{program}: {done.stderr}"

    def _control(self, *arguments):
        self._run("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(self.folder, "log"), *arguments)

    def start(self):
        options = " ".join(f"-c {name}='{value}'" for name, value in self.parameters.items())
        self._control("start", "-o", options)

    def stop(self, mode="fast"):
        self._control("stop", "-m", mode)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def set(self, **parameters):
        """Takes effect at once, as far as PostgreSQL lets it."""
        with self.connect() as connection:
            for name, value in parameters.items():
                connection.execute(f"alter system set {name} = '{value}'")
            connection.execute("select pg_reload_conf()")

    def connect(self, user="app", database="app"):
        return psycopg.connect(host="127.0.0.1", port=self.port, user=user, dbname=database, autocommit=True)

    def ask(self, query):
        """The one value of an answer, on the node itself."""
        with self.connect() as connection:
            return connection.execute(query).fetchone()[0]

    def pid_doing(self, text):
        """Of the process that is at a statement like this, once there is one."""
        query = ("select pid from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() "
                 f"and query like '%{text}%' limit 1")
        found = process.wait_until(lambda: self.ask(f"select coalesce(({query}), 0)"), 10)
        assert found, f"nobody is at {text}"
        return found

    def line(self, **more):
        """In [databases]."""
        return " ".join([f"host=127.0.0.1 port={self.port}", *(f"{k}={v}" for k, v in more.items())])

    def close(self):
        process.kill_postgres(self.data)
        shutil.rmtree(self.folder, ignore_errors=True)

    def signal(self, pid, number=signal.SIGTERM):
        os.kill(pid, number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
