"""The demonstration that `./dev demo` shows: a cluster, and pgrouter in front of it.

    demo.py start PGROUTER     starts both, prints what to try
    demo.py stop               ends both, removes the folder

Everything lives in one folder that only its owner can write to, under an account that is
not root. Ports that are in use are left alone: nodes take others, and for the ports that
a user types the clash is named before anything starts.
"""

import os
import shutil
import signal
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cluster import network, process  # noqa: E402
from cluster.cluster import Cluster, read_identity, request  # noqa: E402

FOLDER = f"/var/tmp/pgrouter-demo-{os.geteuid()}"
MESSAGE = os.path.join(FOLDER, "message")
STARTER = os.path.join(FOLDER, "starter")
ROUTER = os.path.join(FOLDER, "pgrouter.pid")
ADDRESS = "127.0.0.1"

SETTINGS = """\
[pgrouter]
workers = auto

[cluster main]
nodes = {nodes}

[listener rw]
bind = {address}:{rw}
role = primary

[listener ro]
bind = {address}:{ro}
role = replica
balance = roundrobin

[stats]
bind = {address}:{stats}
"""

TEXT = """\
pgrouter stands in front of a Patroni cluster: {nodes}

  the primary   PGPASSWORD={password} psql -h {address} -p {rw} -U app app
  replicas      PGPASSWORD={password} psql -h {address} -p {ro} -U app app
  by turns      for i in 1 2 3 4; do PGPASSWORD={password} psql -h {address} -p {ro} -U app -Atc 'select inet_server_addr()' app; done
  stats page    http://{address}:{stats}/stats
  who is who    {patronictl} list
  switch over   {patronictl} switchover main --force
  settings, log {folder}/pgrouter/pgrouter.ini, {folder}/pgrouter/log
  the end       ./dev stop
"""


def wanted_ports():
    """The ports that a user types, as DEMO_RW_PORT etc. may set them; those of others are
    not touched."""
    ports, clashes = {}, []
    for name, default in (("rw", 5000), ("ro", 5001), ("stats", 8404)):
        variable = f"DEMO_{name.upper()}_PORT"
        text = os.environ.get(variable, str(default))
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise SystemExit(f"{variable}={text} is not a port")
        ports[name] = int(text)
        if list(ports.values()).count(ports[name]) > 1:
            raise SystemExit(f"port {text} is asked for twice: give {variable} another one")
        owner = network.listener_on(ADDRESS, ports[name])
        if owner is not None:
            clashes.append(f"port {text} on {ADDRESS} is in use ({owner}): end that, or choose "
                           f"another one with {variable}=... ./dev demo")
    if clashes:
        raise SystemExit("\n".join(clashes))
    return ports


def is_ours(path):
    """No link and no folder of somebody else, who could have made it before us."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SystemExit(f"{path} is there already and does not belong to this demo: remove it first")
    return True


def is_alive(pid_file):
    identity = read_identity(pid_file)
    return identity is not None and identity.is_alive()


def start(program):
    if is_ours(FOLDER):
        if is_alive(ROUTER) and os.path.exists(MESSAGE):
            print("The demo runs already.\n")
            show_message()
            return
        if is_alive(STARTER):
            raise SystemExit("Another ./dev demo is starting it just now.")
        Cluster.close_folder(FOLDER)  # an earlier one that did not come to its end
    ports = wanted_ports()
    try:
        os.mkdir(FOLDER, 0o700)
    except FileExistsError:
        raise SystemExit("Another ./dev demo is starting it just now.") from None
    with open(STARTER, "w", encoding="ascii") as file:
        file.write(str(process.Identity.of(os.getpid())))
    try:
        build_up(program, ports)
    except BaseException:
        Cluster.close_folder(FOLDER)
        raise
    os.unlink(STARTER)
    show_message()


def build_up(program, ports):
    print("Starting etcd and three nodes of Patroni with PostgreSQL ...", flush=True)
    cluster = Cluster(FOLDER, network=network.Loopback("127.0.1"))
    cluster.start()
    print("Starting pgrouter ...", flush=True)
    start_router(cluster, program, ports)
    settings = cluster.nodes[0].settings
    sudo = "sudo " if os.environ.get("SUDO_USER") else ""
    cluster.write(MESSAGE, TEXT.format(
        nodes=cluster.nodes_setting(), password=cluster.passwords["app"], address=ADDRESS,
        patronictl=f"{sudo}patronictl -c {settings}", folder=FOLDER, **ports))


def start_router(cluster, program, ports):
    folder = os.path.join(FOLDER, "pgrouter")
    os.mkdir(folder, 0o700)
    cluster.account.own(folder)
    copy = os.path.join(folder, "pgrouter")
    shutil.copy(program, copy)  # the checkout may be out of the account's reach
    os.chmod(copy, 0o755)
    ini = os.path.join(folder, "pgrouter.ini")
    cluster.write(ini, SETTINGS.format(nodes=cluster.nodes_setting(), address=ADDRESS, **ports))
    log = os.path.join(folder, "log")
    cluster.spawn("pgrouter", cluster.account.command([copy, ini]), log, folder)

    def is_ready():
        if not cluster.is_running("pgrouter"):
            return True
        return request(f"http://{ADDRESS}:{ports['stats']}/readyz")[0] == 200

    ready = process.wait_until(is_ready, 20)
    if not ready or not cluster.is_running("pgrouter"):
        with open(log, encoding="utf-8", errors="replace") as file:
            raise SystemExit("pgrouter did not become ready:\n" + file.read())


def show_message():
    with open(MESSAGE, encoding="utf-8") as file:
        print(file.read())


def stop():
    if not is_ours(FOLDER):
        print("No demo runs.")
        return
    starter = read_identity(STARTER)
    if starter is not None and starter.is_alive() and starter.pid != os.getpid():
        starter.send(signal.SIGTERM)  # it cleans up
        process.wait_until(lambda: not starter.is_alive(), 20)
    router = read_identity(ROUTER)
    if router is not None:
        router.end(patience=2)
    Cluster.close_folder(FOLDER)
    print("The demo has ended.")


def main(arguments):
    def on_signal(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        if arguments[:1] == ["start"] and len(arguments) == 2:
            start(os.path.abspath(arguments[1]))
        elif arguments == ["stop"]:
            stop()
        else:
            raise SystemExit(__doc__)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (RuntimeError, TimeoutError) as error:
        raise SystemExit(f"{error}\nEverything that was started has been ended.") from None


if __name__ == "__main__":
    main(sys.argv[1:])
