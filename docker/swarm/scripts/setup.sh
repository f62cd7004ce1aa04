#!/bin/bash
# setup.sh - makes a swarm ready for the stack: checks Docker, writes .env with new secrets, labels the machines
# that PostgreSQL and etcd are to run on, makes their data folders and the network of the applications. It may be
# run again: what is there already stays as it is, .env above all.
#
#   scripts/setup.sh                     asks, on a terminal
#   scripts/setup.sh --nodes a,b,c       the machines of the three members, as `docker node ls` calls them
#   scripts/setup.sh --single            all on this machine, which becomes a swarm of its own if it is in none
#
#   --ports ingress|host   every machine listens, or those that run a router; default: ingress where the kernel
#                          can (IPVS)
#   --data-dir DIR         where the data are: DIR/node1, DIR/node2, DIR/node3       (DATA_DIR)
#   --user NAME --database NAME          of the applications              (POSTGRES_USER, POSTGRES_DB)
#   --routers N            how many routers                                          (ROUTER_REPLICAS)
#   --registry NAME        take images from there, as in ghcr.io/<owner>/<repo>      (IMAGE_*)
#   --env FILE             another file than .env
#   --move-labels          take a label from the machine that has it and should not have it
#
# A variable of .env.example that is in the environment goes into the new .env.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

env_file=.env nodes='' is_single=no move_labels=no n_told=0
while [ $# -gt 0 ]; do
  case $1 in
  --single) is_single=yes ;;
  --move-labels) move_labels=yes ;;
  --nodes)
    nodes=$(value_of "$@") || exit
    shift
    ;;
  --env)
    env_file=$(value_of "$@") || exit
    shift
    ;;
  --ports | --data-dir | --user | --database | --routers | --registry)
    value=$(value_of "$@") || exit
    case $1 in
    --ports) ROUTER_PORTS=$value ;;
    --data-dir) DATA_DIR=$value ;;
    --user) POSTGRES_USER=$value ;;
    --database) POSTGRES_DB=$value ;;
    --routers) ROUTER_REPLICAS=$value ;;
    --registry)
      value=${value%/}
      IMAGE_ROUTER=$value/router:latest IMAGE_ETCD=$value/etcd:latest IMAGE_POSTGRES=$value/postgres-patroni:17
      ;;
    esac
    n_told=$((n_told + 1))
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
[ -z "$nodes" ] || [ "$is_single" = no ] || fail "--nodes or --single, not both"
is_terminal=no
if [ -t 0 ] && [ -t 1 ]; then is_terminal=yes; fi

# question WORDS DEFAULT: prints the answer.
question() {
  local answer
  read -rp "$1 [$2]: " answer || fail "no answer"
  printf '%s' "${answer:-$2}"
}

# Docker and its swarm

check_docker
if [ "$(swarm_state)" != active ] && [ "$is_single" = yes ]; then
  # A machine with several addresses is asked for one; alone it needs none that others reach.
  docker swarm init >/dev/null 2>&1 || docker swarm init --advertise-addr 127.0.0.1 >/dev/null
  say "This machine is now a swarm of its own."
fi
check_swarm
say "Docker $(docker version -f '{{.Server.Version}}'), a swarm of $(node_ids | wc -l)"

# The members' machines: three ids

self=$(docker info -f '{{.Swarm.NodeID}}')
find_node() {
  local id hostname found=''
  for id in $(node_ids); do
    hostname=$(node_field "$id" '{{.Description.Hostname}}')
    [ "$hostname" = "$1" ] || [ "$id" = "$1" ] || continue
    [ -z "$found" ] || fail "several machines are called $1: name it by its id (docker node ls)"
    found=$id
  done
  [ -n "$found" ] || fail "the swarm has no machine $1; it has: $(docker node ls --format '{{.Hostname}}' | xargs)"
  echo "$found"
}
# Those that have the labels already, which is how this is run a second time.
labelled() {
  local number found=''
  for number in 1 2 3; do
    found=$(nodes_with "node$number")
    [ -n "$found" ] || return 1
    printf '%s%s' "${separator-}" "${found%%$'\n'*}"
    local separator=,
  done
}

if [ "$is_single" = yes ]; then
  nodes=$self
