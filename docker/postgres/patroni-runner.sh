#!/bin/bash
# Runs Patroni, and with it PostgreSQL, as the main process of the container; wrapper.sh has prepared the
# volume. Ends when Patroni does, and when Patroni does not answer any more; PostgreSQL has stopped
# cleanly then, whoever had to see to it.
#
# What the volume says of its data:
#
#   .patroni_bootstrap_complete   they are a member's: Patroni goes on with them
#   .patroni_bootstrap_begun      their making may have been cut off (bootstrap, or copy of the leader)
#   neither                       they are somebody else's, and are adopted where that is asked for
#
# Only data whose making was cut off are ever thrown away.
set -uo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=docker/postgres/common.sh
. "$here/common.sh"

data=${PGDATA:?} volume=${RAILWAY_VOLUME_MOUNT_PATH:?} run=${PATRONI_RUN_DIR:?}
complete=$volume/.patroni_bootstrap_complete begun=$volume/.patroni_bootstrap_begun
interval=${PATRONI_HEALTH_CHECK_INTERVAL:-3}
timeout=${PATRONI_HEALTH_CHECK_TIMEOUT:-3}
max_failures=${PATRONI_MAX_HEALTH_FAILURES:-3}
grace=${PATRONI_STARTUP_GRACE_PERIOD:-300}
stop_timeout=${PATRONI_STOP_TIMEOUT:-60}
for number in PATRONI_{HEALTH_CHECK_{INTERVAL,TIMEOUT},MAX_HEALTH_FAILURES,STARTUP_GRACE_PERIOD,STOP_TIMEOUT}; do
  [[ ${!number:-1} =~ ^[1-9][0-9]{0,6}$ ]] || fail "$number: '${!number}' is not a number from 1 up"
done
umask 077

# patroni.yml

settings=$run/patroni.yml
url=$(python3 "$here/patroni_settings.py" write "$settings") || exit 1
echo "$url" >"$run/url" # for the image's health check

# Patroni would read these by itself, and some of them as YAML. The scripts that it calls need a few.
export NODE_NAME=$PATRONI_NAME
export PGPASSFILE=$run/pgpass
export SUPERUSER_USERNAME=${PATRONI_SUPERUSER_USERNAME:-postgres}
export SUPERUSER_PASSWORD=${PATRONI_SUPERUSER_PASSWORD:-$POSTGRES_PASSWORD}
export REPLICATION_USERNAME=${PATRONI_REPLICATION_USERNAME:-replicator}
export REPLICATION_PASSWORD=$PATRONI_REPLICATION_PASSWORD
unset "${!PATRONI_SUPERUSER_@}" "${!PATRONI_REPLICATION_@}" "${!PATRONI_ETCD_@}" PATRONI_ETCD3_HOSTS PATRONI_NAME \
  PATRONI_SCOPE PATRONI_POSTGRESQL_LISTEN PATRONI_POSTGRESQL_CONNECT_ADDRESS PATRONI_RESTAPI_LISTEN \
  PATRONI_RESTAPI_CONNECT_ADDRESS

# Data

mark() { : >"$1" && sync "$1" "$volume"; }
unmark() { rm -f "$1" && sync "$volume"; }
has_data() { [ -e "$data/global/pg_control" ]; }
is_empty() { [ -z "$(ls -A "$data")" ]; }

# Patroni's users, in data that another PostgreSQL has made. The superuser that initdb made is asked for by a
# server for one user, which needs no name.
adopt() {
  local first
  say "the data in $data are adopted; pg_hba.conf becomes Patroni's"
  if [ ! -e "$data/standby.signal" ] && [ ! -e "$data/recovery.signal" ]; then
    first=$(postgres --single -D "$data" -c logging_collector=off -c ssl=off template1 \
      <<<'SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10' |
      sed -n 's/.*1: rolname = "\(.*\)"[[:space:]]*(typeid.*/\1/p')
    [ -n "$first" ] || fail "the data in $data cannot be adopted: PostgreSQL does not start with them"
    start_private "$data" "$run/private" -c default_transaction_read_only=off
    PGHOST=$run/private PGUSER=$first "$here/post_bootstrap.sh" dbname=postgres ||
      fail "the data in $data cannot be adopted: no roles could be made"
    stop_private || fail "the data in $data cannot be adopted: PostgreSQL has not stopped cleanly"
  fi
  mark "$complete"
  unmark "$begun"
}
adopt_if_asked() {
  is_true PATRONI_ADOPT_EXISTING_DATA ||
    fail "Patroni has not made the data in $data; with PATRONI_ADOPT_EXISTING_DATA=true it goes on with them"
  adopt
}

