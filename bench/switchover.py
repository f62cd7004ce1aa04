"""Measures what clients see when the primary changes, side by side on one machine: see README.md.

Everything is started here, on free ports, in a folder of its own, and is gone at the end.
"""

import argparse
import collections
import contextlib
import datetime
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TOP, "tests"))

import clients  # noqa: E402
import fronts  # noqa: E402
import pgbouncer  # noqa: E402
import report  # noqa: E402
import tally  # noqa: E402
import targets  # noqa: E402
from cluster import network, process  # noqa: E402
from cluster.cluster import Cluster, postgres_programs  # noqa: E402

WARM_ROWS = 20  # of each writer, before anything happens
WARM_S = 60
AFTER_S = 2  # of writing, when all writers have come back
CHANGE_S = 120  # until a new primary accepts

SCHEMA = """
drop table if exists bench_rows, bench_observed;
create table bench_rows (run int, client int, number int, part int, at timestamptz default clock_timestamp());
create table bench_observed (node text);
grant all on bench_rows to app;
"""

HAPROXY, CHAIN, POOL, TCP = "haproxy", "chain", "pool", "tcp"

# What happens to the primary


def planned(cluster, change):
    cluster.switchover()


def by_command(cluster, change):
    """pgrouter's own SWITCHOVER, on the console."""
    where = (f"host={targets.ADDRESS} port={change.target.console_port()} user=postgres dbname=pgrouter "
             f"sslmode={change.tls_mode}")
    change.said = process.run([os.path.join(cluster.programs, "psql"), "-Xqc", "SWITCHOVER", where],
                              env={**os.environ, "PGPASSWORD": cluster.passwords["postgres"]}).splitlines()


def restart(cluster, change):
    change.old.kill_postgres()


def killed(cluster, change):
    change.old.kill()


def frozen(cluster, change):
    change.old.freeze()


def cut(cluster, change):
    change.old.cut()


# Goals are pgrouter's: at most so many for each change, or seconds in each of them.
Case = collections.namedtuple("Case", "what shape happens fronts goals")

ALL_KEPT = {"missing": 0, "doubled": 0}
AT_ONCE = {"doubled": 0, "hung": 0, "first": 0.2}
CASES = {
    "planned": Case("switchover by Patroni, single autocommit statements", "autocommit", planned,
                    (HAPROXY, CHAIN, POOL), {**ALL_KEPT, "errors": 0, "wait_own": 0.2}),
    "transactions": Case("switchover by Patroni, explicit transactions of 20 ms", "transactions", planned,
                         (HAPROXY, CHAIN, POOL), {**ALL_KEPT, "errors": 0.1}),
    "restart": Case("PostgreSQL of the primary is killed, and started again in place", "autocommit", restart,
                    (HAPROXY, CHAIN, POOL), {"doubled": 0, "late_errors": 0}),
    "killed": Case("SIGKILL of the primary's Patroni and PostgreSQL", "autocommit", killed,
                   (HAPROXY, CHAIN, POOL), AT_ONCE),
    "frozen": Case("SIGSTOP of the primary's Patroni and PostgreSQL", "autocommit", frozen,
                   (HAPROXY, CHAIN, POOL), AT_ONCE),
    "cut": Case("the primary's network is cut", "autocommit", cut,
                (HAPROXY, CHAIN, POOL), AT_ONCE),
    "reconnect": Case("switchover by Patroni, a new connection for each statement", "reconnect", planned,
                      (HAPROXY, CHAIN, TCP), {**ALL_KEPT, "refused": 0, "first": 0.2}),
}


