#!/bin/bash
# init-ssl.sh FOLDER: PostgreSQL's certificate (server.crt, server.key), signed by an authority of this
# volume's own (root.crt, root.key). What is there is kept; the server's is made anew when it would expire
# within 30 days, does not fit its key, or was made by an authority that is gone, so clients that trust
# root.crt need not learn of it. A certificate that stands there without root.key is somebody else's: it
# is never touched.
#
# Status 0: nothing to do; 3 (with --tell): it was made anew, and PostgreSQL has to read it again.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=docker/postgres/common.sh
. "$here/common.sh"

tell=no
[ "${1:-}" != --tell ] || { tell=yes && shift; }
folder=${1:-${RAILWAY_VOLUME_MOUNT_PATH:-/var/lib/postgresql/data}/certs}
margin=30 # days
days=${SSL_CERT_DAYS:-820}
if [[ ! $days =~ ^[0-9]{1,5}$ ]] || ((10#$days <= margin)); then
  fail "SSL_CERT_DAYS: '$days' is not a number of days above $margin"
fi
umask 077

lasts() { openssl x509 -in "$1" -noout -checkend $((margin * 86400)) >/dev/null 2>&1; }
# Certificate and key belong together.
fits() {
  local public
  public=$(openssl x509 -in "$1" -noout -pubkey 2>/dev/null) &&
    [ "$public" = "$(openssl pkey -in "$2" -pubout 2>/dev/null)" ]
}

mkdir -p "$folder"
cd "$folder"
if [ -e server.crt ] && [ -e server.key ] && [ ! -e root.key ]; then
  lasts server.crt || say "$folder/server.crt expires within $margin days; it was not made here, and is left alone"
  exit 0
fi
if lasts root.crt && fits root.crt root.key && lasts server.crt && fits server.crt server.key &&
  openssl verify -CAfile root.crt server.crt >/dev/null 2>&1; then
  exit 0
fi

# Names that clients may use.
names=DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1
for name in "${PATRONI_NAME:-}" "${RAILWAY_PRIVATE_DOMAIN:-}" "$(hostname)"; do
  if [[ $name =~ ^[0-9]+([.][0-9]+){3}$ || $name =~ ^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$ ]]; then
    names+=,IP:$name
  elif [[ $name =~ ^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$ ]] && [[ ,$names, != *",DNS:$name,"* ]]; then
    names+=,DNS:$name
  fi
done

settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
printf '[req]\ndistinguished_name = name\n[name]\n' >"$settings/openssl.cnf"
make() {
  local key=$1 certificate=$2
  shift 2
  openssl req -new -x509 -config "$settings/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$settings/key" -out "$settings/certificate" "$@" 2>"$settings/log" ||
    fail "openssl has failed: $(cat "$settings/log")"
  mv "$settings/key" "$key.new" # two steps: no file is ever half written
  mv "$settings/certificate" "$certificate.new"
  chmod 644 "$certificate.new"
  mv "$key.new" "$key"
  mv "$certificate.new" "$certificate"
}

if ! lasts root.crt || ! fits root.crt root.key; then
  say "making an authority for certificates, valid for 20 years"
  make root.key root.crt -days 7300 -subj "/CN=PostgreSQL authority" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -addext subjectKeyIdentifier=hash
fi
say "making the server's certificate, valid for $days days"
make server.key server.crt -days "$days" -subj /CN=postgres -CA root.crt -CAkey root.key \
  -addext "subjectAltName=$names" -addext basicConstraints=critical,CA:FALSE \
  -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth \
  -addext authorityKeyIdentifier=keyid
[ "$tell" = no ] || exit 3
