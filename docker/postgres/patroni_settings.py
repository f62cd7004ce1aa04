#!/usr/bin/python3
"""patroni.yml out of the environment, and what has to be asked of the cluster's store.

    patroni_settings.py write FILE       writes it, and beside it pgpass; prints the URL of this node's REST API
    patroni_settings.py state FILE       prints how far the cluster is: none, begun, or its identifier
    patroni_settings.py forget FILE      a bootstrap that was begun and cut off is none
    patroni_settings.py apply FILE       gives a running cluster what the environment says of all nodes

No value is pasted into text: the settings are built as a tree, and PyYAML, which Patroni reads them with,
writes them. Passwords are not among them: Patroni puts those of its roles into the text of a statement, in
which `$$` ends the string. They stand in a password file beside, for libpq (PGPASSFILE), and
post_bootstrap.sh gives them to the roles. A value that cannot be used is refused in one sentence, status 1.
"""

import json
import os
import re
import shlex
import shutil
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
# Patroni takes these from the store only, the same for all nodes.
CLUSTER_WIDE = {"max_connections", "max_locks_per_transaction", "max_prepared_transactions",
                "max_replication_slots", "max_wal_senders", "max_worker_processes",
                "track_commit_timestamp", "wal_keep_segments", "wal_keep_size", "wal_level"}
PATRONIS_OWN = {"cluster_name", "config_file", "data_directory", "hba_file", "hot_standby", "ident_file",
                "listen_addresses", "port", "unix_socket_directories", "wal_log_hints"}
MAX_NAME = 63  # bytes, of a role or a database
LEAST = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}  # Patroni's own
TIMINGS = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10}


class Refused(Exception):
    pass


def say(text):
    print(f"patroni-runner: {text}", file=sys.stderr)


def value(name, default=None):
    """Of an environment variable; an empty one is none."""
    found = os.environ.get(name) or default
    if found is None:
        raise Refused(f"{name} is not set")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise Refused(f"{name} is not UTF-8") from None
    return found


def name_of(variable, default=None):
    """A role, a database, a node: one line, as long as PostgreSQL has names."""
    found = value(variable, default)
    if any(ord(c) < 32 or ord(c) == 127 for c in found) or len(found.encode()) > MAX_NAME:
        raise Refused(f"{variable}: a name is one line of at most {MAX_NAME} bytes")
    return found


def superuser_name():
    """Patroni gives it to initdb by way of a shell."""
    found = name_of("PATRONI_SUPERUSER_USERNAME", "postgres")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", found) or found.startswith("pg_"):
        raise Refused("PATRONI_SUPERUSER_USERNAME: only letters, digits and _ . @ - can be used")
    return found


def store_name(variable, default=None):
    """Part of a key in the store."""
    found = name_of(variable, default)
    if "/" in found:
        raise Refused(f"{variable}: '{found}' has a /")
    return found


def line_of(variable, default=None):
    """A password that libpq's password file has to hold: its lines are its records."""
    found = value(variable, default)
    if re.search(r"[\r\n]", found):
        said = variable if os.environ.get(variable) else f"{variable} (by default POSTGRES_PASSWORD)"
        raise Refused(f"{said}: servers reach each other with it by a password file, which cannot hold "
                      "line breaks: set one without")
    return found


