"""What can be said to pgrouter when it is started."""

import os
import re
import socket
import subprocess

import pytest

from harness.ports import free_port
from harness.router import setarch, sanitizer_of

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOOD = """[cluster main]
nodes = a=127.0.0.1:1:2, b=db.example:5432:8008
[listener rw]
bind = 127.0.0.1:{port}
"""
BAD = """; a file with a mistake in most lines
[pgrouter]
workers = 0
max_client_conn = lots
no_such_setting = 1
log_format = xml
[cluster main]
nodes = a=127.0.0.1:5432
check_interval = 1 hour
check_interval = 1s
drain = z
[cluster other]
nodes = x:99999:8008
max_lag = 5 elephants
[listener rw]
bind = 127.0.0.1:{port}, 127.0.0.1:{port}
cluster = mian
role = first
[listener ro]
cluster = main
bind = 127.0.0.1
[listner x]
bind = 127.0.0.1:1
"""
MISTAKES = {3: "workers", 4: "max_client_conn", 5: "no_such_setting", 6: "log_format", 8: "node 'a'",
            9: "check_interval", 10: "check_interval", 11: "drain", 13: "nodes", 14: "max_lag", 16: "bind",
            18: "role", 21: "bind", 22: "listner"}


@pytest.fixture
def run(program):
    """Function that runs it until it ends, with nothing in its environment."""
    def run(*arguments, **options):
        environment = {key: text for key, text in os.environ.items()
                       if not key.startswith(("POSTGRES_", "HAPROXY_"))}
        options = {"stdout": subprocess.PIPE, **options}
        return subprocess.run([*setarch(sanitizer_of(program)), program, *map(str, arguments)], text=True,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=30, check=False,
                              env=environment, **options)

    return run


def write(folder, text, **more):
    path = folder / "file.ini"
    path.write_text(text.format(port=free_port(), **more))
    return path


def test_a_good_file_is_ok(run, tmp_path):
    """Nothing is started for that: not even the port must be free."""
    path = write(tmp_path, GOOD)
    port = int(re.search(r"127.0.0.1:(\d{4,})", path.read_text()).group(1))
    with socket.create_server(("127.0.0.1", port)):
        for option in ("-t", "--test"):
            done = run(option, path)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: ok\n", "")


@pytest.mark.parametrize("options", [["-t"], []])
def test_all_mistakes_of_a_file_at_once(run, tmp_path, options):
    path = write(tmp_path, BAD)
    done = run(*options, path)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    for number, word in MISTAKES.items():
        said = [line for line in lines if line.startswith(f"{path}:{number}: ")]
        assert len(said) == 1 and word in said[0], (number, lines)
    assert all(re.search(r"expected|did you mean|unknown|pgrouter --settings", line) for line in lines), lines
    assert len(lines) == len(MISTAKES)


def test_what_must_hold_between_settings(run, tmp_path):
    path = write(tmp_path, """[pgrouter]
dns_min_ttl = 10s
dns_max_ttl = 5s
[cluster main]
nodes = a=127.0.0.1:5432, b=127.0.0.2:5432:8008
[cluster sql]
nodes = c=127.0.0.1:5432
check = postgres
[listener rw]
bind = 127.0.0.1:{port}
[listener ro]
bind = *:{port}
cluster = main
role = replica
check_uri = replica
""")
    done = run("-t", path)
    assert done.returncode == 1
    for number, words in {3: "dns_max_ttl", 5: "node 'a'", 8: "check_user", 9: "cluster", 12: "taken by",
                          14: "one of the two", 15: "begins with /"}.items():
        assert any(line.startswith(f"{path}:{number}: ") and words in line
                   for line in done.stderr.splitlines()), (number, done.stderr)


@pytest.mark.parametrize("text, words", [
    ("", "listener NAME"), ("[cluster main]\n", "'nodes' is missing"), ("nodes = x\n", "in front of the first section"),
    ("[cluster]\nnodes = a:1:2\n", "cluster"), ("[listener x]\nbind=127.0.0.1:1\n", "no cluster to lead to"),
    ("[cluster a]\nnodes = a:1:2\n[cluster a]\nnodes = a:1:2\n", "a"), ("[pgrouter\nworkers = 1\n", "expected"),
    ("\0\1\2\3", "not a text file"), ("[databases]\nx = host=y\n", "auth_file"), ("%include /no/such/file\n", "/no/such/file"),
    ("%include file.ini\n", "file.ini"), ("=\n" * 3, "expected"), ("[stats]\nuri = x\n", "uri")])
