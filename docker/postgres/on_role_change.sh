#!/bin/bash
# on_role_change.sh ACTION ROLE SCOPE: Patroni calls it when this node's role has changed. One line in the
# log, and a POST of the same as JSON to ROLE_CHANGE_WEBHOOK, if that is set.
set -uo pipefail

action=${1:-} role=${2:-} scope=${3:-}
[ "$action" = on_role_change ] || exit 0
[ "$role" != master ] || role=primary # its name before Patroni 4
node=${NODE_NAME:-$(hostname)}
time=$(date -u +%Y-%m-%dT%H:%M:%SZ)
printf '%s on_role_change: %s is now %s of %s\n' "$time" "$node" "$role" "$scope"

[ -n "${ROLE_CHANGE_WEBHOOK:-}" ] || exit 0
python3 -c '
import json, sys
print(json.dumps(dict(zip(("time", "node", "role", "scope"), sys.argv[1:]))))' "$time" "$node" "$role" "$scope" |
  curl -fsS -o /dev/null --max-time 10 --proto =http,https -H 'Content-Type: application/json' \
    --data-binary @- --url "$ROLE_CHANGE_WEBHOOK" ||
  printf '%s on_role_change: ROLE_CHANGE_WEBHOOK has not taken it\n' "$time"
exit 0