def etcd_hosts():
    text = value("PATRONI_ETCD3_HOSTS", os.environ.get("PATRONI_ETCD_HOSTS") or None)
    hosts = [host.strip().strip("'\"") for host in text.split(",")]
    for host in hosts:
        if not re.fullmatch(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", host):
            raise Refused(f"PATRONI_ETCD3_HOSTS: '{host}': expected host:port,host:port")
    return hosts


def timings():
    """As the environment says, made to fit: loop_wait + 2 * retry_timeout <= ttl. Otherwise a leader
    that still tries to reach the store may have lost its lock."""
    found = {}
    for key, default in TIMINGS.items():
        variable = f"PATRONI_{key.upper()}"
        text = value(variable, str(default))
        if not re.fullmatch("[0-9]{1,6}", text) or int(text) < LEAST[key]:
            raise Refused(f"{variable}: '{text}' is not a number of seconds from {LEAST[key]} up")
        found[key] = int(text)
    fitting = dict(found)
    fitting["loop_wait"] = min(found["loop_wait"], found["ttl"] - 2 * LEAST["retry_timeout"])
    fitting["retry_timeout"] = min(found["retry_timeout"], (found["ttl"] - fitting["loop_wait"]) // 2)
    if fitting != found:
        say("PATRONI_LOOP_WAIT + 2 * PATRONI_RETRY_TIMEOUT is more than PATRONI_TTL, "
            f"{found['loop_wait']} + 2 * {found['retry_timeout']} > {found['ttl']}: "
            f"going on with loop_wait {fitting['loop_wait']}, retry_timeout {fitting['retry_timeout']}")
    return fitting


def parameters():
    """PostgreSQL's settings of POSTGRES_PARAM_<name>; __ stands for the dot of an extension's."""
    found = {}
    for variable in sorted(os.environ):
        if not variable.startswith("POSTGRES_PARAM_"):
            continue
        key = variable[len("POSTGRES_PARAM_"):].lower().replace("__", ".")
        if not re.fullmatch(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?", key):
            raise Refused(f"{variable}: '{key}' is not a setting's name")
        if key in PATRONIS_OWN:
            raise Refused(f"{variable}: {key} is Patroni's to set")
        found[key] = os.environ[variable]
    return found


def pgpass(roles):
    """The password file: any server, any database."""
    def escaped(text):
        return re.sub(r"([:\\])", r"\\\1", text)

    return "".join(f"*:*:*:{escaped(name)}:{escaped(password)}\n" for name, password in roles.items())


def hba_name(name):
    """In quotes a name has no other meaning (all, replication, +group)."""
    return '"' + name.replace('"', '""') + '"'


def at(host, port):
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def port_of(listen):
    return listen.rpartition(":")[2]


def cluster_wide():
    """What the store is to hold of the settings that are given: those of all nodes."""
    given = timings() if any(os.environ.get(f"PATRONI_{key.upper()}") for key in TIMINGS) else {}
    own = {key: text for key, text in parameters().items() if key in CLUSTER_WIDE}
    return {**given, "postgresql": {"parameters": own}} if own else given


def logins():
    """Patroni's roles, and what libpq is to know of them."""
    password = value("POSTGRES_PASSWORD")
    superuser, replication = superuser_name(), name_of("PATRONI_REPLICATION_USERNAME", "replicator")
    roles = {superuser: line_of("PATRONI_SUPERUSER_PASSWORD", password),
             replication: line_of("PATRONI_REPLICATION_PASSWORD")}
    if superuser == replication:
        raise Refused("PATRONI_SUPERUSER_USERNAME and PATRONI_REPLICATION_USERNAME are the same")
    application = name_of("POSTGRES_USER", "postgres")
    name_of("POSTGRES_DB", application)
    if roles.get(application, password) != password:
        of = "SUPERUSER" if application == superuser else "REPLICATION"
        raise Refused(f"POSTGRES_USER and PATRONI_{of}_USERNAME are the same, with two passwords")
    return superuser, replication, roles


def settings():
    superuser, replication, _ = logins()
    name = store_name("PATRONI_NAME")
    address = value("RAILWAY_PRIVATE_DOMAIN", name)
    data, volume = value("PGDATA"), value("RAILWAY_VOLUME_MOUNT_PATH", "/var/lib/postgresql/data")
    run = value("PATRONI_RUN_DIR", "/tmp/patroni")
    sockets = value("POSTGRES_SOCKET_DIR", "/var/run/postgresql")
    listen = value("PATRONI_POSTGRESQL_LISTEN", "*:5432")
    rest = value("PATRONI_RESTAPI_LISTEN", "*:8008")
    given = parameters()
    programs = shutil.which("postgres")
    if programs is None:
        raise Refused("there is no program postgres in PATH")

    def script(file):
        return shlex.quote(os.path.join(HERE, file))

    return {
        "scope": store_name("PATRONI_SCOPE", "railway-pg-ha"),
        "name": name,
        "etcd3": {"hosts": etcd_hosts()},
        "restapi": {"listen": rest,
                    "connect_address": value("PATRONI_RESTAPI_CONNECT_ADDRESS", at(address, port_of(rest)))},
        "bootstrap": {
            "dcs": {
                **timings(),
                "maximum_lag_on_failover": 1 << 20,
                "failsafe_mode": True,
                "postgresql": {
                    "use_pg_rewind": True,
                    "use_slots": True,
                    "parameters": {
                        "wal_level": "replica", "hot_standby": "on", "max_connections": "200",
                        "max_wal_senders": "10", "max_replication_slots": "10",
                        **{key: text for key, text in given.items() if key in CLUSTER_WIDE}}}},
            "initdb": [{"encoding": "UTF8"}, {"locale": value("LANG", "C.UTF-8")}, "data-checksums"],
            "post_bootstrap": script("post_bootstrap.sh")},
        "postgresql": {
            "listen": listen,
            "connect_address": value("PATRONI_POSTGRESQL_CONNECT_ADDRESS", at(address, port_of(listen))),
            "bin_dir": os.path.dirname(programs),
            "data_dir": data,
            "pgpass": os.path.join(run, "patroni.pgpass"),
            "use_unix_socket": True,
            "use_unix_socket_repl": True,
            "authentication": {"superuser": {"username": superuser}, "replication": {"username": replication}},
            "create_replica_methods": ["basebackup"],
            "basebackup": [{"checkpoint": "fast"}],
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
            "before_stop": script("before_stop.sh"),
            "callbacks": {"on_role_change": script("on_role_change.sh")},
            # Who is inside the container is the superuser there, as in the official image.
            "pg_hba": ["local all all trust", "local replication all trust",
                       f"host replication {hba_name(replication)} all scram-sha-256",
                       "host all all all scram-sha-256"],
            "parameters": {
                "unix_socket_directories": sockets,
                "password_encryption": "scram-sha-256",
                "ssl": "on",
                "ssl_cert_file": os.path.join(volume, "certs", "server.crt"),
                "ssl_key_file": os.path.join(volume, "certs", "server.key"),
                **{key: text for key, text in given.items() if key not in CLUSTER_WIDE}}},
    }


def rest_url(made):
    """Where this node asks its own Patroni."""
    listen = made["restapi"]["listen"]
    host = listen.rpartition(":")[0].strip("[]")
    if host in ("", "*", "0.0.0.0", "::"):
        host = "127.0.0.1"
    scheme = "https" if os.environ.get("PATRONI_RESTAPI_CERTFILE") else "http"
    return f"{scheme}://{at(host, port_of(listen))}"


def write(path):
    import yaml
    made = settings()

    def new(path):
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")

    with new(path) as file:
        file.write("# Made of the environment at every start.\n")
        yaml.safe_dump(made, file, sort_keys=False)
    with new(os.path.join(os.path.dirname(path), "pgpass")) as file:
        file.write(pgpass(logins()[2]))
    print(rest_url(made))


def store(path):
    """Waits until it can be reached."""
    from patroni.config import Config
    from patroni.dcs import get_dcs
    return get_dcs(Config(path))


def state(path):
    found = store(path).get_cluster().initialize
    print("none" if found is None else found or "begun")


def forget(path):
    cluster = store(path)
    if cluster.get_cluster().initialize == "":
        cluster.cancel_initialization()


def merged(old, new):
    return {**old, **{key: merged(old.get(key) or {}, part) if isinstance(part, dict) else part
                      for key, part in new.items()}}


def apply(path):
    wanted = cluster_wide()
    if not wanted:
        return
    cluster = store(path)
    config = cluster.get_cluster().config
    if config is None or not config.data:
        raise Refused("the store has no settings of the cluster yet")
    new = merged(config.data, wanted)
    if new != config.data:
        cluster.set_config_value(json.dumps(new, separators=(",", ":")))
        say(f"the cluster's settings are now those of the environment: {json.dumps(wanted)}")


def main():
    try:
        {"write": write, "state": state, "forget": forget, "apply": apply}[sys.argv[1]](sys.argv[2])
    except Refused as why:
        say(why)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
