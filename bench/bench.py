"""Measures what a relay costs, side by side on one machine: see README.md.

Everything is started here, on free ports of the loopback device, in a folder of its own,
and is gone at the end.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import signal
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TOP, "tests"))

import loads  # noqa: E402
import pgbouncer  # noqa: E402
import targets  # noqa: E402
from cluster import process  # noqa: E402

PGBENCH_MODES = {
    "simple": ["-M", "simple"],
    "prepared": ["-M", "prepared"],
    "reconnect": ["-M", "simple", "-C"],
}
POOL_MODES = {
    "pool": ["-M", "simple"],
    "pool-prepared": ["-M", "prepared"],
}
OURS, PEER, FLOOR = "pgrouter 1", "haproxy", "floor"
POOL, POOL_PEER, CHAIN = "pool 1", "pgbouncer", "chain"
WORKERS = [POOL, "pool 2", "pool 4"]
CLIENTS_OF_WORKERS = 64

# What the cost of each is set beside in the table.
BESIDE = {"/floor": FLOOR, "/haproxy": PEER}
BESIDE_POOL = {"/floor": FLOOR, "/pgbouncer": POOL_PEER, "/chain": CHAIN}
BESIDE_WORKERS = {"/pool 1": POOL, "/pgbouncer": POOL_PEER}


def arguments():
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five minutes in place of fifteen")
    parser.add_argument("--build", default=os.path.join(TOP, "build"), help="folder with pgrouter and bench/floor")
    parser.add_argument("--compare", metavar="NAME=PROGRAM", action="append", default=[],
                        help="another pgrouter to be measured too, with one worker")
    parser.add_argument("--only", metavar="LOAD,...",
                        help="of: simple, prepared, reconnect, copy-out, copy-in, pool, pool-prepared, "
                             "pool-workers, crowd, memory")
    parser.add_argument("--targets", metavar="NAME,...", help="only these (as the table names them)")
    parser.add_argument("--clients", type=counts, help="1,16,64: pgbench with each of them (16)")
    parser.add_argument("--rounds", type=int, help="each load runs so often through each target (5)")
    parser.add_argument("--seconds", type=float, help="for one run of pgbench (5)")
    parser.add_argument("--megabytes", type=int, help="for one COPY (1000)")
    parser.add_argument("--sessions", type=int, help="idle ones, for the memory (9000)")
    parser.add_argument("--folder", help="parent of the throw-away folder (the system's)")
    given = parser.parse_args()
    given.build = os.path.abspath(given.build)
    usual = ({"rounds": 3, "seconds": 2, "megabytes": 250, "sessions": 1800} if given.quick else
             {"rounds": 5, "seconds": 5, "megabytes": 1000, "sessions": 9000})
    for name, value in {**usual, "clients": [16]}.items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def counts(text):
    return [int(word) for word in text.split(",")]


def pgbench(given, clients, options):
    return lambda database, target: database.pgbench(
        target, max(1, round(given.seconds)), clients, options)


def plan(given):
    """Name -> function of a database and a target, in the order in which they run."""
    found = {}
    for clients in given.clients:
        for mode, options in PGBENCH_MODES.items():
            name = mode if clients == 16 else f"{mode} {clients}"
            found[name] = pgbench(given, clients, options)
    for clients in given.clients:
        for mode, options in POOL_MODES.items():
            name = mode if clients == 16 else f"{mode} {clients}"
            found[name] = pgbench(given, clients, options)
    found["pool-workers"] = pgbench(given, CLIENTS_OF_WORKERS, POOL_MODES["pool"])
    n_bytes = given.megabytes * 1000000
    found["copy-out"] = lambda database, target: database.copy_out(target, n_bytes)
    found["copy-in"] = lambda database, target: database.copy_in(target, n_bytes)
    if given.only:
        wanted = given.only.split(",")
        found = {name: run for name, run in found.items() if name.split()[0] in wanted}
    return found


def proxies(given, folder, port):
    """All relays, not started yet."""
    pgrouter = os.path.join(given.build, "pgrouter")
    found = [targets.Floor(os.path.join(given.build, "bench", "floor"), folder, port)]
    if os.path.exists(targets.Haproxy.program):
        found.append(targets.Haproxy(PEER, folder, port))
        found.append(targets.Haproxy("haproxy splice", folder, port, option="option splice-auto"))
    found.append(targets.Pgrouter(OURS, pgrouter, folder, port))
    found.append(targets.Pgrouter("pgrouter auto", pgrouter, folder, port, workers="auto"))
    for pair in given.compare:
        name, program = named_program(pair)
        found.append(targets.Pgrouter(name, program, folder, port))
    return chosen(given, found)


def pools(given, folder, port, password):
    """Likewise all pools, with one pgrouter for each number of workers."""
    pgrouter = os.path.join(given.build, "pgrouter")
    found = [targets.PgrouterPool(name, pgrouter, folder, port, int(name.split()[1]), password=password)
             for name in WORKERS]
    if given.pgbouncer:
        found.append(targets.Pgbouncer(POOL_PEER, given.pgbouncer, folder, port, password=password))
        if os.path.exists(targets.Haproxy.program):
            found.append(targets.Chain(given.pgbouncer, folder, port, password=password))
    for pair in given.compare:
        name, program = named_program(pair)
        found.append(targets.PgrouterPool(f"pool {name}", program, folder, port, password=password))
    return chosen(given, found)


def idle_pools(given, folder, port):
    """Those whose memory is looked at, without passwords."""
    pgrouter = os.path.join(given.build, "pgrouter")
    tls = targets.certificate(folder)
    found = [targets.PgrouterPool("pool 2", pgrouter, folder, port, 2),
             targets.PgrouterPool("pool 2 TLS", pgrouter, folder, port, 2, tls=tls)]
    if given.pgbouncer:
        found.append(targets.Pgbouncer(POOL_PEER, given.pgbouncer, folder, port))
        found.append(targets.Pgbouncer("pgbouncer TLS", given.pgbouncer, folder, port, tls=tls))
    return chosen(given, found)


def named_program(pair):
    name, _, program = pair.partition("=")
    return name, os.path.abspath(program)


def chosen(given, found):
    for target in found:
        if not os.access(target.program, os.X_OK):
            raise SystemExit(f"there is no {target.program}")
    if given.targets:
        found = [target for target in found if target.name in given.targets.split(",")]
    return found


def takes_part(target, load):
    """Splicing is for bulk: with short messages that HAProxy is the other one."""
    if load == "pool-workers":
        return target.is_pool and target.name != CHAIN
    if load.startswith("pool"):
        return target.name == FLOOR or (
            target.is_pool and target.name not in WORKERS[1:] and
            (target.follows_prepared or "prepared" not in load))
    if target.is_pool:
        return False
    return target.name != "haproxy splice" or load.startswith("copy")


def measure(given, folder, results):
    database = loads.Database(folder)
    running = [database]
    try:
        say("starting PostgreSQL")
        database.start(scale=2 if given.quick else 10)
        everyone = [targets.Target(database.port), *proxies(given, folder, database.port),
                    *pools(given, folder, database.port, database.password)]
        everyone = [target for target in everyone if any(takes_part(target, load) for load in plan(given))]
        for target in everyone:
            running.append(target)
            target.start()
        loads_in_turn = plan(given)
        for number in range(given.rounds):
            # by turns in time and in order: who comes first changes from round to round
            order = everyone[number % len(everyone):] + everyone[:number % len(everyone)]
            for load, run in loads_in_turn.items():
                for target in order:
                    if takes_part(target, load):
                        say(f"round {number + 1} of {given.rounds}: {load}, {target.name}")
                        results[load].setdefault(target.name, []).append(run(database, target))
    finally:
        for one in reversed(running):
            one.stop()


def measure_memory(given, folder, results):
    server = loads.IdleServer(folder)
    running = [server]
    try:
        server.start()
        everyone = [*proxies(given, folder, server.port), *idle_pools(given, folder, server.port)]
        for target in everyone:
            if target.name == "haproxy splice":
                continue
            many = min(given.sessions // (3 if target.has_tls else 1), target.most_sessions() - 100)
            say(f"memory of {many} idle sessions, {target.name}")
            running.append(target)
            target.start()
            results.setdefault(target.name, []).append(
                loads.memory_per_session(target, many // 9, many))
            target.stop()
    finally:
        for one in reversed(running):
            one.stop()


def crowded(given, folder, database):
    pgrouter = os.path.join(given.build, "pgrouter")
    more = {"password": database.password, "trusts": True}
    found = [targets.PgrouterWatched(name, pgrouter, folder, database.port, workers, **more)
             for name, workers in (("pool 1", 1), ("pool 4", 4))]
    if given.pgbouncer:
        found.append(targets.Pgbouncer(POOL_PEER, given.pgbouncer, folder, database.port, **more))
    return chosen(given, found)


def measure_crowd(given, folder, results):
    """New connections, without and with many who look on."""
    database = loads.Database(folder)
    running = [database]
    seconds = max(1, round(given.seconds))
    try:
        say("starting PostgreSQL")
        database.start(scale=2)
        for target in crowded(given, folder, database):
            many = min(given.sessions, target.most_sessions() - 500)
            running.append(target)
            target.start()
            with loads.idle_sessions(target, many):
                for number in range(given.rounds):
                    say(f"round {number + 1} of {given.rounds}: crowd, {target.name}, {many} clients")
                    results.setdefault(target.name, []).append([
                        loads.new_connections(database, target, seconds, folder, is_watched)
                        for is_watched in (False, True)])
            target.stop()
    finally:
        for one in reversed(running):
            one.stop()


def say(text):
    if sys.stderr.isatty():
        print(f"\r{text:<76}", end="", file=sys.stderr, flush=True)


# The table

def cost(run, load):
    """CPU time of the proxy: microseconds per transaction, or seconds per 10^9 bytes."""
    return run["cpu_s"] / run["n"] * (1e9 if load.startswith("copy") else 1e6)


def rate(run, load):
    """Transactions, or megabytes, per second."""
    return run["n"] / run["seconds"] / 1e6 if load.startswith("copy") else run["tps"]


def ratio(runs, others, load):
    """Median over the rounds of the cost beside another's in the same round."""
    pairs = [(cost(a, load), cost(b, load)) for a, b in zip(runs, others)]
    return statistics.median(a / b for a, b in pairs) if pairs and all(b for _, b in pairs) else None


