#!/bin/bash
# deploy.sh - deploys the stack, or brings a running one to what .env, stack.yml, pgrouter.ini and userlist.txt
# say now: checks first, then follows what Swarm does, then asks the cluster whether all is well.
#
#   scripts/deploy.sh
#
#   --check            only the checks
#   --timeout SECONDS  how long one step may take; default 600
#   --at-once          all services at the same time, also of a stack that runs
#   --env FILE         another file than .env
#
# A stack that runs is updated member by member: etcd, then the replicas, then the leader, then the routers, and
# each step begins when the cluster is well. Ends with 0 when all is well and 1 otherwise.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

env_file=.env timeout=600 check_only=no at_once=no
while [ $# -gt 0 ]; do
  case $1 in
  --check) check_only=yes ;;
  --at-once) at_once=yes ;;
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

# Checks: all of them, and then the list of what is wrong

n_wrong=0
wrong() {
  warn "$*"
  n_wrong=$((n_wrong + 1))
}

check_secrets() {
  local name secret
  for name in "${secret_names[@]}"; do
    secret=${name}_SECRET
    if [ -n "${!secret-}" ]; then
      docker secret inspect "${!secret}" >/dev/null 2>&1 || wrong "$secret: there is no Docker secret ${!secret}"
    elif [ -z "${!name-}" ]; then
      wrong "$env_file: $name is empty"
    fi
  done
  if [ -n "${ROUTER_USERLIST_SECRET-}" ]; then
    docker secret inspect "$ROUTER_USERLIST_SECRET" >/dev/null 2>&1 ||
      wrong "ROUTER_USERLIST_SECRET: there is no Docker secret $ROUTER_USERLIST_SECRET"
  elif [ -z "${POSTGRES_PASSWORD-}" ] || [ -z "${HAPROXY_STATS_PASSWORD-}" ]; then
    wrong "$env_file: without POSTGRES_PASSWORD and HAPROXY_STATS_PASSWORD, ROUTER_USERLIST_SECRET is to be set"
  fi
  [ -n "${SECRETS_KEY-}" ] || wrong "$env_file: SECRETS_KEY is empty; any long random text will do"
}
check_members() {
  local number label found
  for number in 1 2 3; do
    label=NODE${number}_LABEL label=${!label:-node$number}
    found=$(nodes_with "$label")
    case $(wc -w <<<"$found") in
    0) wrong "no machine has the label patroni=$label: scripts/setup.sh gives it" ;;
    1)
      [ "$(node_field "$found" '{{.Status.State}} {{.Spec.Availability}}')" = "ready active" ] ||
        wrong "$(node_field "$found" '{{.Description.Hostname}}'), where patroni=$label is, takes no containers (docker node ls)"
      ;;
    *) wrong "several machines have the label patroni=$label: a member has to stay where its data are" ;;
    esac
  done
}
check_routers() {
  local n
  n=$(node_ids | wc -l)
  [ "$ROUTER_PORTS" = ingress ] || [ "$ROUTER_UPDATE_ORDER" = start-first ] || [ "$ROUTER_REPLICAS" -le "$n" ] ||
    wrong "ROUTER_REPLICAS=$ROUTER_REPLICAS routers with ports of their own take as many machines; there are $n"
}
# The configuration, by the image that is to read it.
check_ini() {
  local said options=()
  is_built_here "$IMAGE_ROUTER" && options=(--pull never)
  # shellcheck disable=SC2016 # is for the other shell
  said=$(docker run -i --rm --network none "${options[@]}" --no-healthcheck --user root --tmpfs /run/secrets \
    --entrypoint /bin/bash "$IMAGE_ROUTER" -c 'cat >/tmp/pgrouter.ini
      printf "\"checked\" \"checked\"\n" >/run/secrets/userlist.txt
      exec /usr/local/bin/pgrouter -t /tmp/pgrouter.ini' <pgrouter.ini 2>&1) ||
    wrong "pgrouter.ini: ${said//\/tmp\//}"
}

check_docker
check_swarm
use_env "$env_file"
[ "$(stat -c %a "$env_file")" = 600 ] || warn "$env_file can be read by others: chmod 600 $env_file"
check_secrets
check_members
check_routers
docker network inspect "$APP_NETWORK" >/dev/null 2>&1 || wrong "there is no network $APP_NETWORK: scripts/setup.sh makes it"
[ $n_wrong -gt 0 ] || check_ini
[ $n_wrong = 0 ] || fail "nothing was deployed"
say "Checked: $env_file, the machines, the network, pgrouter.ini"
[ $check_only = no ] || exit 0

# Secrets and configs: their names tell their content, and not what it is.

name_of() { # NAME, content on standard input
  local hash
  hash=$({ printf '%s\n%s\n' "$SECRETS_KEY" "$1" && cat; } | sha256sum)
  printf '%s_%s_%s' "$STACK_NAME" "$1" "${hash:0:12}"
}
# make_secret NAME CONTENT: prints what it is called.
make_secret() {
  local name
  name=$(printf '%s' "$2" | name_of "$1")
  docker secret inspect "$name" >/dev/null 2>&1 ||
    printf '%s' "$2" | docker secret create -l "com.docker.stack.namespace=$STACK_NAME" "$name" - >/dev/null ||
    fail "the secret $name could not be made"
  printf '%s' "$name"
}
quoted() { printf '"%s"' "${1//\"/\"\"}"; }
userlist() {
  printf '%s %s\n' "$(quoted "$POSTGRES_USER")" "$(quoted "$POSTGRES_PASSWORD")" \
    '"admin"' "$(quoted "$HAPROXY_STATS_PASSWORD")"
  [ ! -e userlist.txt ] || cat userlist.txt
}
make_secrets() {
  : "${POSTGRES_PASSWORD_SECRET:=$(make_secret postgres_password "$POSTGRES_PASSWORD")}"
  : "${PATRONI_SUPERUSER_PASSWORD_SECRET:=$(make_secret superuser_password "$PATRONI_SUPERUSER_PASSWORD")}"
  : "${PATRONI_REPLICATION_PASSWORD_SECRET:=$(make_secret replication_password "$PATRONI_REPLICATION_PASSWORD")}"
  : "${HAPROXY_STATS_PASSWORD_SECRET:=$(make_secret stats_password "$HAPROXY_STATS_PASSWORD")}"
  : "${ROUTER_USERLIST_SECRET:=$(make_secret router_userlist "$(userlist)")}"
  PGROUTER_INI_VERSION=$(name_of pgrouter_ini <pgrouter.ini)
  PGROUTER_INI_VERSION=${PGROUTER_INI_VERSION##*_}
  export PGROUTER_INI_VERSION POSTGRES_PASSWORD_SECRET PATRONI_SUPERUSER_PASSWORD_SECRET \
    PATRONI_REPLICATION_PASSWORD_SECRET HAPROXY_STATS_PASSWORD_SECRET ROUTER_USERLIST_SECRET
}
# What neither a service nor the state that it would go back to refers to any more.
forget_old() {
  local kind name used
  used=$(docker service ls -q --filter "label=com.docker.stack.namespace=$STACK_NAME" |
    xargs -r docker service inspect -f '{{json .Spec}}{{json .PreviousSpec}}')
  for kind in secret config; do
    for name in $(docker "$kind" ls --filter "label=com.docker.stack.namespace=$STACK_NAME" --format '{{.Name}}'); do
      [[ $used == *"\"$name\""* ]] || docker "$kind" rm "$name" >/dev/null 2>&1 || true
    done
  done
}

# Deploying

# stack SERVICE...: stack.yml with no other services than these.
stack() {
  awk -v names=" $* " '
    /^[^ #]/ { section = $1 }
    section == "services:" && /^  [A-Za-z0-9_-]+:/ { name = $1; sub(/:$/, "", name); is_left_out = !index(names, " " name " ") }
    section != "services:" { is_left_out = 0 }
    !is_left_out { print }' stack.yml
}
resolve=always
if is_built_here "$IMAGE_ROUTER" || is_built_here "$IMAGE_ETCD" || is_built_here "$IMAGE_POSTGRES"; then
  resolve=never
fi
deploy() {
  stack "$@" | docker stack deploy --detach=true --with-registry-auth --resolve-image "$resolve" -c - "$STACK_NAME" |
    sed 's/^/  /'
}

# A line for each task that is in another state than before, and once for each error.
declare -A seen=()
report() {
  local id name state error words
  while IFS='|' read -r id name state error; do
    words="${state%% *}${error:+: $error}"
    if [ -z "$id" ] || [ "${seen[$id]-}" = "$words" ]; then continue; fi
    seen[$id]=$words
    case $words in Shutdown | Remove*) continue ;; esac
    say "  $(date +%H:%M:%S) ${name#"${STACK_NAME}"_} $words"
  done < <(docker stack ps "$STACK_NAME" --no-trunc --format '{{.ID}}|{{.Name}}|{{.CurrentState}}|{{.Error}}' 2>/dev/null)
}
# state_of SERVICE: "running/wanted", and of its newest update "state time"
state_of() {
  local service=${STACK_NAME}_$1
  printf '%s %s' "$(docker service ls --filter "name=$service" --format '{{.Name}} {{.Replicas}}' |
    awk -v name="$service" '$1 == name { print $2 }')" "$(update_of "$1")"
}
update_of() {
  docker service inspect "${STACK_NAME}_$1" \
    -f '{{if .UpdateStatus}}{{.UpdateStatus.State}} {{.UpdateStatus.StartedAt.UnixNano}}{{end}}' 2>/dev/null
}
# follow SERVICE...: until all of them run as they should.
declare -A time_before=()
follow() {
  local deadline=$((SECONDS + timeout)) service count state time pending
  while :; do
    report
    pending=()
    for service in "$@"; do
      read -r count state time <<<"$(state_of "$service")"
      # How an update ended that was before this one is no news.
      [ "$time" != "${time_before[$service]-}" ] || [ "$state" = updating ] || state=''
      case $state in
      paused) fail "$service: the update has failed and stands still: docker service ps ${STACK_NAME}_$service" ;;
      rollback_completed | rollback_paused)
        fail "$service: the new one was not well; it is back to what it was before"
        ;;
      esac
      if [ "${count%/*}" != "${count#*/}" ] || [ "$count" = 0/0 ] || [[ $state == updating || $state == rollback_started ]]; then
        pending+=("$service")
      fi
    done
    [ ${#pending[@]} -gt 0 ] || return 0
    ((SECONDS < deadline)) || fail "not done after $timeout s: ${pending[*]}; docker service ps tells more"
    sleep 2
  done
}
# well PROBE-COMMAND WORDS: until the probe finds nothing wrong.
well() {
  local deadline=$((SECONDS + timeout)) said='' before=''
  while :; do
    if said=$(docker_facts few | probe "$1" 2>&1); then return 0; fi
    [ "$said" = "$before" ] || say "  $(date +%H:%M:%S) ${said//$'\n'/$'\n'           }"
    before=$said
    ((SECONDS < deadline)) || fail "$2: not after $timeout s"
    sleep 2
  done
}
# step SERVICE...
step() {
  local service update
  for service in "$@"; do
    update=$(update_of "$service") || update=''
    time_before[$service]=${update#* }
  done
  deploy "$@"
  sleep 1 # Swarm begins an update a moment after it was told of it
  follow "$@"
}

make_secrets
is_running() { docker service inspect "${STACK_NAME}_pgrouter" "${members[@]/#/${STACK_NAME}_}" >/dev/null 2>&1; }
if [ $at_once = yes ] || ! is_running; then
  say "Deploying $STACK_NAME"
  step "${members[@]}" pgrouter
else
  say "Updating $STACK_NAME, member by member"
  well members "the cluster is not well enough to be updated (--at-once does it all the same)"
  for member in etcd1 etcd2 etcd3; do
    step "$member"
    well members "after the update of $member the cluster is not well"
  done
  for member in $(docker_facts few | probe order); do
    step "$member"
    well members "after the update of $member the cluster is not well"
  done
  step pgrouter
fi
say "Waiting for the cluster: quorum, leader, replicas, pool"
well watch "the cluster is not well"
forget_old

# Where it can be reached

addresses() {
  local id
  if [ "$ROUTER_PORTS" = ingress ]; then
    for id in $(node_ids); do node_field "$id" '{{.Status.Addr}}'; done
  else
    for id in $(docker service ps "${STACK_NAME}_pgrouter" --filter desired-state=running --format '{{.Node}}' | sort -u); do
      node_field "$id" '{{.Status.Addr}}'
    done
  fi
}
hosts=$(addresses | sort -u | xargs)
say
say "All is well. The passwords are in $env_file."
say
say "From containers on the network $APP_NETWORK:"
say "  pool       postgresql://$POSTGRES_USER@pgrouter:6432/$POSTGRES_DB"
say "  primary    postgresql://$POSTGRES_USER@pgrouter:5000/$POSTGRES_DB"
say "  replicas   postgresql://$POSTGRES_USER@pgrouter:5001/$POSTGRES_DB"
say "  statistics http://admin@pgrouter:7000/"
say "From elsewhere, by the address of a machine: ${hosts// /, }"
if [ "${POOL_PORT:-6432}${PRIMARY_PORT:-5000}${REPLICA_PORT:-5001}${STATS_PORT:-7000}" = 0000 ]; then
  say "  ports that were free: docker service ps ${STACK_NAME}_pgrouter"
else
  host=${hosts%% *}
  [[ $host != *:* ]] || host="[$host]"
  say "  pool       postgresql://$POSTGRES_USER@$host:${POOL_PORT:-6432}/$POSTGRES_DB"
  say "  primary    postgresql://$POSTGRES_USER@$host:${PRIMARY_PORT:-5000}/$POSTGRES_DB"
  say "  replicas   postgresql://$POSTGRES_USER@$host:${REPLICA_PORT:-5001}/$POSTGRES_DB"
  say "  statistics http://admin@$host:${STATS_PORT:-7000}/"
fi
say
say "scripts/status.sh says how it is; scripts/psql.sh is a psql."