def arguments():
    parser = argparse.ArgumentParser(prog="switchover.py", description=__doc__)
    parser.add_argument("--build", default=os.path.join(TOP, "build"), help="folder with pgrouter")
    parser.add_argument("--program", help="another pgrouter than that of --build")
    parser.add_argument("--cases", type=names(CASES), metavar="NAME,...", help=f"of: {', '.join(CASES)}")
    parser.add_argument("--targets", type=names((HAPROXY, CHAIN, POOL, TCP)), metavar="NAME,...",
                        help="of: haproxy, chain, pool, tcp; each case has its own choice of them")
    parser.add_argument("--rounds", type=int, default=10, help="so many changes for each case and target (10)")
    parser.add_argument("--clients", type=int, default=8, help="writers (8)")
    parser.add_argument("--drivers", type=names(clients.KINDS), metavar="NAME,...",
                        help=f"of: {', '.join(clients.KINDS)}; writers take them by turns (all that are here)")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two statements of a writer (0.01)")
    parser.add_argument("--error-pause", type=float, default=0.05, help="seconds after an error (0.05)")
    parser.add_argument("--patience", type=float, default=60,
                        help="seconds after a new primary accepts for all writers to come back (60)")
    parser.add_argument("--tls", action="store_true", help="TLS from the writers to PostgreSQL")
    parser.add_argument("--synchronous", action="store_true", help="Patroni's synchronous_mode")
    parser.add_argument("--routers", type=int, default=1, help="so many pgrouters, each with its share of writers")
    parser.add_argument("--workers", default="4", help="of pgrouter (4)")
    parser.add_argument("--etcd", action="store_true", help="pgrouter watches Patroni's keys in etcd")
    parser.add_argument("--replay", choices=("off", "unsent", "aborted"), help="pgrouter's setting")
    parser.add_argument("--command", action="store_true",
                        help="planned switchovers of pgrouter by its SWITCHOVER, not by Patroni's")
    parser.add_argument("--set", metavar="SECTION:KEY=VALUE", type=setting, action="append", default=[],
                        help="another setting of pgrouter; the section as in the file, \"cluster\" is "
                             "\"cluster main\", \"listener\" is \"listener rw\"; {etcd}, {etcd_ca}, {etcd_certificate}, "
                             "{etcd_key} and {patroni_password} stand for those of the cluster")
    parser.add_argument("--expire", action="store_true",
                        help="where the primary is lost, end its lease in etcd at once, not after its ttl")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces, also as root")
    parser.add_argument("--folder", help="parent of the throw-away folder (the system's)")
    given = parser.parse_args()
    given.build = os.path.abspath(given.build)
    given.program = os.path.abspath(given.program or os.path.join(given.build, "pgrouter"))
    return given


def names(known):
    def split(text):
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return found
    return split


def setting(text):
    """((section, key), value)"""
    section, colon, rest = text.partition(":")
    key, equals, value = rest.partition("=")
    if not colon or not equals:
        raise argparse.ArgumentTypeError(f"{text} is not SECTION:KEY=VALUE")
    section = {"cluster": "cluster main", "listener": "listener rw"}.get(section, section)
    return (section, key.strip()), value.strip()


# One change


class Change:
    """All that is known of one; what measure() fills in is kept as JSON."""

    def __init__(self, case_name, target, number, run, tls):
        self.name, self.case, self.number, self.run = case_name, CASES[case_name], number, run
        self.target, self.ports = target, target.ports()
        self.tls_mode = "require" if tls else "disable"
        self.old, self.said = None, []
        self.times = {"trigger": None, "stopped": None, "accepts": None}


