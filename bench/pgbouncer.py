"""The PgBouncer that pgrouter is measured beside: the machine's own if it follows prepared
statements in transaction pooling, else one out of a newer suite of Debian, unpacked beside its
libraries into a folder. Nothing is installed. apt checks what it fetches."""

import glob
import os
import re
import subprocess

INSTALLED = "/usr/sbin/pgbouncer"
NEWEST_KNOWN = (1, 24)  # prepared statements came with 1.21
SUITE = "trixie"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# The program, and what it is linked with.
PACKAGES = ("pgbouncer libc6 libcares2 libevent-2.1-7t64 libpam0g libaudit1 libcap-ng0 libssl3t64 "
            "libzstd1 zlib1g libsystemd0 libcap2 libgcc-s1").split()
TIMEOUT_S = 120


class Program:
    """How it is started, and what it says about itself."""

    def __init__(self, command, origin):
        self.command = command
        first = _output([*command, "--version"]).splitlines()[0]
        self.number = tuple(int(part) for part in re.search(r"(\d+)\.(\d+)", first).groups())
        self.version = f"{first}, {origin}"
        self.follows_prepared = self.number >= (1, 21)


def find(folder):
    """A Program, or None; and why it is not what was wanted, "" when it is. `folder` is where
    one is unpacked, once."""
    installed = Program([INSTALLED], "installed") if os.access(INSTALLED, os.X_OK) else None
    if installed and installed.number >= NEWEST_KNOWN:
        return installed, ""
    try:
        return Program(_unpacked(folder), f"of Debian {SUITE}"), ""
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return installed, str(error).strip().splitlines()[-1]


def _output(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def _unpacked(folder):
    root = os.path.join(folder, "root")
    if not os.path.exists(os.path.join(folder, "done")):
        _fetch(folder, root)
        with open(os.path.join(folder, "done"), "w", encoding="ascii"):
            pass
    loaders = sorted(glob.glob(os.path.join(root, "usr/lib*/**/ld-linux*"), recursive=True))
    if not loaders:
        raise RuntimeError(f"no loader below {root}")
    libraries = glob.glob(os.path.join(root, "usr/lib/*-linux-gnu"))
    return [loaders[0], "--library-path", ":".join(libraries), os.path.join(root, "usr/sbin/pgbouncer")]


def _fetch(folder, root):
    """By apt with a state of its own, so that the machine's is left as it is."""
    for name in ("state/lists/partial", "cache/archives/partial", "packages"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    source = os.path.join(folder, "sources.list")
    with open(source, "w", encoding="ascii") as file:
        file.write(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    status = os.path.join(folder, "status")
    with open(status, "w", encoding="ascii"):
        pass
    options = [f"Dir::Etc::sourcelist={source}", "Dir::Etc::sourceparts=/dev/null",
               f"Dir::State={folder}/state", f"Dir::State::status={status}",
               f"Dir::Cache={folder}/cache", "Acquire::Languages=none",
               "Acquire::http::Timeout=10", "Acquire::Retries=1", "APT::Sandbox::User="]
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    _output([*apt, "-o", "APT::Update::Error-Mode=any", "update"])
    subprocess.run([*apt, "download", *PACKAGES], cwd=os.path.join(folder, "packages"), check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
    for package in glob.glob(os.path.join(folder, "packages", "*.deb")):
        _output(["dpkg-deb", "-x", package, root])
