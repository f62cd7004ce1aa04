#!/bin/bash
# Entry of the image. Prepares the volume and the certificates, and becomes
#
#   PATRONI_ENABLED=true   patroni-runner.sh: Patroni, which starts PostgreSQL
#   otherwise              PostgreSQL alone, whose data are made at the first start
#
# Starts as root, since volumes of platforms belong to root, and goes on as postgres; or as any other
# user that the volume belongs to. README.md has the table of variables.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=docker/postgres/common.sh
. "$here/common.sh"

# Another command, as in `docker run ... bash`.
case ${1:-postgres} in
postgres) shift || : ;;
-*) ;;
*) exec "$@" ;;
esac

# Secrets may come in files: NAME_FILE in place of NAME.
for name in POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB PATRONI_SUPERUSER_USERNAME PATRONI_SUPERUSER_PASSWORD \
  PATRONI_REPLICATION_USERNAME PATRONI_REPLICATION_PASSWORD PGROUTER_TOKEN; do
  file=${name}_FILE
  [ -n "${!file:-}" ] || continue
  [ -z "${!name:-}" ] || fail "$name and $file are both set"
  value=$(cat "${!file}") || fail "$file: ${!file} cannot be read"
  export "$name=$value"
  unset "$file"
done

# Where the data are. PGDATA may be the volume itself only where the data already are there: beside new
# ones stand certificates and marks.
if [ -n "${RAILWAY_ENVIRONMENT:-}" ] && [ -z "${RAILWAY_VOLUME_MOUNT_PATH:-}" ]; then
  fail "no volume is attached to this service: its data would be lost with the next deployment"
