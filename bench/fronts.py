"""What stands between the writers and a cluster of Patroni: as in targets.py, but with roles."""

import os

import targets
from cluster.cluster import SCOPE
from targets import ADDRESS

# As the documentation of Patroni has it for HAProxy.
HAPROXY = """\
global
    maxconn {max_sessions}
defaults
    mode tcp
    retries 2
    timeout connect 4s
    timeout client 30m
    timeout server 30m
    timeout check 5s
listen primary
    bind {address}:{port}
    option httpchk GET /primary
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
{servers}
"""

PGBOUNCER = """\
[databases]
* = host={address} port={target}

[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
max_client_conn = {max_sessions}
pool_mode = transaction
max_prepared_statements = 200
auth_type = scram-sha-256
auth_file = {auth_file}
ignore_startup_parameters = extra_float_digits
server_tls_sslmode = {tls_mode}
log_connections = 0
log_disconnections = 0
{tls}
"""

TCP = {"mode": "tcp", "role": "primary"}
POOL = {"mode": "pool"}


class Haproxy(targets.Haproxy):
    """Leads to the node that answers 200 on GET /primary."""

    def __init__(self, name, folder, cluster):
        super().__init__(name, folder, None)
        self._cluster = cluster

    def command(self):
        servers = "\n".join(f"    server {node.name} {node.address}:{node.port} check port {node.rest_port}"
                            for node in self._cluster.nodes)
        return [self.program, "-db", "-f", self.write(HAPROXY, servers=servers)]

    def ports(self):
        return [self.port]

    def log(self):
        return self._log


class Pgbouncer(targets.Pgbouncer):
    def __init__(self, name, program, folder, target, cluster, tls):
        super().__init__(name, program, folder, target, tls=tls)
        self._cluster = cluster

    def command(self):
        users = write_users(os.path.splitext(self._log)[0] + ".users", self._cluster)
        for path in [users, *(self._tls or {}).values()]:
            self.account.own(path)
        return [*self._command, self.write(
            PGBOUNCER, auth_file=users, tls_mode="require" if self._tls else "disable",
            tls=targets.POOL_TLS.format(**self._tls) if self._tls else "")]

    def log(self):
        return self._log


class Chain(targets.Chain):
    """HAProxy, PgBouncer, and the HAProxy that knows the roles."""

    def __init__(self, program, folder, cluster, tls):
        back = Haproxy("chain-back", folder, cluster)
        pool = Pgbouncer("chain-pgbouncer", program, folder, back.port, cluster, tls)
        front = targets.Haproxy("chain-front", folder, pool.port)
        targets.Target.__init__(self, front.port)
        self._links, self._pool = [back, pool, front], pool

    def ports(self):
        return [self.port]

    def log(self):
        return self._pool.log()


class Pgrouter(targets.Proxy):
    """One pgrouter; `listener` is TCP or POOL, `settings` {(section, key): value} are added."""

    def __init__(self, name, program, folder, cluster, listener, settings, tls, workers):
        super().__init__(name, folder, None)
        self.program = program
        self._cluster, self._listener, self._settings = cluster, listener, settings
        self._tls, self._workers = tls, workers
        self._stats_port = targets.free_port()
        self.console_port = self.port if listener is POOL else targets.free_port()

    def command(self):
        path = os.path.splitext(self._log)[0] + ".ini"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            for section, keys in self._sections().items():
                file.write(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) + "\n")
        return [self.program, path]

    def _sections(self):
        users = write_users(os.path.splitext(self._log)[0] + ".users", self._cluster)
        main = {"workers": self._workers, "pool_mode": "transaction", "auth_type": "scram-sha-256",
                "auth_file": users, "admin_users": "postgres", "log_connections": 0, "log_disconnections": 0,
                "server_tls_sslmode": "require" if self._tls else "disable"}
        if self._tls:
            main.update(client_tls_sslmode="require", client_tls_key_file=self._tls["key"],
                        client_tls_cert_file=self._tls["certificate"])
        sections = {"pgrouter": main,
                    "cluster main": {"nodes": self._cluster.nodes_setting()},
                    "databases": {"app": "cluster=main"},
                    "listener rw": {"bind": f"{ADDRESS}:{self.port}", **self._listener},
                    "stats": {"bind": f"{ADDRESS}:{self._stats_port}"}}
        if self.console_port != self.port:
            sections["listener console"] = {"bind": f"{ADDRESS}:{self.console_port}", **POOL}
        for (section, key), value in self._settings.items():
            sections.setdefault(section, {})[key] = value
        return sections

    def log(self):
        return self._log


class Pgrouters:
    """Several beside each other that know nothing of one another: clients go to them in turn."""

    def __init__(self, name, n, program, folder, *rest):
        self.name, self.program = name, program
        self._each = [Pgrouter(name if n == 1 else f"{name} {i + 1}", program, folder, *rest) for i in range(n)]

    def start(self):
        for one in self._each:
            one.start()

    def stop(self):
        for one in self._each:
            one.stop()

    def ports(self):
        return [one.port for one in self._each]

    def console_port(self):
        return self._each[0].console_port

    def log(self):
        return self._each[0].log()


def write_users(path, cluster):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        for user in ("app", "postgres"):
            file.write(f'"{user}" "{cluster.passwords[user]}"\n')
    return path


def facts_of(cluster):
    """What --set may name in braces, and the settings below."""
    return {"etcd": f"{cluster.network.hub}:{cluster.etcd_port}", "etcd_ca": cluster.ca,
            "etcd_certificate": os.path.join(cluster.folder, "etcd.crt"),
            "etcd_key": os.path.join(cluster.folder, "etcd.key"),
            "patroni_password": cluster.passwords["patroni"]}


# Settings of [cluster main] with which pgrouter watches etcd, and with which it may give Patroni orders.
ETCD = {"etcd": "{etcd}", "scope": SCOPE, "etcd_ca_file": "{etcd_ca}",
        "etcd_cert_file": "{etcd_certificate}", "etcd_key_file": "{etcd_key}"}
COMMAND = {"restapi_user": "patroni", "restapi_password": "{patroni_password}"}
