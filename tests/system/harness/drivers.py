"""Clients with drivers of all kinds: where they go, and programs of drivers/ that are them.

    way = Way(router)                        # or Way(router, sslmode="verify-full", sslrootcert=path)
    psycopg2.connect(way.dsn())
    run(["node", "drivers/node_postgres.js"], way, "share")
"""

import os
import subprocess

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "drivers")
N_CLIENTS, N_SERVERS, N_TURNS = 6, 2, 40


class Way:
    """To a router's listener "pool", as user app."""

    def __init__(self, router, **tls):
        self.router, self.tls = router, tls
        self.host, self.port = router.at("pool")
        self.user, self.password, self.database = "app", router.passwords["app"], "app"

    def dsn(self, **more):
        return self.router.dsn("pool", **self.tls, **more)

    def environment(self):
        """As libpq's, which most programs know."""
        found = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user,
                 "PGPASSWORD": self.password, "PGDATABASE": self.database,
                 "N_CLIENTS": str(N_CLIENTS), "N_TURNS": str(N_TURNS)}
        if self.tls:
            found.update(PGSSLMODE=self.tls["sslmode"], PGSSLROOTCERT=self.tls["sslrootcert"])
        return found


def run(command, way, *tasks, seconds=100):
    """What the program prints; it ends with status 0 when all was as it should be."""
    done = subprocess.run([*command, *tasks], env={**os.environ, **way.environment()}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(tasks)}: {done.stdout}{done.stderr}"
    return done.stdout


def has_moved(servers):
    """Whether any client was on more than one server; `servers`: a set of process ids for each."""
    return any(len(pids) > 1 for pids in servers)
