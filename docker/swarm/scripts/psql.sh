#!/bin/bash
# psql.sh - psql, as the user of the applications, by the network of the applications.
#
#   scripts/psql.sh [6432|5000|5001] [--env FILE] [ARGUMENTS OF PSQL]
#   scripts/psql.sh console [ARGUMENTS OF PSQL]       the console of a router, as admin
#
# Without a port: 6432, the pool.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

env_file=.env port=6432 what=data
while [ $# -gt 0 ]; do
  case $1 in
  6432 | 5000 | 5001) port=$1 ;;
  console) what=console ;;
  --env)
    env_file=$(value_of "$@") || exit
    shift
    ;;
  -h | --help)
    usage "$0"
    exit 0
    ;;
  *) break ;;
  esac
  shift
done
check_docker
use_env "$env_file"
user=$POSTGRES_USER database=$POSTGRES_DB PGPASSWORD=${POSTGRES_PASSWORD-}
[ $what = data ] || user=admin database=pgbouncer PGPASSWORD=${HAPROXY_STATS_PASSWORD-}
export PGPASSWORD

options=(-i)
if [ -t 0 ] && [ -t 1 ]; then options=(-it); fi
# The network is known on this machine from the first container that is in it.
exec docker run --rm "${options[@]}" --network "$APP_NETWORK" --no-healthcheck -e PGPASSWORD \
  --entrypoint psql "$IMAGE_ROUTER" -h pgrouter -p "$port" -U "$user" -d "$database" "$@"
