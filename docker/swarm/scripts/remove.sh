#!/bin/bash
# remove.sh - removes the stack: its services, configs and secrets. Data stay, and so do .env, labels and the
# network of the applications, unless the options say otherwise: scripts/deploy.sh then brings all of it back.
#
#   scripts/remove.sh
#
#   --volumes   also the volumes, in which etcd is; PostgreSQL's data stay, and Patroni takes them up again
#   --data      also PostgreSQL's data folders
#   --labels    also the labels of the machines
#   --network   also the network of the applications
#   --yes       without asking
#   --timeout SECONDS  how long to wait for the last container; default 180
#   --env FILE  another file than .env
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

env_file=.env with_volumes=no with_data=no with_labels=no with_network=no is_sure=no timeout=180
while [ $# -gt 0 ]; do
  case $1 in
  --volumes) with_volumes=yes ;;
  --data) with_data=yes ;;
  --labels) with_labels=yes ;;
  --network) with_network=yes ;;
  --yes) is_sure=yes ;;
  --timeout)
    timeout=$(value_of "$@") || exit
    shift
    ;;
  --env)
    env_file=$(value_of "$@") || exit
    shift
    ;;
  -h | --help)
    usage "$0"
    exit 0
    ;;
  *) fail "unknown: $1 (--help says what there is)" ;;
  esac
  shift
done
[[ $timeout =~ ^[1-9][0-9]*$ ]] || fail "--timeout: '$timeout'; expected seconds"
check_docker
check_swarm
use_env "$env_file"

# "number label id" of each member's machine
machines() {
  local number label id
  for number in 1 2 3; do
    label=NODE${number}_LABEL label=${!label:-node$number}
    for id in $(nodes_with "$label"); do echo "$number $label $id"; done
  done
}
places=$(machines)

say "To be removed:"
say "  the stack $STACK_NAME: services, configs, secrets"
while read -r number label id; do
  [ -n "$id" ] || continue
  host=$(node_field "$id" '{{.Description.Hostname}}')
  [ $with_volumes = no ] || say "  $host: the volume ${STACK_NAME}_etcd$number-data"
  [ $with_data = no ] || say "  $host: $DATA_DIR/node$number with ALL DATA of this member"
  [ $with_labels = no ] || say "  $host: the label patroni=$label"
done <<<"$places"
[ $with_network = no ] || say "  the network $APP_NETWORK"
if [ $is_sure = no ]; then
  [ -t 0 ] || fail "--yes says that this is meant; nothing was removed"
  read -rp "Remove all that? Type the name of the stack: " answer || answer=''
  [ "$answer" = "$STACK_NAME" ] || fail "nothing was removed"
fi

status=0
label=com.docker.stack.namespace=$STACK_NAME
[ -z "$(docker service ls -q --filter "label=$label")" ] || docker stack rm "$STACK_NAME" >/dev/null
# Until the last container has ended, on every machine: data must not be removed below its feet.
n_left() {
  { docker stack ps -q "$STACK_NAME" 2>/dev/null || true && docker ps -aq --filter "label=$label" &&
    docker network ls -q --filter "name=^${STACK_NAME}_internal$"; } | wc -l
}
deadline=$((SECONDS + timeout))
until [ "$(n_left)" = 0 ]; do
  ((SECONDS < deadline)) || fail "after $timeout s there still are containers, or the network ${STACK_NAME}_internal"
  # It goes with the last container; what was left by a removal that was cut off, by this.
  docker network rm "${STACK_NAME}_internal" >/dev/null 2>&1 || true
  sleep 1
done
for kind in secret config; do
  docker "$kind" ls -q --filter "label=$label" | xargs -r docker "$kind" rm >/dev/null || status=1
done
say "The stack is removed."

# shellcheck disable=SC2016 # both are for the other shell
remove_volume='curl -sS -o /dev/null -w "%{http_code}" --unix-socket /var/run/docker.sock -X DELETE "http://docker/volumes/$1" |
  grep -qE "^(204|404)$"'
# shellcheck disable=SC2016
remove_folder='rm -rf --one-file-system "/host$1" && rmdir "/host${1%/*}" 2>/dev/null || [ ! -e "/host$1" ]'
while read -r number label id <&3; do
  [ -n "$id" ] || continue
  host=$(node_field "$id" '{{.Description.Hostname}}')
  if [ $with_volumes = yes ]; then
    volume=${STACK_NAME}_etcd$number-data
    if on_node "$id" remove-volume "$remove_volume" "$volume"; then say "$host: volume $volume removed"; else status=1; fi
  fi
  if [ $with_data = yes ]; then
    folder=$DATA_DIR/node$number
    if on_node "$id" remove-folder "$remove_folder" "$folder"; then say "$host: $folder removed"; else status=1; fi
  fi
done 3<<<"$places"
if [ $with_labels = yes ]; then
  while read -r number label id; do
    if [ -z "$id" ] || [ -z "$(label_of "$id")" ]; then continue; fi
    docker node update --label-rm patroni "$id" >/dev/null || status=1
    say "$(node_field "$id" '{{.Description.Hostname}}'): label patroni=$label removed"
  done <<<"$places"
fi
if [ $with_network = yes ] && docker network inspect "$APP_NETWORK" >/dev/null 2>&1; then
  if docker network rm "$APP_NETWORK" >/dev/null; then say "The network $APP_NETWORK is removed."; else status=1; fi
fi
[ $status = 0 ] || warn "not everything could be removed"
exit $status