class Bench:
    def __init__(self, given, folder):
        self.given, self.folder = given, folder
        when = now_utc().replace(":", "").replace("+0000", "Z")
        self.results = os.path.join(HERE, "results", f"switchover-{when}-{os.getpid()}")  # several may run
        why_not = "--loopback was asked for" if given.loopback else network.namespaces_work()
        if given.cases is None:
            given.cases = [name for name in CASES if name != "cut" or why_not is None]
        elif "cut" in given.cases and why_not is not None:
            raise SystemExit(f"the case cut cannot be had: {why_not}")
        # where cables can be pulled, all cases are measured over them
        nodes_live_in = network.Namespaces(3) if "cut" in given.cases else network.Loopback()
        self.cluster = Cluster(os.path.join(folder, "cluster"), network=nodes_live_in)
        self.targets = {}
        self.run = 0
        self.found = {case: {name: [] for name in self._targets_of(case)} for case in given.cases}
        self.left_out = []

    # What is there during the whole run

    def start(self):
        say("starting etcd and three nodes of Patroni with PostgreSQL")
        self.cluster.start()
        self._prepare_cluster()
        if "jdbc" in self.given.drivers:
            clients.compile_java(self.folder)
        wanted = {name for case in self.given.cases for name in self._targets_of(case)}
        tls = targets.certificate(self.folder) if self.given.tls else None
        for name in (HAPROXY, CHAIN, POOL, TCP):
            if name in wanted:
                self.targets[name] = self._target(name, tls)
                self.targets[name].start()

    def _targets_of(self, case):
        """A target that is not among the usual ones of the case is measured if asked for alone."""
        chosen = self.given.targets or CASES[case].fronts
        found = [name for name in CASES[case].fronts if name in chosen] or list(chosen)
        return [name for name in found if name != CHAIN or self.given.pgbouncer]

    def _target(self, name, tls):
        given, folder, cluster = self.given, self.folder, self.cluster
        if name == HAPROXY:
            return fronts.Haproxy(HAPROXY, folder, cluster)
        if name == CHAIN:
            return fronts.Chain(given.pgbouncer, folder, cluster, tls)
        return fronts.Pgrouters(name, given.routers, given.program, folder, cluster,
                                fronts.POOL if name == POOL else fronts.TCP, self._settings(), tls, given.workers)

    def _settings(self):
        given, found = self.given, {}
        if given.etcd:
            found.update({("cluster main", key): value for key, value in fronts.ETCD.items()})
        if given.command:
            found.update({("cluster main", key): value for key, value in fronts.COMMAND.items()})
        if given.replay:
            found["pgrouter", "replay"] = given.replay
        found.update(given.set)
        facts = fronts.facts_of(self.cluster)
        return {where: value.format(**facts) for where, value in found.items()}

    def _prepare_cluster(self):
        self.cluster.leader().sql(SCHEMA, database="app")
        if self.given.synchronous:
            self.cluster.configure(synchronous_mode=True)
        self._wait_until_whole()

    def _wait_until_whole(self):
        leader = self.cluster.wait_for_roles()
        try:
            self.cluster.wait_for_replay(10)
        except TimeoutError:
            leader = self._restart_replicas(leader)
        if self.given.synchronous:
            query = "select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum')"
            if not process.wait_until(lambda: leader.sql(query) != "0", 30, step=0.1):
                raise TimeoutError("no replica has become synchronous")
        return leader

    def _restart_replicas(self, leader):
        """One that had come further than the new primary asks that for its timeline for ever; when
        it is started Patroni winds it back."""
        for node in self.cluster.nodes:
            if node is not leader:
                node.kill()
                node.start()
        leader = self.cluster.wait_for_roles()
        self.cluster.wait_for_replay()
        return leader

    def close(self):
        for target in reversed(list(self.targets.values())):
            target.stop()
        self.cluster.close()

    # Rounds

    def measure_all(self):
        """Fills in self.found. A change that the cluster did not survive is left out: it has
        a new one then."""
        os.makedirs(self.results)
        for number in range(1, self.given.rounds + 1):
            for case in self.given.cases:
                order = self._targets_of(case)
                first = number % len(order)
                for name in order[first:] + order[:first]:  # who comes first changes
                    where = f"round {number} of {self.given.rounds}: {case}, {name}"
                    say(where)
                    try:
                        result = self._measure(case, name, number)
                    except (TimeoutError, RuntimeError, subprocess.TimeoutExpired) as error:
                        self.left_out.append(f"{where}: {error}")
                        say(self.left_out[-1], is_over=True)
                        self.cluster.rebuild()
                        self._begin_anew()
                        continue
                    self.found[case][name].append(result)
                    say(f"{where}: {report.in_words(result)}", is_over=True)
                    if self.cluster.heal():
                        self._begin_anew()

    def _begin_anew(self):
        """With another cluster in the place of the one that was."""
        self._prepare_cluster()
        for target in self.targets.values():
            target.stop()
            target.start()

    def _measure(self, case, name, number):
        self.run += 1
        change = Change(case, self.targets[name], number, self.run, self.given.tls)
        change.old = self._wait_until_whole()
        change.old.sql("truncate bench_rows, bench_observed", database="app")
        self._wait_until_led(change)
        log_began = os.path.getsize(change.target.log())
        observer = clients.Observer(self.cluster)
        try:
            writers = clients.Writers(self.given, self.folder, self.cluster, change)
            try:
                self._warm_up(change, writers)
                self._happen(change, observer)
                returned = self._wait_until_all_write(change, writers)
                time.sleep(AFTER_S)
                lists = writers.finish()
            finally:
                writers.close()
        finally:
            observer.close()
        leader = self.cluster.wait_for_leader()
        result = self._account(change, lists, self._read_back(change, leader))
        result["returned"] = returned
        report.keep(self.results, f"{case}-{name}-{number:02}", change, lists, result, observer.events, leader, log_began)
        return result

    def _wait_until_led(self, change):
        """The target leads to the primary, again and again."""
        query = [os.path.join(self.cluster.programs, "psql"), "-XAtqc", "select not pg_is_in_recovery()"]
        led = 0

        def is_led():
            nonlocal led
            for port in change.ports:
                where = self.cluster.dsn(targets.ADDRESS, port, sslmode=change.tls_mode)
                done = subprocess.run([*query, where], capture_output=True, text=True, check=False, timeout=60)
                led = led + 1 if done.stdout.strip() == "t" else 0
            return led >= 6 * len(change.ports)

        if not process.wait_until(is_led, 90, step=0.3):
            raise TimeoutError(f"{change.target.name} does not lead to the primary; see {change.target.log()}")

    def _warm_up(self, change, writers):
        query = (f"select count(*) from (select client from bench_rows where run = {change.run} and part = 1 "
                 f"group by client having count(*) >= {WARM_ROWS}) as warm")

        def is_warm():
            writers.check()
            return int(change.old.sql(query, database="app")) == self.given.clients

        if not process.wait_until(is_warm, WARM_S, step=0.3):
            said = {(writer["kind"], error[5]) for writer in writers.finish() for error in tally.all_errors([writer])}
            raise TimeoutError(f"not all writers come through {change.target.name}: {sorted(said)}")

    def _happen(self, change, observer):
        change.times["trigger"] = time.time()
        happens = change.case.happens
        if happens is planned and self.given.command and change.target.name in (POOL, TCP):
            happens = by_command
        happens(self.cluster, change)
        is_lost = happens in (killed, frozen, cut)
        if is_lost and self.given.expire:
            if happens is cut:  # it may renew its lease no more
                time.sleep(0.5)
            self.cluster.expire_leader()
        event = process.wait_until(
            lambda: observer.first_write(change.times["trigger"], happens is not restart, change.old), CHANGE_S)
        if not event:
            raise TimeoutError(f"no new primary after {CHANGE_S} s: {self.cluster.describe()}")
        change.times["accepts"], change.times["stopped"] = event["at"], event["last"].get(change.old.name)
        change.new = event["node"]

    def _wait_until_all_write(self, change, writers):
        """How many writers came back in time."""
        node = self.cluster.node(change.new)
        query = (f"select count(distinct client) from bench_rows where run = {change.run} "
                 f"and at > to_timestamp({change.times['accepts']:.6f})")
        n = 0

        def has_all():
            nonlocal n
            writers.check()
            with contextlib.suppress(RuntimeError):
                n = int(node.sql(query, database="app"))
            return n == self.given.clients

        process.wait_until(has_all, self.given.patience, step=0.3)
        return n

    def _read_back(self, change, leader):
        """{client: {(number, part): how often}}, from the new primary; other runs' rows are left out."""
        text = leader.sql(f"select client, number, part, count(*) from bench_rows where run = {change.run} "
                          "group by 1, 2, 3", database="app")
        found = {}
        for line in text.splitlines():
            client, number, part, n = map(int, line.split("|"))
            found.setdefault(client, {})[number, part] = n
        return found

    def _account(self, change, lists, rows):
        parts = 2 if change.case.shape == "transactions" else 1
        result = tally.tally(lists, rows, parts, change.times)
        n_rows = sum(sum(counts.values()) for counts in rows.values())
        result["rows"] = n_rows
        change.rows = rows
        return result