def test_files_that_are_wrong_as_a_whole(run, tmp_path, text, words):
    path = tmp_path / "file.ini"
    path.write_text(text)
    done = run("-t", path, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr and str(path) in done.stderr, done.stderr


@pytest.mark.parametrize("options", [["-t"], []])
def test_a_file_that_cannot_be_read(run, tmp_path, options):
    missing = tmp_path / "missing.ini"
    done = run(*options, missing)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(missing) in done.stderr and "No such file" in done.stderr
    done = run(*options, tmp_path)
    assert done.returncode == 1
    assert "directory" in done.stderr.lower()


def test_two_files_are_one_too_many(run, tmp_path):
    path = write(tmp_path, GOOD)
    done = run("-t", path, path)
    assert done.returncode == 1
    assert "one configuration file at most" in done.stderr


@pytest.mark.parametrize("options", [["--no-such-option"], ["-x"], ["-t", "--nope"], ["--test=yes"]])
def test_an_unknown_option_is_an_error(run, options):
    done = run(*options)
    assert done.returncode == 1
    assert "--help" in done.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(run, option):
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("Usage: pgrouter", "--test", "--settings", "--version", "POSTGRES_NODES", "HUP", "TERM"):
        assert word in done.stdout


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(run, option):
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    with open(os.path.join(TOP, "meson.build"), encoding="utf-8") as file:
        version = re.search(r"version: '([^']+)'", file.read()).group(1)
    assert done.stdout == f"pgrouter {version}\n"


def printed_settings(run):
    """{section: {name: default}} as --settings has them."""
    sections, section = {}, None
    for line in run("--settings").stdout.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line, {})
        elif found := re.match(r"(\w+)(?: = ?(.*)| \(required\))$", line):
            section[found.group(1)] = found.group(2)
    return sections


def test_settings_are_all_there(run):
    """Each one of the table, with its default."""
    with open(os.path.join(TOP, "config", "keys.def"), encoding="utf-8") as file:
        keys = re.findall(r'^KEY_(\w+)\(\w+, (\w+), (REQUIRED|"[^"]*")', file.read(), re.M)
    assert len(keys) > 30
    titles = {"MAIN": "[pgrouter]", "CLUSTER": "[cluster NAME]", "LISTENER": "[listener NAME]", "STATS": "[stats]",
              "DATABASE": "[databases]", "USER": "[users]", "PEER": "[peers]"}
    sections = printed_settings(run)
    for kind, name, initial in keys:
        assert sections[titles[kind]][name] == (None if initial == "REQUIRED" else initial.strip('"'))
    assert sum(map(len, sections.values())) == len(keys)


def test_defaults_are_values_that_can_be_written(run, tmp_path):
    users = tmp_path / "users.txt"
    users.write_text('"app" "secret"\n')
    needed = {"nodes": "a=127.0.0.1:5432:8008", "auth_file": users, "host": "127.0.0.1"}
    lines = {"[databases]": "app", "[users]": "app", "[peers]": "1"}  # their settings are in one

    def value_of(name, initial):
        return initial or needed.get(name) or f"127.0.0.1:{free_port()}"

    def section(title, keys):
        given = {name: value_of(name, initial) for name, initial in keys.items()
                 if initial not in ("", "default") or name in needed}
        if title in lines:
            return f"{lines[title]} = " + " ".join(f"{name}='{value}'" for name, value in given.items()) + "\n"
        return "".join(f"{name} = {value}\n" for name, value in given.items())

    text = "".join(title.replace("NAME", "main") + "\n" + section(title, keys)
                   for title, keys in printed_settings(run).items())
    path = tmp_path / "file.ini"
    path.write_text(text)
    done = run("-t", path)
    assert done.returncode == 0, done.stderr + text


def test_the_documentation_is_what_it_prints(run):
    with open(os.path.join(TOP, "docs", "settings.md"), encoding="utf-8") as file:
        assert run("--settings", "--markdown").stdout == file.read()


def test_output_that_nobody_takes_is_an_error(run):
    with open("/dev/full", "w", encoding="ascii") as full:
        assert run("--settings", stdout=full).returncode == 1


def test_an_address_that_cannot_be_bound_is_an_error(run, tmp_path):
    path = write(tmp_path, GOOD.replace("127.0.0.1:{port}", "198.51.100.1:{port}, /no/such/folder/socket"))
    done = run(path)
    assert done.returncode == 1
    assert "198.51.100.1" in done.stderr and "Cannot assign requested address" in done.stderr
    assert "/no/such/folder/socket" in done.stderr
