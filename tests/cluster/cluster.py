"""etcd, and nodes of Patroni with PostgreSQL, started from the distribution's packages.

    cluster = Cluster(folder)
    cluster.start()                     # 3 nodes: one leader, two streaming replicas
    cluster.switchover()                # by Patroni's REST API, as patronictl does
    cluster.leader().kill()             # kill -9 of a whole node
    cluster.heal()                      # one leader, all others streaming again
    cluster.close()

One folder holds everything: data, logs, certificates, and the identities of the
processes, so that another process can end them later (Cluster.close_folder). Nothing runs as
root: a cluster that root starts belongs to the user postgres.

Nothing here is open to other users of the machine: passwords are made anew for every
cluster, Patroni's REST API takes orders with a password only, etcd wants a certificate.
"""

import base64
import contextlib
import glob
import http.client
import json
import os
import secrets
import signal
import ssl
import subprocess
import urllib.error
import urllib.request

from . import network as networks
from . import process
from .certificates import Authority

SCOPE = "main"
TTL_S = 20  # the least that newer Patronis accept
START_TIMEOUT_S = 120
HEAL_PATIENCE_S = 20  # Patroni mends most things by itself

def postgres_programs():
    """Folder of the newest PostgreSQL that is installed."""
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    if not found:
        raise RuntimeError("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/postgres")
    return os.path.dirname(max(found, key=lambda path: float(path.split("/")[4])))