def now_utc():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def facts_of(given):
    programs = postgres_programs()
    options = [f"{given.clients} writers ({', '.join(given.drivers)})", f"TLS {'on' if given.tls else 'off'}",
               f"synchronous_mode {'on' if given.synchronous else 'off'}",
               f"{given.routers} pgrouter of {given.workers} workers" + (", etcd" if given.etcd else "") +
               (f", replay = {given.replay}" if given.replay else "") + (", SWITCHOVER" if given.command else "")]
    options += [f"[{section}] {key} = {value}" for (section, key), value in given.set]
    return {
        "when": now_utc(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "pgrouter": targets.version(given.program, "--version"),
        "haproxy": targets.version(fronts.Haproxy.program, "-v"),
        "pgbouncer": given.pgbouncer.version if given.pgbouncer else f"none to be had ({given.why_not})",
        "postgres": targets.version(os.path.join(programs, "postgres"), "--version"),
        "patroni": targets.version("/usr/bin/patroni", "--version"),
        "settings": "; ".join(options),
    }


def say(text, is_over=False):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\n" if is_over else "", file=sys.stderr, flush=True)
    elif is_over:
        print(text, file=sys.stderr, flush=True)


def main():
    tally.check()
    given = arguments()
    if not os.access(given.program, os.X_OK):
        raise SystemExit(f"there is no {given.program}")
    given.drivers = [kind for kind in given.drivers or clients.KINDS if clients.KINDS[kind][1]()]
    given.pgbouncer, given.why_not = pgbouncer.find(os.path.join(given.build, "bench", "pgbouncer"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # ends what was started, and shows what was measured
    facts = facts_of(given)
    folder = tempfile.mkdtemp(prefix="pgrouter-bench-", dir=given.folder)
    os.chmod(folder, 0o711)  # the cluster's user passes through
    try:
        bench = Bench(given, folder)
        try:
            bench.start()
            bench.measure_all()
        except KeyboardInterrupt:
            bench.left_out.append("all that was to come when it was interrupted")
        finally:
            bench.close()
    finally:
        process.remove_tree(folder)
    say("")
    save(facts, bench)
    return 1 if bench.left_out else 0


def save(facts, bench):
    found = {case: {name: results for name, results in each.items() if results} for case, each in bench.found.items()}
    os.makedirs(bench.results, exist_ok=True)
    report.print_table(facts, found, bench.left_out, CASES, sys.stdout)
    with open(os.path.join(bench.results, "table.txt"), "w", encoding="utf-8") as file:
        report.print_table(facts, found, bench.left_out, CASES, file)
    with open(os.path.join(bench.results, "results.json"), "w", encoding="utf-8") as file:
        json.dump({"facts": facts, "left_out": bench.left_out, "cases": found}, file, separators=(",", ":"))
    print(f"\neach change: {os.path.relpath(bench.results)}")


if __name__ == "__main__":
    sys.exit(main())