elif [ -z "$nodes" ]; then
  if [ -e "$env_file" ]; then
    one=$(read_env "$env_file" && echo "${NODE1_LABEL-}/${NODE3_LABEL-}")
    [ "${one%/*}" != "${one#*/}" ] || nodes=$(nodes_with "${one%/*}")
  fi
  [ -n "$nodes" ] || nodes=$(labelled) || nodes=''
fi
if [ -z "$nodes" ]; then
  [ $is_terminal = yes ] ||
    fail "which machines? --nodes A,B,C, or --single; the swarm has: $(docker node ls --format '{{.Hostname}}' | xargs)"
  docker node ls
  # shellcheck disable=SC2046 # one word each
  set -- $(docker node ls --format '{{.Hostname}}')
  say "Which machines are to have the data? The same one three times is for trying things out."
  for number in 1 2 3; do
    default=${1-}
    [ $# -le 1 ] || shift
    nodes+=${nodes:+,}$(question "  member $number" "$default")
  done
  if [ ! -e "$env_file" ]; then
    DATA_DIR=$(question "Folder of the data, on each of them" "${DATA_DIR:-/var/lib/patroni}")
    POSTGRES_USER=$(question "User of the applications" "${POSTGRES_USER:-app}")
    POSTGRES_DB=$(question "Its database" "${POSTGRES_DB:-$POSTGRES_USER}")
    n_told=$((n_told + 1))
  fi
fi
IFS=, read -ra names <<<"$nodes"
[ ${#names[@]} != 1 ] || names=("${names[0]}" "${names[0]}" "${names[0]}")
[ ${#names[@]} = 3 ] || fail "--nodes: '$nodes'; expected three machines, or one for all"
ids=()
for name in "${names[@]}"; do
  id=$(find_node "$name")
  [ "$(node_field "$id" '{{.Status.State}}')" = ready ] || fail "$name is down (docker node ls)"
  ids+=("$id")
done
labels=(node1 node2 node3)
if [ "${ids[0]}" = "${ids[1]}" ] && [ "${ids[1]}" = "${ids[2]}" ]; then
  labels=(node1 node1 node1)
elif [ "${ids[0]}" = "${ids[1]}" ] || [ "${ids[1]}" = "${ids[2]}" ] || [ "${ids[0]}" = "${ids[2]}" ]; then
  fail "--nodes: three machines, or one for all: two members on one machine are lost together"
fi

# .env

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
# The kernel forwards what comes in by ingress. Docker loads the module itself.
has_ipvs() {
  [ -e /proc/net/ip_vs ] || [ -d /sys/module/ip_vs ] || modprobe -qn ip_vs 2>/dev/null ||
    grep -qs '/ip_vs\.ko' "/lib/modules/$(uname -r)"/modules.{dep,builtin}
}
fewest_cpus() {
  local id
  for id in "${ids[@]}"; do node_field "$id" '{{.Description.Resources.NanoCPUs}}'; done | sort -n |
    awk 'NR == 1 { print ($1 < 2e9 ? $1 / 1e9 : 2) }'
}
# At least one for each port that routers have to themselves, and no more than there are.
n_routers() {
  local n
  n=$(node_ids | wc -l)
  if [ "$ROUTER_PORTS" = host ] && [ "$n" -lt 2 ]; then echo 1; else echo 2; fi
}
write_env() {
  local line name new
  if [ -z "${ROUTER_PORTS-}" ]; then
    ROUTER_PORTS=host
    if has_ipvs; then ROUTER_PORTS=ingress; else say "The kernel has no IPVS: ports are bound where routers run."; fi
  fi
  [[ $ROUTER_PORTS == ingress || $ROUTER_PORTS == host ]] || fail "--ports: '$ROUTER_PORTS'; expected ingress or host"
  : "${ROUTER_REPLICAS:=$(n_routers)}" "${POSTGRES_CPUS:=$(fewest_cpus)}"
  NODE1_LABEL=${labels[0]} NODE2_LABEL=${labels[1]} NODE3_LABEL=${labels[2]}
  [ -n "${SECRETS_KEY-}" ] || SECRETS_KEY=$(secret)
  for name in "${secret_names[@]}"; do [ -n "${!name-}" ] || printf -v "$name" '%s' "$(secret)"; done
  umask 077
  new=$(mktemp "$env_file.XXXXXX")
  # shellcheck disable=SC2064 # the name is known now
  trap "rm -f '$new'" EXIT
  while IFS= read -r line; do
    name=${line%%=*}
    if [[ $line =~ ^[A-Z][A-Z0-9_]*= && -n ${!name-} ]]; then
      [[ ${!name} != *$'\n'* ]] || fail "$name: a value has one line"
      line=$name=${!name}
      [[ ! ${!name} =~ ^(\".*\"|\'.*\')$ ]] || line=$name=\'${!name}\'
    elif [[ $line =~ ^#([A-Z][A-Z0-9_]*_SECRET)=$ && -n ${!BASH_REMATCH[1]-} ]]; then
      line=${BASH_REMATCH[1]}=${!BASH_REMATCH[1]}
    fi
    printf '%s\n' "$line"
  done <.env.example >"$new"
  ln "$new" "$env_file" 2>/dev/null || fail "$env_file has come to be meanwhile: it is left alone"
  rm -f "$new"
  trap - EXIT
  say "$env_file is written, with new secrets. Keep a copy of it where only you can read it."
}

if [ -e "$env_file" ]; then
  say "$env_file is there already and stays as it is."
  [ $n_told = 0 ] || warn "options that would go into $env_file have no effect: change it by hand"
  [ "$(stat -c %a "$env_file")" = 600 ] || warn "$env_file can be read by others: chmod 600 $env_file"
  missing=$(comm -23 <(names_in .env.example | sort) <(names_in "$env_file" | sort) | xargs)
  [ -z "$missing" ] || say "It says nothing about, which means the default of: $missing"
else
  write_env
fi
use_env "$env_file"
[ "$NODE1_LABEL,$NODE2_LABEL,$NODE3_LABEL" = "$(IFS=, && echo "${labels[*]}")" ] ||
  fail "$env_file places members at $NODE1_LABEL, $NODE2_LABEL, $NODE3_LABEL, which is not what was asked for"

for image in "$IMAGE_ROUTER" "$IMAGE_ETCD" "$IMAGE_POSTGRES"; do
  if [ "${labels[0]}" != "${labels[1]}" ] && is_built_here "$image"; then
    warn "$image was built on this machine: the others need it from a registry"
  fi
done

# Labels

for i in 0 1 2; do
  for id in $(nodes_with "${labels[i]}"); do
    [ "$id" != "${ids[i]}" ] || continue
    other=$(node_field "$id" '{{.Description.Hostname}}')
    [ $move_labels = yes ] ||
      fail "$other has the label patroni=${labels[i]}, and perhaps its data; --move-labels takes it from there"
    docker node update --label-rm patroni "$id" >/dev/null
    say "$other: label patroni=${labels[i]} removed"
  done
  found=$(label_of "${ids[i]}")
  [ "$found" != "${labels[i]}" ] || continue
  [ -z "$found" ] || [ $move_labels = yes ] ||
    fail "${names[i]} has the label patroni=$found already; --move-labels changes it"
  docker node update --label-add "patroni=${labels[i]}" "${ids[i]}" >/dev/null
  say "$(node_field "${ids[i]}" '{{.Description.Hostname}}'): label patroni=${labels[i]}"
done

# Folders. What is there is not touched.

for i in 0 1 2; do
  folder=$DATA_DIR/node$((i + 1))
  # shellcheck disable=SC2016 # is for the other shell
  on_node "${ids[i]}" setup-folder '[ -d "/host$1" ] || { install -d -m 711 "/host${1%/*}" && install -d -m 700 "/host$1"; }' \
    "$folder" || fail "$folder could not be made on ${names[i]}"
  say "$(node_field "${ids[i]}" '{{.Description.Hostname}}'): $folder"
done

# The network

if ! docker network inspect "$APP_NETWORK" >/dev/null 2>&1; then
  docker network create -d overlay --attachable "$APP_NETWORK" >/dev/null
  say "Network $APP_NETWORK"
fi

say
say "Ready. Look through $env_file, then: scripts/deploy.sh"