class Node:
    """One Patroni with its PostgreSQL."""

    def __init__(self, cluster, number, ports):
        self.cluster, self.number = cluster, number
        self.name = f"pg{number}"
        self.address = cluster.network.address(number)
        self.port, self.rest_port = ports
        self.folder = os.path.join(cluster.folder, self.name)
        self.data = os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "log")
        self.settings = os.path.join(self.folder, "patroni.yml")
        self.is_cut = False

    # What it is

    def get(self, path, timeout=2):
        """Status and body that Patroni answers on `path`; (None, "") when it does not."""
        return request(self.cluster.rest_url(self, path), timeout=timeout,
                       context=self.cluster.rest_context)

    def status(self):
        """Body of GET /patroni, {} when nobody answers."""
        return _parsed(self.get("/patroni")[1])

    def is_leader(self):
        return self.get("/primary")[0] == 200

    def is_replica(self):
        return self.get("/replica")[0] == 200

    def sql(self, query, database="postgres"):
        """Answer to a query of the superuser, asked of the node itself; columns are
        separated by |, rows by line ends."""
        done = subprocess.run(
            [os.path.join(self.cluster.programs, "psql"), "-XAtqc", query, self.dsn(database=database)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def dsn(self, user="postgres", database=None, **more):
        return self.cluster.dsn(self.address, self.port, user, database, **more)

    def replicas_streaming(self):
        try:
            return int(self.sql("select count(*) from pg_stat_replication where state = 'streaming'"))
        except (RuntimeError, subprocess.TimeoutExpired):
            return 0

    # What can happen to it

    def start(self):
        """Starts Patroni, and that PostgreSQL."""
        command = self.cluster.network.command(
            self.number, self.cluster.account.command(["/usr/bin/patroni", self.settings]))
        self.cluster.spawn(self.name, command, self.log, self.folder)

    def stop(self):
        """An orderly end of both."""
        self.cluster.end(self.name, patience=30)
        process.kill_postgres(self.data)

    def kill(self):
        """kill -9 of everything, as when the machine loses its power."""
        self.kill_patroni()
        self.kill_postgres()

    def kill_patroni(self):
        self.cluster.end(self.name, patience=0)

    def kill_postgres(self):
        """kill -9 of PostgreSQL alone; Patroni starts it again."""
        process.kill_postgres(self.data)

    def freeze(self):
        """SIGSTOP to everything: connections stay, nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self):
        self._signal_all(signal.SIGCONT)

    def freeze_patroni(self):
        self.cluster.signal(self.name, signal.SIGSTOP)

    def thaw_patroni(self):
        self.cluster.signal(self.name, signal.SIGCONT)

    def is_frozen(self):
        patroni = self.cluster.identity(self.name)
        everyone = process.postgres_processes(self.data) + ([patroni] if patroni else [])
        return any(one.is_stopped() for one in everyone)

    def _signal_all(self, number):
        self.cluster.signal(self.name, number)
        for one in process.postgres_processes(self.data):
            one.send(number)

    def cut(self):
        """Pulls the network cable; only where cluster.network.can_cut."""
        self.is_cut = True
        self.cluster.network.cut(self.number)

    def uncut(self):
        if self.is_cut:
            self.cluster.network.heal(self.number)
        self.is_cut = False

    def is_running(self):
        """Patroni's process is there, whatever it does."""
        return self.cluster.is_running(self.name)

    def reload(self, **parameters):
        """Changes PostgreSQL parameters that need no restart, on this node only."""
        for name, value in parameters.items():
            self.sql(f"alter system set {name} = '{value}'")
        self.sql("select pg_reload_conf()")

    def set_tags(self, **tags):
        """Patroni's tags of this node (noloadbalance, nofailover, ...); {} removes all."""
        with open(self.settings, encoding="utf-8") as file:
            settings = json.load(file)
        settings["tags"] = tags
        self.cluster.write(self.settings, json.dumps(settings, indent=1))
        self.cluster.signal(self.name, signal.SIGHUP, group=False)

    def __repr__(self):
        return f"{self.name}={self.address}:{self.port}:{self.rest_port}"

class Cluster:
    """`network`: where the nodes live, network.Loopback() by default."""

    def __init__(self, folder, n_nodes=3, network=None, max_connections=300):
        self.folder = folder
        self.account = process.Account()
        self.programs = postgres_programs()
        self.network = network or networks.Loopback()
        self.max_connections = max_connections
        self.passwords = {user: secrets.token_hex(8)
                          for user in ("postgres", "replicator", "app", "health", "patroni")}
        self.rest_context = None  # secure_rest() makes one
        self._children = {}
        ports = (5432, 8008)
        if not self.network.can_cut:
            ports = tuple(self._port_for_all(n_nodes, wanted) for wanted in ports)
        self.nodes = [Node(self, number, ports) for number in range(1, n_nodes + 1)]
        self.etcd_port = networks.free_port(self.network.hub, 2379)
        self._etcd_peer_port = networks.free_port(self.network.hub, 2380)

    def _port_for_all(self, n_nodes, wanted):
        addresses = [self.network.address(number) for number in range(1, n_nodes + 1)]
        for _ in range(50):
            port = networks.free_port(addresses[0], wanted)
            if all(networks.listener_on(address, port) is None for address in addresses):
                return port
            wanted = None
        raise RuntimeError(f"no port is free on all of {', '.join(addresses)}")

    # Life

    def start(self):
        """Returns when there is one leader and all others are streaming; leaves nothing
        behind when that cannot be had."""
        try:
            self._prepare()
            self._start_all()
        except BaseException:
            self.close()
            raise

    def _start_all(self):
        self._start_etcd()
        for node in self.nodes:
            node.start()
        self._wait_for_all(START_TIMEOUT_S)
        self._create_users()

    def close(self):
        """Ends everything and removes the folder."""
        self.kill_all()
        self.network.close()
        process.remove_tree(self.folder)

    def kill_all(self):
        for name in [node.name for node in self.nodes] + ["etcd"]:
            self.end(name, patience=0)
        for node in self.nodes:
            process.kill_postgres(node.data)

    @classmethod
    def close_folder(cls, folder):
        """Ends what an earlier process has started in `folder`, and removes that."""
        for path in glob.glob(os.path.join(folder, "*.pid")):
            identity = read_identity(path)
            if identity is not None:
                identity.kill_family()
        for data in glob.glob(os.path.join(folder, "*", "data")):
            process.kill_postgres(data)
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(folder, "network"), encoding="ascii") as file:
                n_nodes, at = file.read().split()
            networks.Namespaces(int(n_nodes), at=int(at)).close()
        process.remove_tree(folder)

    def _prepare(self):
        self._make_folder(self.folder)
        if self.account.is_other:
            os.chmod(self.folder, 0o711)  # its folders are for the account alone
        if self.network.can_cut:
            self.write(os.path.join(self.folder, "network"), f"{len(self.nodes)} {self.network.id}\n")
        authority = Authority(self.folder)
        self.ca = authority.certificate
        hosts = [node.address for node in self.nodes] + [node.name for node in self.nodes]
        self._node_key, self._node_certificate = authority.issue(
            "node", hosts + ["localhost", "127.0.0.1", "::1"], self.account)
        self._etcd_key, self._etcd_certificate = authority.issue(
            "etcd", [self.network.hub], self.account)
        for node in self.nodes:
            self._make_folder(node.folder, self.account)
            self.write(node.settings, json.dumps(self._patroni(node), indent=1))

    @staticmethod
    def _make_folder(path, owner=None):
        os.makedirs(path, mode=0o700, exist_ok=True)
        if owner is not None:
            owner.own(path)

    def write(self, path, text):
        """A file that the cluster's account may read, and nobody else."""
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
                  encoding="utf-8") as file:
            file.write(text)
        self.account.own(path)

    def _patroni(self, node):
        here = f"{node.address}:{node.port}"
        rest = f"{node.address}:{node.rest_port}"
        host_based = [
            "local all all scram-sha-256",
            "host all all 127.0.0.0/8 scram-sha-256",
            "host all all 198.18.0.0/15 scram-sha-256",
            "host all all ::1/128 scram-sha-256",
            "host replication replicator 127.0.0.0/8 scram-sha-256",
            "host replication replicator 198.18.0.0/15 scram-sha-256",
        ]
        return {
            "scope": SCOPE,
            "name": node.name,
            "etcd3": {"host": f"{self.network.hub}:{self.etcd_port}", "protocol": "https",
                      "cacert": self.ca, "cert": self._etcd_certificate, "key": self._etcd_key},
            "restapi": {"listen": rest, "connect_address": rest,
                        "authentication": {"username": "patroni",
                                           "password": self.passwords["patroni"]}},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_S, "loop_wait": 1, "retry_timeout": 5,
                    "maximum_lag_on_failover": 16 << 20,
                    "postgresql": {"use_pg_rewind": True, "use_slots": True,
                                   "parameters": self._parameters()}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums", "no-sync"],
            },
            "postgresql": {
                "listen": here, "connect_address": here, "bin_dir": self.programs,
                "data_dir": node.data, "pgpass": os.path.join(node.folder, "pgpass"),
                "parameters": {"unix_socket_directories": node.folder, "ssl": "on",
                               "ssl_cert_file": self._node_certificate,
                               "ssl_key_file": self._node_key, "ssl_ca_file": self.ca},
                "pg_hba": host_based,
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
                "authentication": {
                    "superuser": {"username": "postgres", "password": self.passwords["postgres"]},
                    "replication": {"username": "replicator",
                                    "password": self.passwords["replicator"]}},
            },
        }

    def _parameters(self):
        return {
            "max_connections": self.max_connections, "superuser_reserved_connections": 10,
            "shared_buffers": "32MB", "max_wal_size": "256MB", "wal_keep_size": "64MB",
            "wal_level": "logical", "max_wal_senders": 10, "max_replication_slots": 10,
            # What is lost with the machine's power is lost; kill -9 loses nothing.
            "fsync": "off",
            "wal_sender_timeout": "5s", "wal_receiver_timeout": "5s",
            "wal_receiver_status_interval": "1s", "wal_retrieve_retry_interval": "200ms",
            "password_encryption": "scram-sha-256", "jit": "off", "timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d %r ", "log_connections": "off",
        }

    def _start_etcd(self):
        folder = os.path.join(self.folder, "etcd")
        self._make_folder(folder, self.account)
        url = f"https://{self.network.hub}:{self.etcd_port}"
        peer = f"http://{self.network.hub}:{self._etcd_peer_port}"
        self.spawn("etcd", self.account.command([
            "/usr/bin/etcd", "--name", "etcd", "--data-dir", os.path.join(folder, "data"),
            "--listen-client-urls", url, "--advertise-client-urls", url,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"etcd={peer}", "--unsafe-no-fsync", "--log-level", "warn",
            "--heartbeat-interval", "100", "--election-timeout", "500",
            "--client-cert-auth", "--trusted-ca-file", self.ca,
            "--cert-file", self._etcd_certificate, "--key-file", self._etcd_key,
        ]), os.path.join(folder, "log"), folder)
        if not process.wait_until(lambda: self._etcd("/health", None) is not None, 30):
            raise RuntimeError("etcd does not answer:\n" + _tail(os.path.join(folder, "log")))

    def _create_users(self):
        leader = self.leader()
        leader.sql(f"create role app login password '{self.passwords['app']}'")
        leader.sql(f"create role health login password '{self.passwords['health']}' in role pg_monitor")
        leader.sql("create database app owner app")
        self.wait_for_replay()

    # Processes

    def spawn(self, name, command, log, cwd):
        environment = self.account.environment()
        environment["PGROUTER_CLUSTER"] = self.folder
        child, identity = process.spawn(command, log, cwd, environment)
        with open(self._pid_file(name), "w", encoding="ascii") as file:
            file.write(str(identity))
        self._children[name] = child

    def _pid_file(self, name):
        return os.path.join(self.folder, f"{name}.pid")

    def identity(self, name):
        """Of a process that runs or ran; None when it was never started, or was ended."""
        return read_identity(self._pid_file(name))

    def signal(self, name, number, group=True):
        identity = self.identity(name)
        return identity is not None and identity.send(number, group)

    def is_running(self, name):
        identity = self.identity(name)
        return identity is not None and identity.is_alive()

    def end(self, name, patience):
        identity = self.identity(name)
        if identity is None:
            return
        if patience:
            identity.end(patience)
        identity.kill_family()
        if name in self._children:
            self._children.pop(name).wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._pid_file(name))

    # Roles

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def leader(self):
        """The node that answers 200 on /primary; None while there is none."""
        return next((node for node in self.nodes if node.is_leader()), None)

    def replicas(self):
        return [node for node in self.nodes if node.is_replica()]

    def members(self):
        """Patroni's own view, from whoever answers: name -> member of GET /cluster."""
        for node in self.nodes:
            members = _parsed(node.get("/cluster")[1]).get("members")
            if members:
                return {member["name"]: member for member in members}
        return {}

    def wait_for_leader(self, seconds=60, other_than=None):
        """The leader as soon as there is one (other than the node given)."""
        def found():
            leader = self.leader()
            return leader if leader is not other_than else None
        leader = process.wait_until(found, seconds)
        if leader is None:
            raise TimeoutError(f"no leader after {seconds} s: {self.describe()}")
        return leader

    def wait_for_roles(self, seconds=60):
        """Returns the leader when there is one and all other nodes stream from it."""
        self._wait_for_all(seconds)
        return self.leader()

    def _is_whole(self):
        leader = self.leader()
        return (leader is not None and
                all(node is leader or node.is_replica() for node in self.nodes) and
                leader.replicas_streaming() == len(self.nodes) - 1)

    def _wait_for_all(self, seconds):
        if not process.wait_until(self._is_whole, seconds, step=0.1):
            raise TimeoutError(f"the cluster is not whole after {seconds} s: {self.describe()}")

    def wait_for_replay(self, seconds=30):
        """Returns when all replicas that stream have replayed what the leader has written."""
        leader = self.leader()
        position = leader.sql("select pg_current_wal_lsn()")
        behind = ("select application_name, state, sent_lsn, replay_lsn from pg_stat_replication "
                  f"where application_name in ({', '.join(repr(node.name) for node in self.nodes)}) "
                  f"and replay_lsn < '{position}'")
        if not process.wait_until(lambda: leader.sql(behind) == "", seconds, step=0.05):
            raise TimeoutError(f"replicas have not replayed {position} after {seconds} s: {leader.sql(behind)}")

    def describe(self):
        """Who is what, for messages."""
        lines = []
        for node in self.nodes:
            status = node.status()
            lines.append(f"{node.name}: " + (
                f"{status.get('role')} {status.get('state')} timeline {status.get('timeline')}"
                if status else "Patroni does not answer"))
        return ", ".join(lines)

    def switchover(self, to=None):
        """Asks Patroni for it, and returns the new leader as soon as it is one."""
        old = self.leader()
        wish = {"leader": old.name}
        if to is not None:
            wish["candidate"] = to.name
        status, body = self._order(old, "POST", "/switchover", wish)
        if status not in (200, 202):
            raise RuntimeError(f"switchover: {status} {body}")
        return self.wait_for_leader(other_than=old)

    def order(self, method, path, body=None):
        """Something else that is asked of the leader's Patroni: status and body."""
        return self._order(self.leader(), method, path, body)

    def configure(self, **settings):
        """Changes Patroni's settings for the whole cluster (PATCH /config)."""
        status, body = self._order(self.leader() or self.nodes[0], "PATCH", "/config", settings)
        if status != 200:
            raise RuntimeError(f"configure: {status} {body}")

    def _order(self, node, method, path, body):
        token = base64.b64encode(f"patroni:{self.passwords['patroni']}".encode()).decode()
        return request(self.rest_url(node, path), method, body, 60,
                       {"Authorization": f"Basic {token}"}, self.rest_context)

    def rest_url(self, node, path):
        scheme = "http" if self.rest_context is None else "https"
        return f"{scheme}://{node.address}:{node.rest_port}{path}"

    def secure_rest(self, verify_client="none", names_node=True):
        """Patroni's REST API by https from now on; returns when every node answers so.
        `verify_client` as in Patroni's restapi; without `names_node` the certificate is for
        another host, which Patronis do not take from each other."""
        self.rest_context = ssl.create_default_context(cafile=self.ca)
        self.rest_context.check_hostname = names_node
        self.rest_context.load_cert_chain(self._etcd_certificate, self._etcd_key)
        tls = {"certfile": self._node_certificate if names_node else self._etcd_certificate,
               "keyfile": self._node_key if names_node else self._etcd_key,
               "cafile": self.ca, "verify_client": verify_client}
        tags = {"rest": secrets.token_hex(4)}
        for node in self.nodes:
            with open(node.settings, encoding="utf-8") as file:
                settings = json.load(file)
            settings["restapi"].update(tls)
            settings["tags"] = tags
            self.write(node.settings, json.dumps(settings, indent=1))
            self.signal(node.name, signal.SIGHUP, group=False)
        if not process.wait_until(lambda: all(self._has_told(node, tags) for node in self.nodes), 30):
            raise RuntimeError("not every Patroni answers by https")

    def _has_told(self, node, tags):
        """It has read its settings, which the others know of, and answers as these say."""
        member = _parsed(self.etcd_values().get(f"members/{node.name}", ""))
        return member.get("tags") == tags and bool(node.status())

    def client_certificate(self):
        """Key and certificate that etcd takes, and Patroni's REST API."""
        return self._etcd_key, self._etcd_certificate

    def pause(self, paused=True):
        """Patroni's pause mode; returns when every node knows."""
        self.configure(pause=paused or None)
        process.wait_until(lambda: all(bool(n.status().get("pause")) == paused for n in self.nodes), 10)

    # etcd

    def stop_etcd(self):
        self.end("etcd", patience=10)

    def freeze_etcd(self):
        self.signal("etcd", signal.SIGSTOP)

    def thaw_etcd(self):
        self.signal("etcd", signal.SIGCONT)

    def start_etcd(self):
        self._start_etcd()

    def etcd_settings(self):
        """Of a [cluster] that is to watch it."""
        return {"etcd": f"https://{self.network.hub}:{self.etcd_port}", "scope": SCOPE,
                "etcd_ca_file": self.ca, "etcd_cert_file": self._etcd_certificate,
                "etcd_key_file": self._etcd_key}

    def etcd_values(self):
        """Patroni's keys as they are there: name -> value, for those who look."""
        prefix = f"/service/{SCOPE}/"
        found = self._etcd("/v3/kv/range", {
            "key": base64.b64encode(prefix.encode()).decode(),
            "range_end": base64.b64encode((prefix[:-1] + "0").encode()).decode()})
        return {base64.b64decode(kv["key"]).decode()[len(prefix):]:
                base64.b64decode(kv.get("value", "")).decode() for kv in found.get("kvs", [])}

    def put_etcd(self, name, value):
        """One of Patroni's keys, as Patroni would write it."""
        value = json.dumps(value, separators=(",", ":"))
        self._etcd("/v3/kv/put", {
            "key": base64.b64encode(f"/service/{SCOPE}/{name}".encode()).decode(),
            "value": base64.b64encode(value.encode()).decode()})

    def expire_leader(self):
        """Ends the lease of the leader key now, as etcd would `ttl` seconds after the
        leader's last sign of life. Only after the leader cannot renew it any more."""
        key = self._leader_key()
        if key is not None:
            self._etcd("/v3/kv/lease/revoke", {"ID": key["lease"]})

    def lock_owner(self):
        """The node that the leader key names; None when there is no key."""
        key = self._leader_key()
        return None if key is None else self.node(base64.b64decode(key["value"]).decode())

    def _leader_key(self):
        key = base64.b64encode(f"/service/{SCOPE}/leader".encode()).decode()
        found = (self._etcd("/v3/kv/range", {"key": key}) or {}).get("kvs")
        return found[0] if found else None

    def _etcd(self, path, body):
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self._etcd_certificate, self._etcd_key)
        status, answer = request(f"https://{self.network.hub}:{self.etcd_port}{path}",
                                  "GET" if body is None else "POST", body, context=context)
        return _parsed(answer) if status == 200 else None

    # Between tests

    def heal(self):
        """Undoes what a test did: everything runs, one leader, all others streaming. Where
        Patroni cannot mend it soon, a new cluster is made; True then."""
        self.thaw_etcd()
        if not self.is_running("etcd"):
            self._start_etcd()
        for node in self.nodes:
            # Thawed or reachable again, a Patroni 3.0 that led before may take the lock
            # from the leader that was elected since; after kill -9 it does not.
            if node.is_frozen() or node.is_cut:
                node.kill()
            node.uncut()
        owner = self.lock_owner()
        if owner is not None and not owner.is_running():
            self.expire_leader()
        for node in self.nodes:
            if not node.is_running():
                node.start()
        if any(node.status().get("pause") for node in self.nodes):
            self.pause(False)
        if process.wait_until(self._is_whole, HEAL_PATIENCE_S, step=0.1):
            return False
        self.rebuild()
        return True

    def rebuild(self):
        """A new cluster at the same place, with the same passwords."""
        self.kill_all()
        for path in [node.data for node in self.nodes] + [os.path.join(self.folder, "etcd")]:
            process.remove_tree(path)
        for node in self.nodes:
            node.uncut()
        self._start_all()

    # For programs

    def dsn(self, host, port, user="app", database=None, **more):
        """A libpq connection string; keywords (sslmode, ...) are added."""
        parts = {"host": host, "port": port, "user": user, "password": self.passwords[user],
                 "dbname": database or ("app" if user == "app" else "postgres"),
                 "connect_timeout": 10, **more}
        return " ".join(f"{key}='{value}'" for key, value in parts.items())

    def nodes_setting(self):
        """As `nodes =` in pgrouter's configuration."""
        return ", ".join(repr(node) for node in self.nodes)

def read_identity(path):
    try:
        with open(path, encoding="ascii") as file:
            return process.Identity.parse(file.read())
    except (OSError, ValueError):
        return None

def request(url, method="GET", body=None, timeout=2, headers=None, context=None):
    request = urllib.request.Request(url, method=method, headers=headers or {},
                                     data=None if body is None else json.dumps(body).encode())
    handlers = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None, ""

def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}

def _tail(path, n=20):
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return "".join(list(file)[-n:])
    return ""
