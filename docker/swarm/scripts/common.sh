# shellcheck shell=bash
# What the scripts beside this one share. It is sourced, and then the working directory is docker/swarm.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck disable=SC2034 # scripts use it
members=(etcd1 etcd2 etcd3 patroni-node1 patroni-node2 patroni-node3)
# What must never be in the environment of a container, or of `docker`.
secret_names=(POSTGRES_PASSWORD PATRONI_SUPERUSER_PASSWORD PATRONI_REPLICATION_PASSWORD HAPROXY_STATS_PASSWORD)

say() { printf '%s\n' "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() {
  warn "$*"
  exit 1
}
# usage FILE: prints the comment with which a script begins, without its first line.
usage() { awk 'NR > 1 && (!/^#/ || /^# shellcheck/) { exit } NR > 1 { sub(/^# ?/, ""); print }' "$1"; }
# value_of OPTION VALUE...: the value of an option; there must be one.
value_of() {
  [ $# -gt 1 ] || fail "$1: a value is missing"
  printf '%s' "$2"
}

# read_env FILE: each NAME=VALUE becomes a variable of this shell. Nothing in it is carried out.
read_env() {
  local line name value number=0
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1)) line=${line%$'\r'}
    [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
    [[ $line =~ ^[[:space:]]*([A-Z][A-Z0-9_]*)=(.*)$ ]] || fail "$1:$number: expected NAME=VALUE"
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    [[ $name =~ ^(PATH|HOME|IFS|BASH.*|LD_.*|LC_.*)$ ]] && fail "$1:$number: $name is not for here"
    [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]] && value=${BASH_REMATCH[1]}
    printf -v "$name" '%s' "$value"
  done <"$1"
}

# The variables that a file names, a line each.
names_in() { sed -n 's/^[[:space:]]*\([A-Z][A-Z0-9_]*\)=.*/\1/p' "$1"; }

# use_env FILE: reads it, checks what everything rests on, and exports what stack.yml asks for, but no secret.
use_env() {
  local name
  [ -e "$1" ] || fail "$1 is missing: scripts/setup.sh makes it"
  [ -r "$1" ] || fail "$1 cannot be read by this user"
  for name in $(names_in .env.example) "${secret_names[@]/%/_SECRET}" ROUTER_USERLIST_SECRET; do
    unset "$name" # what this shell happens to have does not count
  done
  read_env "$1"
  for name in STACK_NAME IMAGE_ROUTER IMAGE_ETCD IMAGE_POSTGRES APP_NETWORK DATA_DIR POSTGRES_USER POSTGRES_DB; do
    [ -n "${!name:-}" ] || fail "$1: $name is missing"
  done
  [[ $STACK_NAME =~ ^[a-z0-9][a-z0-9_-]*$ ]] || fail "$1: STACK_NAME: '$STACK_NAME' is not a name of a stack"
  [[ $DATA_DIR =~ ^/[^:]*[^:/]$ ]] || fail "$1: DATA_DIR: '$DATA_DIR' is not an absolute path of a folder"
  : "${ROUTER_REPLICAS:=2}"
  # shellcheck disable=SC2034 # stack.yml uses them
  case ${ROUTER_PORTS:=ingress} in
  ingress) ROUTER_PORT_MODE=ingress ROUTER_ENDPOINT_MODE=vip ROUTER_UPDATE_ORDER=start-first ;;
  host)
    ROUTER_PORT_MODE=host ROUTER_ENDPOINT_MODE=dnsrr ROUTER_UPDATE_ORDER=start-first
    # Two containers cannot have the same port of a machine, not for a moment either.
    [ "${POOL_PORT:-1}${PRIMARY_PORT:-1}${REPLICA_PORT:-1}${STATS_PORT:-1}" = 0000 ] ||
      ROUTER_UPDATE_ORDER=stop-first
    ;;
  *) fail "$1: ROUTER_PORTS: '$ROUTER_PORTS'; expected ingress or host" ;;
  esac
  for name in $(names_in "$1") ROUTER_REPLICAS ROUTER_PORT_MODE ROUTER_ENDPOINT_MODE ROUTER_UPDATE_ORDER; do
    [[ $name == SECRETS_KEY || " ${secret_names[*]} " == *" $name "* ]] || export "${name?}"
  done
}

# Docker

check_docker() {
  local version
  command -v docker >/dev/null || fail "docker is not installed here: https://docs.docker.com/engine/install/"
  version=$(docker version -f '{{.Server.Version}}' 2>&1) ||
    fail "the Docker engine does not answer: ${version##*$'\n'}"
  [[ $version =~ ^([0-9]+)\.([0-9]+) ]] || fail "the Docker engine has no version: $version"
  ((BASH_REMATCH[1] * 100 + BASH_REMATCH[2] >= 2010)) || fail "Docker $version is too old: 20.10 is needed"
}
swarm_state() { docker info -f '{{.Swarm.LocalNodeState}}'; }
check_swarm() {
  [ "$(swarm_state)" = active ] ||
    fail "this machine is in no swarm: 'docker swarm init' makes one, or scripts/setup.sh --single"
  [ "$(docker info -f '{{.Swarm.ControlAvailable}}')" = true ] ||
    fail "this machine does not manage its swarm: go to one that does (docker node ls, there, lists them)"
}
node_ids() { docker node ls -q; }
# node_field ID TEMPLATE
node_field() { docker node inspect "$1" -f "$2"; }
label_of() { node_field "$1" '{{index .Spec.Labels "patroni"}}'; }
# nodes_with LABEL: ids of the machines that have it.
nodes_with() {
  local id
  for id in $(node_ids); do
    if [ "$(label_of "$id")" = "$1" ]; then echo "$id"; fi
  done
}