fi
volume=${RAILWAY_VOLUME_MOUNT_PATH:-/var/lib/postgresql/data}
volume=${volume%/}
data=${PGDATA:-$volume}
data=${data%/}
if [[ $data/ != "$volume"/* ]]; then
  [ -z "${RAILWAY_VOLUME_MOUNT_PATH:-}" ] || fail "PGDATA: $data is not on the volume, $volume"
  volume=$data
fi
if [ "$data" = "$volume" ] && [ ! -e "$data/PG_VERSION" ]; then
  data=$volume/pgdata
fi
export PGDATA=$data RAILWAY_VOLUME_MOUNT_PATH=$volume
export POSTGRES_SOCKET_DIR=${POSTGRES_SOCKET_DIR:-/var/run/postgresql}
export PATRONI_RUN_DIR=${PATRONI_RUN_DIR:-/tmp/patroni}
export LANG=${LANG:-C.UTF-8}
# They say where clients go; of the programs here they would make clients of another server.
unset PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGPASSFILE PGSERVICE PGSSLMODE PGOPTIONS

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$volume" "$data" "$POSTGRES_SOCKET_DIR" "$PATRONI_RUN_DIR" || fail "cannot write to $volume"
  chmod 3777 "$POSTGRES_SOCKET_DIR"
  find "$volume" "$PATRONI_RUN_DIR" ! -user postgres -exec chown -h postgres:postgres {} + ||
    fail "cannot give $volume to postgres"
  chown postgres:postgres "$POSTGRES_SOCKET_DIR"
  HOME=$(getent passwd postgres | cut -d: -f6)
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" postgres "$@"
fi

! is_true LOG_TO_STDOUT || exec 2>&1

{ mkdir -p "$data" "$PATRONI_RUN_DIR" && chmod 700 "$data"; } || fail "cannot write to $data"
if [ -e "$data/PG_VERSION" ]; then
  theirs=$(<"$data/PG_VERSION")
  ours=$(postgres --version)
  ours=${ours##*) }
  [ "$theirs" = "${ours%%[!0-9]*}" ] ||
    fail "the data in $data are PostgreSQL $theirs's and this is $ours: use the image of $theirs, or upgrade them"
fi
# PostgreSQL that was killed leaves the number of its process behind, which in a new container is another's.
if [ -e "$data/postmaster.pid" ]; then
  read -r pid <"$data/postmaster.pid" || :
  if [ "$(readlink "/proc/${pid//[!0-9]/}/cwd")" != "$(readlink -f "$data")" ]; then
    rm -f "$data/postmaster.pid"
  fi
fi

"$here/init-ssl.sh" "$volume/certs"

if is_true PATRONI_ENABLED; then
  command -v patroni >/dev/null || fail "PATRONI_ENABLED=true takes the image with Patroni (target ha); this is slim"
  exec "$here/patroni-runner.sh"
fi

# PostgreSQL alone

# Arguments of PostgreSQL for POSTGRES_PARAM_<name>=value; __ stands for the dot of an extension's.
parameters=()
while IFS= read -r -d '' entry; do
  [[ $entry == POSTGRES_PARAM_* ]] || continue
  name=${entry%%=*} value=${entry#*=}
  key=${name#POSTGRES_PARAM_} key=${key,,} key=${key//__/.}
  [[ $key =~ ^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)?$ ]] || fail "$name: '$key' is not a setting's name"
  parameters+=(-c "$key=$value")
done < <(env -0)

# Made beside, and moved when complete: a start that was cut off begins anew.
make_data() {
  local new=$data.new file
  export POSTGRES_USER=${POSTGRES_USER:-postgres}
  [ -n "${POSTGRES_PASSWORD:-}" ] || [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ] ||
    fail "POSTGRES_PASSWORD is not set: new data take the password of $POSTGRES_USER"
  rmdir "$data" 2>/dev/null || fail "$data holds files, but no data of PostgreSQL"
  rm -rf "$new"
  say "making new data in $data"
  # shellcheck disable=SC2086 # several arguments
  initdb -D "$new" --username="$POSTGRES_USER" --auth-local=trust \
    --auth-host="${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" --encoding=UTF8 --locale="$LANG" --data-checksums \
    ${POSTGRES_INITDB_ARGS:-} >&2
  printf 'host all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$new/pg_hba.conf"
  start_private "$new" "$PATRONI_RUN_DIR/private" "${parameters[@]}"
  export PGHOST=$PATRONI_RUN_DIR/private PGUSER=$POSTGRES_USER
  REPLICATION_USERNAME='' SUPERUSER_USERNAME='' "$here/post_bootstrap.sh" dbname=postgres
  for file in "${POSTGRES_INITDB_DIR:-/docker-entrypoint-initdb.d}"/*; do
    run_initial "$file"
  done
  unset PGHOST PGUSER
  stop_private
  mv -T "$new" "$data"
  sync "$data" "$volume"
}

# A file of /docker-entrypoint-initdb.d, as in the official image.
run_initial() {
  local psql=(psql -X -q -v ON_ERROR_STOP=1 --no-password -d "${POSTGRES_DB:-$POSTGRES_USER}")
  case $1 in
  *.sh) say "running $1" && if [ -x "$1" ]; then "$1"; else bash "$1"; fi ;;
  *.sql) say "running $1" && "${psql[@]}" -f "$1" ;;
  *.sql.gz) say "running $1" && gunzip -c "$1" | "${psql[@]}" ;;
  esac || fail "$1 has failed"
}

if [ ! -e "$data/PG_VERSION" ]; then make_data; fi
# Platforms end a container by SIGTERM, at which PostgreSQL would wait for its clients to leave. A signal ends
# a wait.
server='' is_asked=no is_woken=no
trap 'is_asked=yes is_woken=yes; [ -z "$server" ] || kill -INT "$server"' INT TERM
trap 'is_woken=yes; [ -z "$server" ] || kill -HUP "$server"' HUP
postgres -D "$data" -c 'listen_addresses=*' -c "unix_socket_directories=$POSTGRES_SOCKET_DIR" -c ssl=on \
  -c "ssl_cert_file=$volume/certs/server.crt" -c "ssl_key_file=$volume/certs/server.key" \
  -c password_encryption=scram-sha-256 "${parameters[@]}" "$@" &
server=$!
[ $is_asked = no ] || kill -INT "$server"
while :; do
  status=0
  wait "$server" || status=$?
  [ $is_woken = yes ] || exit "$status"
  is_woken=no
done