throw_away() {
  say "the making of the data in $data was cut off: they are thrown away"
  find "$data" -mindepth 1 -delete || fail "cannot empty $data"
}

# While the store says of the cluster that it is begun, nobody but the node that was making its data has any.
# A store that knows of no cluster has lost it: then nobody can tell whether the data were complete.
heal() {
  local state
  say 'asking the store how far the cluster is'
  state=$(python3 "$here/patroni_settings.py" state "$settings") || fail 'the store has not said how far the cluster is'
  case $state in
  begun)
    throw_away
    python3 "$here/patroni_settings.py" forget "$settings"
    ;;
  none) adopt_if_asked ;;
  *) has_data || throw_away ;;
  esac
}

# Of a copy of the leader the label comes first and pg_control last; also a member may have been making one.
prepare_data() {
  [ ! -e "$complete" ] || rm -f "$begun"
  if ! has_data && [ -e "$data/backup_label" ]; then throw_away; fi
  if is_empty; then
    rm -f "$complete"
    mark "$begun"
  elif [ -e "$begun" ]; then
    heal
  elif ! has_data; then
    fail "$data holds files, but no data of PostgreSQL"
  elif [ ! -e "$complete" ]; then
    adopt_if_asked
  fi
}

# The process

patroni_pid='' is_asked=no
trap 'is_asked=yes' INT TERM
rest() {
  [ $is_asked = no ] || return
  sleep "$1" &
  wait $!
}
is_running() { kill -0 "$patroni_pid" 2>/dev/null; }
answers() { curl -fsSk -o /dev/null --noproxy '*' --max-time "$timeout" "$url/$1" 2>/dev/null; }

# Waits until Patroni has ended, seconds at most.
await_end() {
  local n
  for ((n = 0; n < 10 * $1; n++)); do
    is_running || return 0
    sleep 0.1
  done
  ! is_running
}

# It may have been left behind by a Patroni that died, or is in pause mode.
stop_postgres() {
  [ -e "$data/postmaster.pid" ] || return 0
  pg_ctl -D "$data" status >/dev/null 2>&1 || return 0
  say 'stopping PostgreSQL'
  pg_ctl -D "$data" -m fast -w -t "$stop_timeout" -s stop || pg_ctl -D "$data" -m immediate -w -s stop
}

# Seconds for an orderly end: few for a Patroni that hangs, since whoever asked for it does not wait for ever.
patience() {
  if [ $has_answered = no ] || answers liveness; then echo "$stop_timeout"; else echo 2; fi
}

# end STATUS SECONDS: Patroni gets so long for an orderly end.
end() {
  trap '' INT TERM
  kill -TERM "$patroni_pid" 2>/dev/null
  await_end "$2" || { say 'killing Patroni' && kill -KILL "$patroni_pid"; }
  wait "$patroni_pid" 2>/dev/null
  stop_postgres
  exit "$1"
}

# A member whose Patroni says that it leads or follows has data that are worth to be kept.
note_complete() {
  answers primary || answers replica || return
  if [ -e "$begun" ]; then
    mark "$complete"
    unmark "$begun"
    say "$NODE_NAME is a complete member"
  fi
  timeout 10 python3 "$here/patroni_settings.py" apply "$settings" && is_noted=yes
}

# Once an hour: a container may outlive its certificate.
renew_certificate() {
  ((SECONDS - renewed_at >= ${SSL_CHECK_INTERVAL:-3600})) || return
  renewed_at=$SECONDS
  "$here/init-ssl.sh" --tell "$volume/certs"
  [ $? -ne 3 ] || pg_ctl -D "$data" -s reload
}

prepare_data
trap 'is_asked=yes' INT TERM
[ $is_asked = no ] || exit 0
say "starting Patroni as $NODE_NAME"
patroni "$settings" &
patroni_pid=$!

n_failures=0 has_answered=no is_noted=no renewed_at=$SECONDS began=$SECONDS
while :; do
  rest "$interval"
  [ $is_asked = no ] || end 0 "$(patience)"
  if ! is_running; then
    wait "$patroni_pid"
    say "Patroni has ended with status $?"
    end 1 0
  fi
  if answers liveness; then
    n_failures=0 has_answered=yes
    [ $is_noted = yes ] || note_complete
    renew_certificate
  elif [ $has_answered = yes ] || ((SECONDS - began >= grace)); then
    n_failures=$((n_failures + 1))
    say "Patroni does not answer ($n_failures of $max_failures)"
    ((n_failures < max_failures)) || end 1 2
  fi
done