def spread(values):
    """Half of the range between the quartiles, in percent of the median."""
    if len(values) < 3 or not statistics.median(values):
        return ""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"±{50 * (high - low) / statistics.median(values):.0f}%"


def number(value, digits=2):
    return "" if value is None else f"{value:,.{digits}f}"


def beside(load):
    if load == "pool-workers":
        return BESIDE_WORKERS
    return BESIDE_POOL if load.startswith("pool") else BESIDE


def unevenness(runs):
    """Of the workers' CPU time: how far the farthest is from the mean, in percent; the median
    of the rounds."""
    rounds = [run["cpu_s_of_workers"] for run in runs if len(run.get("cpu_s_of_workers", [])) > 1]
    if not rounds:
        return ""
    farthest = [max(abs(one - statistics.mean(every)) for one in every) / statistics.mean(every)
                for every in rounds]
    return f"{100 * statistics.median(farthest):.0f}%"


def print_load(load, results):
    bulk, others = load.startswith("copy"), beside(load)
    print(f"\n{load:<16} {'MB/s' if bulk else 'tps':>9} {'CPU s/GB' if bulk else 'CPU us/tx':>10} "
          f"{'':>5} " + " ".join(f"{label:>10}" for label in others) +
          (f" {'uneven':>7}" if load == "pool-workers" else ""))
    for name, runs in results.items():
        costs = [cost(run, load) for run in runs]
        words = [f"  {name:<14} {number(statistics.median(rate(run, load) for run in runs), 0):>9}"]
        if any(costs):
            words.append(f"{number(statistics.median(costs)):>10} {spread(costs):>5}")
            words += [f"{number(ratio(runs, results.get(other, []), load)):>10}"
                      for other in others.values()]
            words.append(f"{unevenness(runs) if load == 'pool-workers' else '':>7}")
        print(" ".join(words).rstrip())


