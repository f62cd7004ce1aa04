"""A certificate authority for one cluster, by the openssl command."""

import os

from . import process

# The machine's openssl.cnf may add extensions of its own.
CONFIGURATION = "[req]\ndistinguished_name = name\n[name]\n"


class Authority:
    def __init__(self, folder):
        self.folder = folder
        self.certificate = os.path.join(folder, "ca.crt")
        self._key = os.path.join(folder, "ca.key")
        self._settings = os.path.join(folder, "openssl.cnf")
        with open(self._settings, "w", encoding="ascii") as file:
            file.write(CONFIGURATION)
        self._make(self._key, self.certificate, "pgrouter test authority", [
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign",
            "-addext", "subjectKeyIdentifier=hash"])

    def _make(self, key, certificate, name, more):
        process.run(["openssl", "req", "-x509", "-config", self._settings, "-newkey", "ec",
                     "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
                     "-subj", f"/CN={name}", "-keyout", key, "-out", certificate, *more])
        os.chmod(key, 0o600)
        os.chmod(certificate, 0o644)

    def issue(self, name, hosts, owner=None):
        """Paths of key and certificate for `hosts` (names and addresses); the key belongs
        to the account `owner`."""
        key, certificate = (os.path.join(self.folder, f"{name}.{end}") for end in ("key", "crt"))
        kinds = ("IP" if host.replace(".", "").isdigit() or ":" in host else "DNS" for host in hosts)
        names = ",".join(f"{kind}:{host}" for kind, host in zip(kinds, hosts))
        self._make(key, certificate, name, [
            "-CA", self.certificate, "-CAkey", self._key,
            "-addext", f"subjectAltName={names}",
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-addext", "authorityKeyIdentifier=keyid"])
        if owner is not None:
            owner.own(key)
        return key, certificate
