#!/bin/bash
# Patroni runs this, and waits for it, right before it stops PostgreSQL: routers are asked to hold their
# clients, so that none loses its connection (POST /hold to each of PGROUTER_URLS, with PGROUTER_TOKEN).
# Whatever happens it takes at most 2 s and its status is 0: a stop must not depend on a router.
set -uo pipefail
trap 'exit 0' HUP INT TERM PIPE
export LC_ALL=C

say() { printf '%s before_stop: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" 2>/dev/null || :; }

set -f
urls=${PGROUTER_URLS:-} urls=${urls//,/ }
[ -n "${urls//[[:space:]]/}" ] || exit 0

# A replica's stop concerns no writer.
if timeout 0.3 pg_controldata "${PGDATA:-}" 2>/dev/null | grep -q '^Database cluster state: .*in archive recovery'; then
  exit 0
fi

# Nothing in a token may become a header of its own.
token=${PGROUTER_TOKEN:-} token=${token//[$'\r\n']/}
header() { [ -z "$token" ] || printf 'Authorization: Bearer %s\n' "$token"; }

hold() {
  local why
  if why=$(header | timeout -s KILL 1.3 curl -fsS -o /dev/null --max-time 1.2 --noproxy '*' \
    --proto =http,https -X POST -H @- -H 'Content-Length: 0' --url "${1%/}/hold" 2>&1); then
    say "$1 holds"
  else
    say "$1 has not been asked to hold: ${why:-no answer in time}"
  fi
}

for url in $urls; do
  hold "$url" &
done
wait
exit 0
