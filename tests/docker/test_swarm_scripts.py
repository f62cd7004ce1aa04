"""docker/swarm without an engine: its files, and its scripts with a `docker` that answers as a test says, for what a real
engine cannot be made to do here. tests/docker/engine/test_swarm.py has the rest."""

import json
import os
import pty
import re
import select
import shutil
import stat
import subprocess
import time

import pytest
import yaml
from conftest import TOP

SWARM = os.path.join(TOP, "docker", "swarm")
PGROUTER = os.path.abspath(os.environ.get("PGROUTER", os.path.join(TOP, "build", "pgrouter")))

# Answers to the first line of {rules} that the arguments match; tells what it was asked.
DOCKER = """#!/usr/bin/python3 -SE
import json, re, sys
said = " ".join(sys.argv[1:])
given = sys.stdin.read() if re.search(r"^run -i|^stack deploy|^secret create", said) else ""
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv[1:], given]) + "\\n")
for pattern, answer, status in json.load(open({rules!r})):
    match = re.search(pattern, said, re.S)
    if match:
        text = match.expand(answer)
        if text:
            print(text, file=sys.stderr if status else sys.stdout)
        sys.exit(status)
"""

# Three machines, a, b and c, which carry node1, node2 and node3; images of a registry; no stack.
THREE = [
    ["^version", "24.0.5", 0],
    ["^info .*LocalNodeState", "active", 0],
    ["^info .*ControlAvailable", "true", 0],
    ["^info .*NodeID", "n1", 0],
    ["^node ls -q", "n1\nn2\nn3", 0],
    ["^node ls", "a\nb\nc", 0],
    ["^node inspect n1 .*Hostname", "a", 0],
    ["^node inspect n2 .*Hostname", "b", 0],
    ["^node inspect n3 .*Hostname", "c", 0],
    [r"^node inspect n(\d) .*patroni", r"node\1", 0],
    ["^node inspect .*Availability", "ready active", 0],
    ["^node inspect .*Status.State", "ready", 0],
    ["^node inspect .*NanoCPUs", "1000000000", 0],
    [r"^node inspect n(\d) .*Addr", r"10.0.0.\1", 0],
    ["^image inspect", "1", 0],
    ["^service create", "", 0],
    ["^service ps .*CurrentState", "Complete 1 second ago|", 0],
    [r"^service ls --filter name=(\S+)", r"\1 1/1", 0],
    ["^(secret|config) inspect", "no such thing", 1],
    ["^service inspect", "no such service", 1],
]
# The same with the stack, which is well.
RUNNING = [["^service inspect .*UpdateStatus", "", 0], ["^service inspect", "", 0],
           ["^run .* order$", "patroni-node1\npatroni-node3\npatroni-node2", 0]]
ENV = {"POSTGRES_PASSWORD": "secret of the user", "PATRONI_SUPERUSER_PASSWORD": "secret of postgres",
       "PATRONI_REPLICATION_PASSWORD": "secret of replicas", "HAPROXY_STATS_PASSWORD": "secret of admin",
       "SECRETS_KEY": "key", "STACK_NAME": "pg"}