def print_memory(results):
    print(f"\n{'memory':<16} {'bytes per idle session':>22}")
    for name, runs in results.items():
        print(f"  {name:<14} {number(statistics.median(run['bytes'] for run in runs), 0):>22}")


def print_crowd(results):
    print(f"\n{'crowd':<16} {'tps':>9} {'among them':>10} {'ratio':>7} {'pages/s':>8} {'SHOW/s':>7} {'of kB':>7}")
    for name, rounds in results.items():
        def median(value, rounds=rounds):
            return statistics.median(value(alone, among) for alone, among in rounds)

        seconds = median(lambda _, among: among["n"] / among["tps"])
        pages = median(lambda _, among: among["pages"]) / seconds if "pages" in rounds[0][1] else None
        print(f"  {name:<14} {number(median(lambda alone, _: alone['tps']), 0):>9} "
              f"{number(median(lambda _, among: among['tps']), 0):>10} "
              f"{number(median(lambda alone, among: among['tps'] / alone['tps'])):>7} "
              f"{number(pages, 1):>8} {number(median(lambda _, among: among['shows']) / seconds, 1):>7} "
              f"{number(median(lambda _, among: among['show_bytes']) / 1000, 0):>7}")
        for complaint in {among.get("page_errors") for _, among in rounds} - {None, ""}:
            print(f"  {name:<14} {complaint}")


