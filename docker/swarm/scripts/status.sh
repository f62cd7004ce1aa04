#!/bin/bash
# status.sh - how the stack is: services, etcd, Patroni's members and how far they are behind, pools, a connection
# through each port of each router, CPU and memory, recent events.
#
#   scripts/status.sh
#
#   --json             a line of JSON
#   --watch [SECONDS]  again and again, every 5 seconds
#   --env FILE         another file than .env
#
# Ends with 0 when all is well, 1 when it is not, 2 when that cannot be told.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fail() {
  warn "$*"
  exit 2
}

env_file=.env form=text interval=''
while [ $# -gt 0 ]; do
  case $1 in
  --json) form=json ;;
  --watch)
    interval=5
    [[ ! ${2-} =~ ^[0-9]+$ ]] || { interval=$2 && shift; }
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

check_docker
check_swarm
use_env "$env_file"

# Prints it, and returns 0 or 1, or 2 when the cluster could not be asked.
show() {
  local facts said status=0
  facts=$(docker_facts all)
  if [ -z "$facts" ]; then
    warn "there is no stack $STACK_NAME: scripts/deploy.sh deploys it"
    return 2
  fi
  said=$(probe status <<<"$facts") || status=$?
  if [[ $said != "{"* ]]; then # what Docker knows, then
    [ $form = json ] || docker stack ps "$STACK_NAME"
    [ $form = text ] || printf '{"stack":%s,"healthy":false,"problems":["the cluster cannot be asked"],"services":[%s]}\n' \
      "$(json_string "$STACK_NAME")" "$(sed -n 's/^service //p' <<<"$facts" | paste -sd,)"
    warn "the cluster cannot be asked from inside of its network (${STACK_NAME}_internal)"
    return 2
  fi
  if [ $form = json ]; then
    printf '%s\n' "${said%%$'\n'*}"
  else
    printf '%s, %s\n%s\n' "$STACK_NAME" "$(date '+%Y-%m-%d %H:%M:%S')" "${said#*$'\n'}"
  fi
  [ $status = 0 ] || return 1
}

while :; do
  [ -z "$interval" ] || [ $form = json ] || [ ! -t 1 ] || printf '\033[H\033[2J'
  status=0
  show || status=$?
  [ -n "$interval" ] || exit $status
  sleep "$interval"
done
