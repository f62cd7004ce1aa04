"""What the cluster says of itself. scripts/common.sh runs this in a container within the cluster's network.

The first line of standard input is an object of settings. Each line behind it is what Docker says, as "kind object":
service, task, usage or event.

  probe.py members    the members of etcd and of Patroni alone: exit status 0 when all of them are well, else
                      their problems are printed
  probe.py order      Patroni's members, a line each, in the order in which to update them: the leader last
  probe.py status     a line of JSON, and behind it the same for people
  probe.py watch      problems, a line each
"""

import concurrent.futures
import json
import os
import socket
import subprocess
import sys
import urllib.request

ETCD = ["etcd1", "etcd2", "etcd3"]
PATRONI = ["patroni-node1", "patroni-node2", "patroni-node3"]
ROUTER = "pgrouter"
LAG_LIMIT = 100 << 20
SECONDS = 5
PORTS = {"6432": ("pool", "primary"), "5000": ("primary", "primary"), "5001": ("replicas", "replica")}
POOL_COLUMNS = ["database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "maxwait", "pool_mode"]


def ask(url, body=None):
    """An answer's JSON; raises OSError or ValueError."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=SECONDS) as answer:
        return json.load(answer)


def why(error):
    return str(getattr(error, "reason", error)) or type(error).__name__


def etcd_member(name):
    try:
        status = ask(f"http://{name}:2379/v3/maintenance/status", {})
        health = ask(f"http://{name}:2379/health")["health"]
    except (OSError, ValueError, KeyError) as error:
        return {"name": name, "healthy": False, "problem": why(error)}
    leader = status.get("leader", "0")
    member = {"name": name, "healthy": health == "true" and leader != "0", "leader": leader == status["header"]["member_id"],
              "learner": status.get("isLearner", False), "version": status.get("version", ""),
              "db_bytes": int(status.get("dbSize", 0))}
    if not member["healthy"]:
        member["problem"] = "it has no leader"
    elif member["learner"]:
        member["healthy"], member["problem"] = False, "it has not caught up yet"
    return member


def patroni_members(map_):
    """What any of them says of all of them; the one that did not answer counts as such."""
    def cluster(name):
        try:
            return ask(f"http://{name}:8008/cluster")
        except (OSError, ValueError) as error:
            return why(error)

    answers = dict(zip(PATRONI, map_(cluster, PATRONI)))
    views = [answer for answer in answers.values() if isinstance(answer, dict)]
    known = {member["name"]: member for member in (views[0].get("members", []) if views else [])}
    leaders = [member for member in known.values() if member.get("role") in ("leader", "standby_leader", "master")]
    members = []
    for name in PATRONI:
        told = known.get(name, {})
        member = {"name": name, "role": told.get("role", ""), "state": told.get("state", ""),
                  "timeline": told.get("timeline"), "lag_bytes": told.get("lag")}
        is_leader = told in leaders
        if not isinstance(answers[name], dict):
            member["problem"] = f"its Patroni does not answer: {answers[name]}"
        elif not told:
            member["problem"] = "the cluster does not know it"
        elif member["state"] not in ("running", "streaming"):
            member["problem"] = f"it is {member['state']}"
        elif not is_leader and not isinstance(member["lag_bytes"], int):
            member["problem"] = "nobody knows how far it is behind"
        elif not is_leader and member["lag_bytes"] > LAG_LIMIT:
            member["problem"] = f"it is {member['lag_bytes'] >> 20} MB behind"
        elif leaders and member["timeline"] != leaders[0].get("timeline"):
            member["problem"] = f"it is on timeline {member['timeline']}, the leader on {leaders[0].get('timeline')}"
        members.append(member)
    return members, [member["name"] for member in leaders], bool(views and views[0].get("pause"))


def psql(address, port, database, user, password, statement):
    """Rows, the first of which has the columns' names; None and why if there are none."""
    environment = {"PATH": os.environ["PATH"], "PGPASSWORD": password or "none", "PGCONNECT_TIMEOUT": str(SECONDS),
                   "PGAPPNAME": "pgrouter-status", "HOME": "/nonexistent"}
    try:
        done = subprocess.run(["psql", "-XAq", "-F", "\t", "-P", "footer=off", "-h", address, "-p", port, "-U", user,
                               "-d", database, "-c", statement], env=environment, capture_output=True, text=True,
                              check=False, timeout=3 * SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, why(error)
    if done.returncode == 0:
        return [line.split("\t") for line in done.stdout.splitlines()], ""
    return None, " ".join(done.stderr.split()) or f"psql has ended with {done.returncode}"


def connection(settings, nodes, address, port):
    """Whether a port of a router leads where it should."""
    name, role = PORTS[port]
    result = {"router": address, "port": int(port), "leads_to": name}
    rows, error = psql(address, port, settings["POSTGRES_DB"], settings["POSTGRES_USER"], settings["POSTGRES_PASSWORD"],
                       "select pg_is_in_recovery(), inet_server_addr()")
    if rows:
        is_replica, node = rows[1]
        found = "replica" if is_replica == "t" else "primary"
        result["node"], result["ok"] = nodes.get(node, node), found == role
        if found != role:
            result["problem"] = f"it leads to a {found}"
    elif not settings["POSTGRES_PASSWORD"] and "authentication failed" in error:
        result["ok"], result["note"] = True, "it asks for a password, and .env has none"
    else:
        result["ok"], result["problem"] = False, error
    return result


def pools(settings, address):
    rows, error = psql(address, "6432", "pgbouncer", "admin", settings["HAPROXY_STATS_PASSWORD"], "SHOW POOLS")
    if rows is None:
        return {"router": address, "problem": error, "pools": []}
    header, *rows = rows
    return {"router": address, "pools": [
        {name: int(value) if value.isdigit() else value for name, value in zip(header, row) if name in POOL_COLUMNS}
        for row in rows if row[0] != "pgbouncer"]}


def addresses(name):
    """Of a name, as the cluster's network has it; none when nobody has the name."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({entry[4][0] for entry in found})


def docker_lines():
    said = {"service": [], "task": [], "usage": [], "event": []}
    for line in sys.stdin:
        kind, _, text = line.partition(" ")
        if kind in said and text.strip():
            said[kind].append(json.loads(text))
    return said


def service_of(stack, name):
    """h4c_etcd1.1.abc -> etcd1"""
    return name.removeprefix(f"{stack}_").split(".")[0]


def services(stack, said):
    result = []
    for service in said["service"]:
        running, _, wanted = service["Replicas"].split(" ")[0].partition("/")
        name = service_of(stack, service["Name"])
        tasks = [task for task in said["task"] if service_of(stack, task["Name"]) == name]
        entry = {"name": name, "running": int(running), "wanted": int(wanted), "image": service["Image"],
                 "nodes": sorted({task["Node"] for task in tasks if task["CurrentState"].startswith("Running")})}
        if entry["running"] != entry["wanted"] or entry["wanted"] == 0:
            errors = [task["Error"] for task in tasks if task["Error"]]
            entry["problem"] = f"{running} of {wanted} run" + (f": {errors[0]}" if errors else "")
        result.append(entry)
    return sorted(result, key=lambda entry: entry["name"])


def usage(stack, said, of):
    """Per service; Docker tells only what runs on this machine."""
    here = {}
    for container in said["usage"]:
        name = service_of(stack, container["Name"])
        entry = here.setdefault(name, {"name": name, "containers": 0, "cpu_percent": 0.0, "memory": []})
        entry["containers"] += 1
        entry["cpu_percent"] = round(entry["cpu_percent"] + float(container["CPUPerc"].rstrip("%") or 0), 2)
        entry["memory"].append(container["MemUsage"])
    for service in of:
        here.setdefault(service["name"], {"name": service["name"], "containers": 0, "memory": []})
    for entry in here.values():
        entry["memory"] = ", ".join(entry["memory"])
    return sorted(here.values(), key=lambda entry: entry["name"])


def events(stack, said):
    """What has changed last, the newest first."""
    tasks = {task["ID"]: task for task in said["task"]}
    result = []
    for event in said["event"]:
        task = tasks.get(event.get("task"), {})
        name = event.get("name") or task.get("Name", "")
        result.append({"time": event["time"][:19] + "Z", "of": name.removeprefix(f"{stack}_"), "what": event["what"],
                       "node": task.get("Node", ""), "detail": event.get("detail", "")})
    return sorted(result, key=lambda event: event["time"], reverse=True)[:15]


def table(title, columns, rows):
    rows = [[("" if value is None else str(value)) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
    print(f"\n{title}")
    for line in [columns, *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def print_status(status):
    table("Services", ["service", "runs", "on", "image"], [
        [entry["name"], f"{entry['running']}/{entry['wanted']}", ",".join(entry["nodes"]), entry["image"]]
        for entry in status["services"]])
    table("etcd", ["member", "healthy", "role", "version", "data"], [
        [entry["name"], "yes" if entry["healthy"] else f"no: {entry['problem']}",
         "leader" if entry.get("leader") else "learner" if entry.get("learner") else "", entry.get("version"),
         f"{entry.get('db_bytes', 0) >> 10} kB"] for entry in status["etcd"]])
    table("Patroni" + (" (paused)" if status["paused"] else ""), ["member", "role", "state", "timeline", "lag", ""], [
        [entry["name"], entry["role"], entry["state"], entry["timeline"],
         "" if entry["lag_bytes"] is None else f"{entry['lag_bytes']} B", entry.get("problem")]
        for entry in status["patroni"]])
    table("Pools", ["router", *POOL_COLUMNS], [
        [pool["router"], *[row.get(name) for name in POOL_COLUMNS]] for pool in status["pools"] for row in pool["pools"]])
    table("Connections", ["router", "port", "leads to", "result"], [
        [entry["router"], entry["port"], entry["leads_to"],
         f"ok {entry.get('node') or entry.get('note', '')}" if entry["ok"] else entry["problem"]]
        for entry in status["connections"]])
    table("CPU and memory", ["service", "cpu", "memory"], [
        [entry["name"], f"{entry['cpu_percent']} %", entry["memory"]] if entry["containers"] else
        [entry["name"], "-", "not on this machine"] for entry in status["usage"]])
    table("Recent events", ["time", "of", "on", "now", ""], [
        [entry["time"], entry["of"], entry["node"], entry["what"], entry["detail"]] for entry in status["events"]])
    print("\nHealthy." if status["healthy"] else "\nNot healthy:")
    for problem in status["problems"]:
        print(f"  {problem}")


def main():
    command, settings = sys.argv[1], json.loads(sys.stdin.readline())
    stack, said = settings["STACK_NAME"], docker_lines()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        etcd = list(pool.map(etcd_member, ETCD))
        patroni, leaders, paused = patroni_members(pool.map)
        problems = [f"etcd: {member['name']}: {member['problem']}" for member in etcd if "problem" in member]
        n_healthy = sum(member["healthy"] for member in etcd)
        if n_healthy * 2 <= len(ETCD):
            problems.append(f"etcd: no quorum, {n_healthy} of {len(ETCD)} are well")
        if len(leaders) != 1:
            problems.append(f"patroni: {len(leaders)} leaders" if leaders else "patroni: no leader")
        problems += [f"patroni: {member['name']}: {member['problem']}" for member in patroni if "problem" in member]
        if command == "order":
            print("\n".join(sorted(PATRONI, key=lambda name: (name in leaders, name))))
            return 0
        if command == "members":
            print("\n".join(problems))
            return 1 if problems else 0

        found = addresses(f"tasks.{ROUTER}")
        nodes = {address: name for name in PATRONI for address in addresses(name)}
        if len(found) < int(settings["ROUTER_REPLICAS"] or 1):
            problems.append(f"pgrouter: {len(found)} of {settings['ROUTER_REPLICAS']} answer to their name")
        connections = list(pool.map(lambda pair: connection(settings, nodes, *pair),
                                    [(address, port) for address in found for port in PORTS]))
        problems += [f"connection: {entry['router']}:{entry['port']}: {entry['problem']}"
                     for entry in connections if not entry["ok"]]
        all_pools = list(pool.map(lambda address: pools(settings, address), found))
        if settings["HAPROXY_STATS_PASSWORD"]:
            problems += [f"pool: {entry['router']}: {entry['problem']}" for entry in all_pools if "problem" in entry]
    of = services(stack, said)
    problems += [f"service: {entry['name']}: {entry['problem']}" for entry in of if "problem" in entry]
    if command == "watch":
        print("\n".join(problems))
        return 1 if problems else 0
    status = {"stack": stack, "healthy": not problems, "problems": problems, "services": of, "etcd": etcd,
              "patroni": patroni, "paused": paused, "pools": all_pools, "connections": connections,
              "usage": usage(stack, said, of), "events": events(stack, said)}
    print(json.dumps(status))
    print_status(status)
    return 1 if problems else 0


sys.exit(main())