def pgbouncer_fact(given):
    if not given.pgbouncer:
        return f"none to be had ({given.why_not}): pools are set beside the floor only"
    if not given.pgbouncer.follows_prepared:
        return (f"{given.pgbouncer.version}, no newer one to be had ({given.why_not}): prepared "
                "statements are set beside the floor only")
    return given.pgbouncer.version


def facts(given):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    programs = loads.postgres_programs()
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {models[0] if models else platform.machine()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "pgrouter": targets.version(os.path.join(given.build, "pgrouter"), "--version"),
        "haproxy": targets.version(targets.Haproxy.program, "-v")
        if os.path.exists(targets.Haproxy.program) else "not installed",
        "pgbouncer": pgbouncer_fact(given),
        "postgres": targets.version(os.path.join(programs, "postgres"), "--version"),
        "pgbench": targets.version(os.path.join(programs, "pgbench"), "--version"),
        "settings": f"{given.rounds} rounds, pgbench -S for {given.seconds:g} s, 16 clients where nothing "
                    f"else is said; COPY of {given.megabytes} MB",
    }


def print_table(found):
    for key, value in found["facts"].items():
        print(f"{key:<10} {value}")
    print("\nCPU = user and kernel time of the whole proxy. The ratios are the result: medians of what was"
          "\nmeasured side by side. The other figures mean nothing on another machine.")
    for load, results in found["loads"].items():
        if results:
            print_load(load, results)
    if found["crowd"]:
        print_crowd(found["crowd"])
    if found["memory"]:
        print_memory(found["memory"])


def save(found):
    folder = os.path.join(HERE, "results")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, found["facts"]["when"].replace(":", "").replace("+0000", "Z") + ".json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
    print(f"\neach run: {os.path.relpath(path)}")


def main():
    given = arguments()
    given.pgbouncer, given.why_not = pgbouncer.find(os.path.join(given.build, "bench", "pgbouncer"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started, as ^C does
    found = {"facts": facts(given), "loads": {load: {} for load in plan(given)}, "crowd": {}, "memory": {}}
    folder = tempfile.mkdtemp(prefix="pgrouter-bench-", dir=given.folder)
    os.chmod(folder, 0o711)  # the database's user passes through
    try:
        if found["loads"]:
            measure(given, folder, found["loads"])
        if not given.only or "crowd" in given.only.split(","):
            measure_crowd(given, folder, found["crowd"])
        if not given.only or "memory" in given.only.split(","):
            measure_memory(given, folder, found["memory"])
        say("")
        print_table(found)
        save(found)
    finally:
        process.remove_tree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