class Scripts:
    def __init__(self, folder):
        self.folder, self.swarm = folder, os.path.join(folder, "swarm")
        shutil.copytree(SWARM, self.swarm, ignore=shutil.ignore_patterns(".env", "userlist.txt"))
        self.bin, self.log = os.path.join(folder, "bin"), os.path.join(folder, "asked")
        os.mkdir(self.bin)
        self.rules(THREE)
        self.write("../bin/docker", DOCKER.format(log=self.log, rules=os.path.join(folder, "rules")))
        os.chmod(os.path.join(self.bin, "docker"), 0o755)
        # What takes its time with an engine.
        self.write("../bin/sleep", "#!/bin/sh\nexec /bin/sleep 0.05\n")
        os.chmod(os.path.join(self.bin, "sleep"), 0o755)
        self.environment = {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def rules(self, *more):
        """Those that come first count."""
        with open(os.path.join(self.folder, "rules"), "w", encoding="utf-8") as file:
            json.dump([rule for rules in more for rule in rules], file)

    def path(self, name):
        return os.path.join(self.swarm, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write_env(self, **settings):
        text = self.read(".env.example")
        for name, value in {**ENV, **settings}.items():
            text, n = re.subn(rf"^#?{name}=.*$", lambda _, line=f"{name}={value}": line, text, flags=re.M)
            assert n == 1, name
        self.write(".env", text)
        os.chmod(self.path(".env"), 0o600)

    def run(self, name, *arguments, status=0, **environment):
        done = subprocess.run([self.path(f"scripts/{name}.sh"), *arguments], capture_output=True, text=True, check=False,
                              env={**self.environment, **environment}, stdin=subprocess.DEVNULL, timeout=60)
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run_on_terminal(self, name, *answers):
        """Says an answer to each question."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(self.path(f"scripts/{name}.sh"), [name], self.environment)
        said, answers, deadline = "", list(answers), time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(terminal, 4096).decode()
            except OSError:  # its end
                break
            said += data
            if answers and re.search(r"(\]|stack): $", said):
                os.write(terminal, answers.pop(0).encode() + b"\n")
                said += "\n"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said

    def asked(self, pattern="", given=False):
        """Commands so far, in their order; or what was given to them by standard input."""
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        return [text if given else " ".join(arguments) for arguments, text in lines
                if re.search(pattern, " ".join(arguments), re.S)]

    def deployed(self):
        """The services of each `stack deploy`."""
        return [sorted(yaml.safe_load(text)["services"]) for text in self.asked("^stack deploy", given=True)]


@pytest.fixture
def scripts(tmp_path):
    return Scripts(str(tmp_path))


def read(name):
    with open(os.path.join(SWARM, name), encoding="utf-8") as file:
        return file.read()


def names_in(text):
    return re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, re.M)


# Files


@pytest.mark.parametrize("filled_in", [False, True], ids=["as it is", "as Swarm fills it in"])
def test_the_configuration_is_accepted(tmp_path, filled_in):
    users, text = tmp_path / "userlist.txt", read("pgrouter.ini")
    users.write_text('"app" "secret"\n')
    if filled_in:
        for template, value in {'{{ "\\n" }}': "\n", "{{.Task.Slot}}": "2", "{{.Service.Name}}": "pg_pgrouter",
                                "{{.Service.ID}}": "ocruzfq2kvqitqn6c11j95z9w"}.items():
            assert template in text
            text = text.replace(template, value)
        assert "{{" not in text and "\npeer_id = 2\n" in text and "\n1 = host=pg_pgrouter-1\n" in text
    path = tmp_path / "pgrouter.ini"
    path.write_text(text.replace("/run/secrets/userlist.txt", str(users)))
    done = subprocess.run([PGROUTER, "-t", str(path)], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout + done.stderr) == (0, f"{path}: ok\n")


def test_every_setting_of_env_is_used_and_every_used_one_is_set():
    example, stack = names_in(read(".env.example")), read("stack.yml")
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", stack))
    scripts = "".join(read(f"scripts/{name}") for name in os.listdir(os.path.join(SWARM, "scripts")))
    assert not [name for name in example if name not in used and not re.search(rf"\b{name}\b", scripts)]
    # Without a default in stack.yml, a setting comes from .env.example or from deploy.sh.
    needed = set(re.findall(r"\$\{([A-Z0-9_]+)(?::\?[^}]*)?\}", stack))
    assert needed and not [name for name in needed if name not in example and f"{name}=" not in scripts
                           and f"{name}:=" not in scripts]


def test_members_are_alike_but_for_their_number():
    services = yaml.safe_load(read("stack.yml"))["services"]
    for kind in ("etcd{}", "patroni-node{}"):
        texts = {json.dumps(services[kind.format(n)], sort_keys=True).replace(str(n), "N") for n in (1, 2, 3)}
        # 2 and 3 stand elsewhere as well: those come back as they were in none of the three.
        assert len({re.sub(r"[123N]", "", text) for text in texts}) == 1
    assert all(services[name]["deploy"]["endpoint_mode"] == "dnsrr" for name in services if name != "pgrouter")


def test_no_password_is_in_an_environment():
    for name, service in yaml.safe_load(read("stack.yml"))["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or variable.endswith("_FILE"), name
            assert "PASSWORD}" not in str(value), name


def test_guides_name_what_there_is():
    readme = read("README.md")
    for name in os.listdir(os.path.join(SWARM, "scripts")):
        if name.endswith(".sh") and name != "common.sh":
            assert f"scripts/{name}" in readme
    known = set(names_in(read(".env.example"))) | set(re.findall(r"[A-Z][A-Z0-9_]+", read("stack.yml")))
    with open(os.path.join(TOP, "docs", "environment.md"), encoding="utf-8") as file:
        known |= set(re.findall(r"[A-Z][A-Z0-9_]+", file.read()))  # of the router itself
    for name in re.findall(r"`([A-Z]+_[A-Z0-9_]+)[`=]", readme + read("QUICKSTART.md")):
        assert name in known, name


@pytest.mark.parametrize("name", ["setup", "deploy", "status", "remove", "psql"])
def test_help_is_the_beginning_of_the_script(scripts, name):
    said = scripts.run(name, "--help")
    assert said.startswith(f"{name}.sh - ") and "shellcheck" not in said and f"scripts/{name}.sh" in said
    assert not scripts.asked()
    if name != "psql":
        scripts.run(name, "--nonsense", status=2 if name == "status" else 1)


# What must be there


def fewer_commands(scripts):
    """A PATH without docker."""
    folder = os.path.join(scripts.folder, "few")
    os.mkdir(folder)
    for name in ("bash", "dirname", "sed", "awk", "cat", "stat", "env"):
        os.symlink(shutil.which(name), os.path.join(folder, name))
    return folder


NOT_READY = {
    "the engine does not answer": [[["^version", "Cannot connect to the Docker daemon", 1]], "Cannot connect to the Docker"],
    "it is too old": [[["^version", "19.03.12", 0]], "Docker 19.03.12 is too old: 20.10"],
    "no swarm": [[["^info .*LocalNodeState", "inactive", 0]], "this machine is in no swarm"],
    "not a manager": [[["^info .*ControlAvailable", "false", 0]], "does not manage its swarm"],
}


@pytest.mark.parametrize("name", ["setup", "deploy", "status", "remove"])
@pytest.mark.parametrize("case", [*NOT_READY, "no docker"])
def test_each_script_says_what_is_missing(scripts, name, case):
    scripts.write_env()
    rules, words = NOT_READY.get(case, ([], "docker is not installed here"))
    scripts.rules(rules, THREE)
    environment = {"PATH": fewer_commands(scripts)} if case == "no docker" else {}
    assert words in scripts.run(name, status=2 if name == "status" else 1, **environment)
    assert not scripts.asked("^(stack (deploy|rm)|node update|service create|run)")


@pytest.mark.parametrize("name", ["deploy", "status", "remove"])
def test_without_env_nothing_is_done(scripts, name):
    assert "scripts/setup.sh makes it" in scripts.run(name, status=2 if name == "status" else 1)
    assert not scripts.asked("^(stack|run)")


def test_env_is_read_and_not_carried_out(scripts):
    hostile = "$(touch x) `touch x`; touch x \"quoted\" \\ 'q' ${HOME}"
    scripts.write_env(POSTGRES_PASSWORD=hostile)
    scripts.run("deploy", "--timeout", "5")
    assert not os.path.exists(scripts.path("x"))
    by_name = dict(zip(scripts.asked("^secret create"), scripts.asked("^secret create", given=True)))
    assert [text for name, text in by_name.items() if "postgres_password" in name] == [hostile]
    users = next(text for name, text in by_name.items() if "userlist" in name)
    assert users.splitlines()[0] == '"app" "%s"' % hostile.replace('"', '""')
    # The probe gets it as JSON, by standard input.
    probed = scripts.asked("^run .* watch$", given=True)[-1]
    assert json.loads(probed.splitlines()[0])["POSTGRES_PASSWORD"] == hostile
    assert not [line for line in scripts.asked() if "touch" in line]


@pytest.mark.parametrize("line, words", [
    ("rm -rf /", "expected NAME=VALUE"), ("PATH=/tmp", "PATH is not for here"), ("LD_PRELOAD=/x", "not for here"),
    ("STACK_NAME=a b", "'a b' is not a name of a stack"), ("DATA_DIR=var", "not an absolute path"),
    ("ROUTER_PORTS=both", "expected ingress or host")])
def test_a_line_of_env_that_is_wrong_is_named(scripts, line, words):
    scripts.write_env()
    scripts.write(".env", scripts.read(".env") + line + "\n")
    assert words in scripts.run("deploy", status=1)
    assert not scripts.asked("^(stack|run|secret)")


def test_what_the_shell_has_does_not_go_before_env(scripts):
    scripts.write_env()
    scripts.run("deploy", "--timeout", "5", STACK_NAME="misled", POSTGRES_PASSWORD="misled")
    assert "misled" not in "".join(scripts.asked() + scripts.asked(given=True))


# setup.sh


def test_setup_labels_and_makes_folders_on_each_machine(scripts):
    scripts.rules([["^node inspect .*patroni", "", 0], ["^network inspect", "none", 1]], THREE)
    said = scripts.run("setup", "--nodes", "c,a,b", "--user", "odoo", "--ports", "ingress", STACK_NAME="pg")
    assert "Ready." in said
    assert scripts.asked("^node update") == [f"node update --label-add patroni=node{n} n{id_}"
                                             for n, id_ in ((1, 3), (2, 1), (3, 2))]
    jobs = scripts.asked("^service create")
    assert [re.search(r"node.id == (n\d).*(/var/lib/patroni/\S+)$", job, re.S).groups() for job in jobs] == [
        ("n3", "/var/lib/patroni/node1"), ("n1", "/var/lib/patroni/node2"), ("n2", "/var/lib/patroni/node3")]
    assert scripts.asked("^network create") == ["network create -d overlay --attachable pgrouter-database"]
    text = scripts.read(".env")
    assert stat.S_IMODE(os.stat(scripts.path(".env")).st_mode) == 0o600
    assert "\nPOSTGRES_USER=odoo\n" in text and "\nPOSTGRES_CPUS=1\n" in text and "\nROUTER_PORTS=ingress\n" in text
    secrets = re.findall(r"^(?:\w+_PASSWORD|SECRETS_KEY)=(.*)$", text, re.M)
    assert len(set(secrets)) == 5 and all(re.fullmatch("[0-9a-f]{48}", secret) for secret in secrets)
    assert not [secret for secret in secrets if secret in said]


def test_setup_never_writes_over_env(scripts):
    scripts.write(".env", "# mine\n" + "".join(f"{name}=x\n" for name in ENV) + "STACK_NAME=pg\nIMAGE_ROUTER=r\n"
                  "IMAGE_ETCD=e\nIMAGE_POSTGRES=p\nAPP_NETWORK=n\nDATA_DIR=/d\nPOSTGRES_USER=u\nPOSTGRES_DB=d\n"
                  "NODE1_LABEL=node1\nNODE2_LABEL=node2\nNODE3_LABEL=node3\n")
    before = scripts.read(".env")
    said = scripts.run("setup", "--nodes", "a,b,c", "--user", "another")
    assert "stays as it is" in said and "have no effect" in said and "chmod 600" in said
    assert scripts.read(".env") == before
    assert not scripts.asked("^node update")  # they have their labels


def test_setup_asks_on_a_terminal(scripts):
    scripts.rules([["^node inspect .*patroni", "", 0]], THREE)
    status, said = scripts.run_on_terminal("setup", "b", "", "a", "/srv/pg", "odoo", "")
    assert status == 1 and "three machines" in said, said  # the second default is b as well
    status, said = scripts.run_on_terminal("setup", "", "", "", "/srv/pg", "odoo", "")
    assert status == 0, said
    text = scripts.read(".env")
    assert all(line in text.splitlines() for line in ("DATA_DIR=/srv/pg", "POSTGRES_USER=odoo", "POSTGRES_DB=odoo"))
    assert scripts.asked("^node update") == [f"node update --label-add patroni=node{n} n{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("arguments, rules, words", [
    ([], [["patroni", "", 0]], "which machines? --nodes A,B,C, or --single"),
    (["--nodes", "a,b,d"], [], "the swarm has no machine d; it has: a b c"),
    (["--nodes", "a,b"], [], "expected three machines"),
    (["--nodes", "a,b,a"], [], "are lost together"),
    (["--nodes", "a,b,c"], [["^node inspect n2 .*State", "down", 0]], "b is down"),
    (["--nodes", "a,b,c", "--ports", "all"], [], "expected ingress or host"),
    (["--nodes", "b,a,c"], [], "a has the label patroni=node1, and perhaps its data"),
    (["--nodes", "a,b,c", "--single"], [], "not both"),
    (["--nodes"], [], "--nodes: a value is missing"),
    (["--nodes", "a,b,c"], [["CurrentState", "Failed 1 second ago|exit (1)", 0]], "/var/lib/patroni/node1 could not be made on a"),
])
def test_setup_refuses(scripts, arguments, rules, words):
    scripts.rules(rules, THREE)
    assert words in scripts.run("setup", *arguments, status=1)
    assert not scripts.asked("^node update")


def test_labels_move_only_when_told(scripts):
    scripts.run("setup", "--nodes", "b,a,c", "--move-labels")
    updates = scripts.asked("^node update")
    assert updates[0] == "node update --label-rm patroni n1"
    assert "node update --label-add patroni=node1 n2" in updates and not [line for line in updates if line.endswith("n3")]


# deploy.sh


def test_deploy_begins_with_all_of_it(scripts):
    scripts.write_env()
    said = scripts.run("deploy", "--timeout", "5")
    assert scripts.deployed() == [sorted([*(f"etcd{n}" for n in (1, 2, 3)), *(f"patroni-node{n}" for n in (1, 2, 3)), "pgrouter"])]
    assert "postgresql://app@10.0.0.1:6432/app" in said and "postgresql://app@pgrouter:5001/app" in said
    assert len(scripts.asked("^secret create")) == 5
    assert not [secret for secret in ENV.values() if " " in secret and secret in said + "".join(scripts.asked())]


def test_the_name_of_a_secret_tells_nothing_and_changes_with_it(scripts):
    def names(**settings):
        scripts.write_env(**settings)
        if os.path.exists(scripts.log):
            os.remove(scripts.log)
        scripts.run("deploy", "--timeout", "5")
        return {re.sub("_[0-9a-f]{12}$", "", name): name for name in
                (line.split()[-2] for line in scripts.asked("^secret create"))}

    first, again = names(), names()
    assert first == again
    other = names(POSTGRES_PASSWORD="new")
    assert {name for name in first if first[name] != other[name]} == {"pg_postgres_password", "pg_router_userlist"}
    keyed = names(SECRETS_KEY="another")
    assert not set(first.values()) & set(keyed.values())
    scripts.write("userlist.txt", '"more" "x"\n')
    assert names()["pg_router_userlist"] != first["pg_router_userlist"]


def test_secrets_of_the_operators_are_used_and_not_made(scripts):
    settings = {f"{name}_SECRET": name.lower() for name in ENV if name.endswith("PASSWORD")}
    scripts.write_env(**dict.fromkeys((name for name in ENV if name.endswith("PASSWORD")), ""), **settings,
                      ROUTER_USERLIST_SECRET="mine")
    assert "there is no Docker secret mine" in scripts.run("deploy", status=1)
    scripts.rules([["^secret inspect", "", 0]], THREE)
    scripts.run("deploy", "--timeout", "5")
    assert not scripts.asked("^secret create")


@pytest.mark.parametrize("settings, rules, words", [
    ({"POSTGRES_PASSWORD": ""}, [], "POSTGRES_PASSWORD is empty"),
    ({"SECRETS_KEY": ""}, [], "SECRETS_KEY is empty"),
    ({}, [["^node inspect n2 .*patroni", "", 0]], "no machine has the label patroni=node2"),
    ({}, [["^node inspect n[23] .*patroni", "node2", 0]], "several machines have the label patroni=node2"),
    ({}, [["^node inspect n3 .*Avail", "ready drain", 0]], "c, where patroni=node3 is, takes no containers"),
    ({}, [["^network inspect", "no such network", 1]], "there is no network pgrouter-database"),
    ({"ROUTER_PORTS": "host", "ROUTER_REPLICAS": "4"}, [], "take as many machines; there are 3"),
    ({}, [["^run .*pgrouter -t", "/tmp/pgrouter.ini:3: unknown setting", 1]], "pgrouter.ini: pgrouter.ini:3: unknown"),
])
def test_deploy_checks_first(scripts, settings, rules, words):
    scripts.write_env(**settings)
    scripts.rules(rules, THREE)
    said = scripts.run("deploy", status=1)
    assert words in said and "nothing was deployed" in said
    assert not scripts.asked("^(stack|secret create|config create)")


def test_deploy_only_checks_when_told(scripts):
    scripts.write_env()
    assert "Checked" in scripts.run("deploy", "--check")
    assert not scripts.asked("^(stack|secret create)")


def test_an_update_goes_from_member_to_member_with_the_leader_last(scripts):
    scripts.write_env()
    scripts.rules(RUNNING, THREE)
    scripts.run("deploy", "--timeout", "5")
    assert scripts.deployed() == [["etcd1"], ["etcd2"], ["etcd3"], ["patroni-node1"], ["patroni-node3"], ["patroni-node2"],
                                  ["pgrouter"]]
    steps = scripts.asked("^stack deploy|^run .* members$")
    assert [line.startswith("stack") for line in steps] == [False, *[True, False] * 6, True]


def test_an_update_stops_where_the_cluster_is_not_well(scripts):
    scripts.write_env()
    scripts.rules([["^run .* members$", "patroni: no leader", 1]], RUNNING, THREE)
    said = scripts.run("deploy", "--timeout", "1", status=1)
    assert "patroni: no leader" in said and "not well enough to be updated" in said
    assert not scripts.deployed()
    scripts.run("deploy", "--timeout", "1", "--at-once", status=0)
    assert len(scripts.deployed()) == 1


def test_a_service_that_never_converges_ends_the_wait(scripts):
    scripts.write_env()
    scripts.rules([["^service ls --filter name=(pg_etcd2)$", r"\1 0/1", 0], ["^service ls --filter name=(pg_etcd2) ", r"\1 0/1", 0],
                   ["^stack ps", "t1|pg_etcd2.1|Rejected 2 seconds ago|invalid mount config: bind source path does not exist", 0]], THREE)
    said = scripts.run("deploy", "--timeout", "1", status=1)
    assert "not done after 1 s: etcd2;" in said and "etcd2.1 Rejected: invalid mount config" in said


@pytest.mark.parametrize("state, words", [
    ("rollback_completed", "pgrouter: the new one was not well; it is back to what it was before"),
    ("paused", "pgrouter: the update has failed and stands still")])
def test_an_update_that_has_failed_is_an_error_once(scripts, state, words):
    scripts.write_env()
    began = os.path.join(scripts.folder, "began")
    # It began after `stack deploy` was told of it.
    scripts.write("../bin/docker", scripts.read("../bin/docker").replace(
        "for pattern,", f"import os, sys\nif said.startswith('stack deploy') and 'pgrouter:' in given: open({began!r}, 'w')\n"
        f"if said.startswith('service inspect pg_pgrouter') and 'UnixNano' in said:\n"
        f"    print('{state} 2' if os.path.exists({began!r}) else '{state} 1')\n    sys.exit(0)\nfor pattern,"))
    scripts.rules(RUNNING, THREE)
    assert words in scripts.run("deploy", "--timeout", "5", status=1)
    # That is how it is since before the next one, which changes nothing.
    scripts.write("../bin/docker", scripts.read("../bin/docker").replace(f"'{state} 1')", f"'{state} 2')"))
    scripts.run("deploy", "--timeout", "5")


def test_routers_with_ports_of_their_own_are_replaced_the_other_way_round(scripts):
    scripts.write("../bin/docker", scripts.read("../bin/docker").replace(
        "for pattern,", "import os\nif said.startswith('stack deploy'): given = os.environ.get('ROUTER_UPDATE_ORDER', '')\n"
        f"if said.startswith('stack deploy'): open({scripts.folder!r} + '/order', 'w').write(given)\nfor pattern,"))
    for settings, order in (({"ROUTER_PORTS": "ingress"}, "start-first"), ({"ROUTER_PORTS": "host"}, "stop-first"),
                            ({"ROUTER_PORTS": "host", **dict.fromkeys(("POOL_PORT", "PRIMARY_PORT", "REPLICA_PORT", "STATS_PORT"), 0)},
                             "start-first")):
        scripts.write_env(**settings)
        scripts.run("deploy", "--timeout", "5")
        assert scripts.read("../order") == order


def test_a_cluster_that_does_not_get_well_is_an_error(scripts):
    scripts.write_env()
    scripts.rules([["^run .* watch$", "connection: 10.0.0.9:5001: timeout expired", 1]], THREE)
    said = scripts.run("deploy", "--timeout", "1", status=1)
    assert "10.0.0.9:5001: timeout expired" in said and "the cluster is not well: not after 1 s" in said
    assert "All is well" not in said


# status.sh


FACTS = [['^service ls .*json', r'service {"Name":"pg_etcd1","Replicas":"1/1","Image":"etcd"}', 0]]


def test_status_of_a_cluster_that_cannot_be_asked(scripts):
    scripts.write_env()
    scripts.rules([["^run ", "network pg_internal not found", 1]], FACTS, THREE)
    said = scripts.run("status", "--json", status=2)
    status = json.loads(said.splitlines()[0])
    assert status["healthy"] is False and status["services"][0]["Name"] == "pg_etcd1"
    assert "cannot be asked" in scripts.run("status", status=2)


def test_status_without_a_stack(scripts):
    scripts.write_env()
    scripts.rules([["^service ls", "", 0]], THREE)
    assert "there is no stack pg" in scripts.run("status", status=2)


def test_status_shows_what_the_probe_says(scripts):
    scripts.write_env()
    scripts.rules([["^run .* status$", '{"healthy": true}\nfor people', 0]], FACTS, THREE)
    assert scripts.run("status", "--json") == '{"healthy": true}\n'
    assert scripts.run("status").splitlines()[1:] == ["for people"]
    scripts.rules([["^run .* status$", '', 1]], FACTS, THREE)
    scripts.write("../bin/docker", scripts.read("../bin/docker").replace(
        "for pattern,", "if said.endswith(' status'):\n    print('{\"healthy\": false}\\nfor people')\n    sys.exit(1)\nfor pattern,"))
    assert scripts.run("status", "--json", status=1) == '{"healthy": false}\n'


def test_status_watches(scripts):
    scripts.write_env()
    scripts.rules([["^run .* status$", '{"healthy": true}\nfor people', 0]], FACTS, THREE)
    with subprocess.Popen([scripts.path("scripts/status.sh"), "--json", "--watch", "1"], env=scripts.environment,
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as watching:
        assert [watching.stdout.readline() for _ in range(3)] == ['{"healthy": true}\n'] * 3
        watching.kill()


# remove.sh


def test_removing_needs_a_word(scripts):
    scripts.write_env()
    assert "nothing was removed" in scripts.run("remove", "--volumes", "--data", "--labels", status=1)
    status, said = scripts.run_on_terminal("remove", "yes")
    assert status == 1 and "nothing was removed" in said
    assert not scripts.asked("^(stack rm|node update|service create|network rm)")
    scripts.rules([["^service ls -q", "s1", 0]], THREE)
    status, said = scripts.run_on_terminal("remove", "pg")
    assert status == 0 and scripts.asked("^stack rm") == ["stack rm pg"], said


@pytest.mark.parametrize("option, what", [
    (None, []), ("--volumes", ["service create"] * 3), ("--data", ["service create"] * 3), ("--labels", ["node update"] * 3),
    ("--network", ["network rm"])])
def test_only_what_was_named_is_removed(scripts, option, what):
    scripts.write_env()
    scripts.rules([["^service ls -q", "s1", 0]], THREE)
    scripts.run("remove", "--yes", *([option] if option else []))
    assert [" ".join(line.split()[:2]) for line in scripts.asked("^(service create|node update|network rm|volume)")] == what
    if option in ("--volumes", "--data"):
        names = ("pg_etcd{}-data" if option == "--volumes" else "/var/lib/patroni/node{}")
        assert [line.split()[-1] for line in scripts.asked("^service create")] == [names.format(n) for n in (1, 2, 3)]


def test_what_could_not_be_removed_is_an_error(scripts):
    scripts.write_env()
    scripts.rules([["^service ps .*CurrentState", "Failed 1 second ago|exit (1)", 0]], THREE)
    assert "not everything could be removed" in scripts.run("remove", "--yes", "--data", status=1)


def test_data_wait_for_the_last_container(scripts):
    scripts.write_env()
    scripts.rules([["^ps -aq", "c1", 0]], THREE)
    assert "there still are containers" in scripts.run("remove", "--yes", "--data", "--timeout", "1", status=1)
    assert not scripts.asked("^service create")