# Images that were built here are in no registry, which need not be asked then.
is_built_here() { [ "$(docker image inspect -f '{{len .RepoDigests}}' "$1" 2>/dev/null)" = 0 ]; }

# on_node ID NAME SCRIPT [ARGUMENT...]: runs SCRIPT by bash, as root, on that machine, with its files below /host,
# and prints what it prints. Fails when it does, or when it has not ended after 5 minutes.
on_node() {
  local id=$1 name=$2 script=$3 service state='' error='' n options=()
  shift 3
  is_built_here "$IMAGE_ETCD" && options=(--no-resolve-image)
  service=$STACK_NAME-$name-$id
  docker service rm "$service" >/dev/null 2>&1 || true
  docker service create -dq --name "$service" --mode replicated-job --restart-condition none --with-registry-auth \
    "${options[@]}" --constraint "node.id == $id" --user root --entrypoint /bin/bash --no-healthcheck \
    --mount type=bind,source=/,target=/host \
    --mount type=bind,source=/var/run/docker.sock,target=/var/run/docker.sock \
    "$IMAGE_ETCD" -c "$script" "$name" "$@" >/dev/null || return 1
  for ((n = 0; n < 600; n++)); do
    IFS='|' read -r state error <<<"$(docker service ps "$service" --no-trunc --format '{{.CurrentState}}|{{.Error}}')"
    case $state in Complete* | Failed* | Rejected*) break ;; esac
    sleep 0.5
  done
  docker service logs --raw "$service" 2>&1 || true
  docker service rm "$service" >/dev/null || true
  case $state in
  Complete*) return 0 ;;
  *)
    warn "$name on $(node_field "$id" '{{.Description.Hostname}}'): ${state:-it was not begun} ${error-}"
    return 1
    ;;
  esac
}

# What the cluster says of itself, asked from inside of its network by scripts/probe.py.

json_string() {
  local text=$1 code character
  text=${text//\\/\\\\} text=${text//\"/\\\"}
  for code in {1..31}; do
    printf -v character '%b' "\\x$(printf %x "$code")"
    [[ $text != *"$character"* ]] || text=${text//"$character"/$(printf '\\u%04x' "$code")}
  done
  printf '"%s"' "$text"
}
# What the probe is to know: its first line.
probe_settings() {
  local name separator='{'
  for name in STACK_NAME POSTGRES_USER POSTGRES_DB POSTGRES_PASSWORD HAPROXY_STATS_PASSWORD ROUTER_REPLICAS; do
    printf '%s"%s":%s' "$separator" "$name" "$(json_string "${!name:-}")"
    separator=,
  done
  printf '}\n'
}
# probe COMMAND: standard input goes to it, behind its settings.
probe() {
  { probe_settings && cat; } | docker run -i --rm --network "${STACK_NAME}_internal" --no-healthcheck --user 65534 \
    --entrypoint python3 "$IMAGE_POSTGRES" -c "$(<scripts/probe.py)" "$@"
}

# docker_facts few|all: what Docker says of the stack, in the form in which the probe reads it.
docker_facts() {
  local label=com.docker.stack.namespace=$STACK_NAME containers
  docker service ls --filter "label=$label" --format 'service {{json .}}'
  docker stack ps "$STACK_NAME" --no-trunc --format 'task {{json .}}' 2>/dev/null || true
  [ "$1" = all ] || return 0
  containers=$(docker ps -q --filter "label=$label")
  # shellcheck disable=SC2086 # one word each
  [ -z "$containers" ] || docker stats --no-stream --format 'usage {{json .}}' $containers 2>/dev/null || true
  # Docker's own list of events is short, and full of health checks.
  docker stack ps "$STACK_NAME" -q --no-trunc 2>/dev/null | xargs -r docker inspect --type task -f \
    'event {"task":{{json .ID}},"time":{{json .Status.Timestamp}},"what":{{json .Status.State}}{{if .Status.Err}},"detail":{{json .Status.Err}}{{end}}}' \
    2>/dev/null || true
  docker service ls -q --filter "label=$label" | xargs -r docker service inspect -f \
    '{{if .UpdateStatus}}event {"name":{{json .Spec.Name}},"time":{{json .UpdateStatus.StartedAt}},"what":{{json .UpdateStatus.State}},"detail":{{json .UpdateStatus.Message}}}{{end}}' \
    2>/dev/null || true
}
