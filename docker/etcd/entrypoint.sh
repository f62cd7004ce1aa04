#!/bin/bash
# Boots one member of an etcd cluster whose members may start at any time and in any order.
#
#   it has data            it is started with that
#   a peer's etcd answers  it joins: an entry of a volume that was lost is removed, it is added as a
#                          learner, and promoted when it has caught up
#   nobody answers         the alphabetically first name begins a cluster of its own; all others wait
#
# From before the first start until the member votes a file says that its data are incomplete: such data
# are thrown away when etcd cannot go on with them, others never. Who has begun a cluster of its own and
# then finds that its peers have one already (they were down, and the volume here was lost) gives it up, as
# long as nobody has joined it.
#
# Peers are asked at the URLs of ETCD_INITIAL_CLUSTER (GET /members, which etcd serves there), and for the
# clients' URLs of the cluster: no port is guessed.
set -uo pipefail
export LC_ALL=C

say() { printf '%s entrypoint: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

: "${ETCD_NAME:?the name of this member, as ETCD_INITIAL_CLUSTER has it}"
: "${ETCD_INITIAL_CLUSTER:?name=http://host:2380,... of all members}"
max_retries=${ETCD_MAX_RETRIES:-60}
retry_delay=${ETCD_RETRY_DELAY:-5}
peer_wait_timeout=${ETCD_PEER_WAIT_TIMEOUT:-300}
peer_check_interval=${ETCD_PEER_CHECK_INTERVAL:-5}
data=${ETCD_DATA_DIR:-${RAILWAY_VOLUME_MOUNT_PATH:-/var/lib/etcd}}
for number in max_retries retry_delay peer_wait_timeout peer_check_interval; do
  [[ ${!number} =~ ^[0-9]+([.][0-9]+)?$ ]] || fail "ETCD_${number^^}: '${!number}' is not a number"
done
unset ETCD_MAX_RETRIES ETCD_RETRY_DELAY ETCD_PEER_WAIT_TIMEOUT ETCD_PEER_CHECK_INTERVAL

# Who is who

own_url='' first='' others=()
IFS=, read -ra entries <<<"$ETCD_INITIAL_CLUSTER"
for entry in "${entries[@]}"; do
  name=${entry%%=*} url=${entry#*=} url=${url%/}
  [[ $entry == ?*=http*://* ]] || fail "ETCD_INITIAL_CLUSTER: '$entry': expected name=http://host:port"
  [[ -z $first || $name < $first ]] && first=$name
  if [ "$name" = "$ETCD_NAME" ]; then own_url=$url; else others+=("$url"); fi
done
[ -n "$own_url" ] || fail "ETCD_INITIAL_CLUSTER has no member '$ETCD_NAME'"

scheme=${own_url%%://*} host=${own_url#*://} host=${host%:*}
export ETCD_NAME ETCD_DATA_DIR=$data
export ETCD_INITIAL_ADVERTISE_PEER_URLS=${ETCD_INITIAL_ADVERTISE_PEER_URLS:-$own_url}
export ETCD_LISTEN_PEER_URLS=${ETCD_LISTEN_PEER_URLS:-$scheme://[::]:${own_url##*:}}
export ETCD_ADVERTISE_CLIENT_URLS=${ETCD_ADVERTISE_CLIENT_URLS:-http://$host:2379}
export ETCD_LISTEN_CLIENT_URLS=${ETCD_LISTEN_CLIENT_URLS:-http://[::]:2379}
export ETCD_AUTO_COMPACTION_MODE=${ETCD_AUTO_COMPACTION_MODE:-periodic}
export ETCD_AUTO_COMPACTION_RETENTION=${ETCD_AUTO_COMPACTION_RETENTION:-1h}
export ETCDCTL_API=3 ETCDCTL_DIAL_TIMEOUT=2s ETCDCTL_COMMAND_TIMEOUT=10s
[ -z "${ETCD_TRUSTED_CA_FILE:-}" ] || export ETCDCTL_CACERT=$ETCD_TRUSTED_CA_FILE
[ -z "${ETCD_CERT_FILE:-}" ] || export ETCDCTL_CERT=$ETCD_CERT_FILE ETCDCTL_KEY=${ETCD_KEY_FILE:-}

curl_options=(-fsS --max-time 3)
[ -z "${ETCD_PEER_TRUSTED_CA_FILE:-}" ] || curl_options+=(--cacert "$ETCD_PEER_TRUSTED_CA_FILE")
[ -z "${ETCD_PEER_CERT_FILE:-}" ] || curl_options+=(--cert "$ETCD_PEER_CERT_FILE" --key "${ETCD_PEER_KEY_FILE:-}")

token=${ETCD_INITIAL_CLUSTER_TOKEN:-etcd-cluster}

# Data, and whether they are complete

mark=$data/.incomplete # holds "begun" or "joined"

has_data() { [ -n "$(ls "$data"/member/wal/*.wal 2>/dev/null)" ]; }
is_incomplete() { [ -e "$mark" ]; }
mark_incomplete() { echo "$1" >"$mark" && sync "$data"; }
mark_complete() {
  rm -f "$mark" && sync "$data"
  say "$ETCD_NAME is a complete member"
}
throw_away() {
  say "$1: the incomplete data are thrown away"
  rm -rf "$data"/member
}

# What peers say

# Headers and members, as a peer tells them.
ask() { curl "${curl_options[@]}" -D /dev/stderr "$1/members"; }
members_at() { ask "$1" 2>/dev/null; }
cluster_at() { ask "$1" 2>&1 >/dev/null | tr -d '\r' | awk 'tolower($1) == "x-etcd-cluster-id:" { print $2 }'; }
client_urls() { jq -r '[.[] | select(.isLearner != true) | .clientURLs[]?] | join(",")'; }

# URLs for clients of the cluster that a peer belongs to (learners do not serve them); fails when no peer
# answers.
find_cluster() {
  local url urls
  for url in "${others[@]}"; do
    urls=$(members_at "$url" | client_urls) && [ -n "$urls" ] && echo "$urls" && return 0
  done
  return 1
}

# A peer is a member of a cluster that is not ours.
peers_have_another() {
  local ours url theirs
  ours=$(cluster_at "$own_url")
  [ -n "$ours" ] || return 1
  for url in "${others[@]}"; do
    theirs=$(cluster_at "$url")
    [ -n "$theirs" ] && [ "$theirs" != "$ours" ] && return 0
  done
  return 1
}

# Joining. Members are lines of "id, status, name, peer URLs, client URLs, is learner".

members() { etcdctl --endpoints="$1" member list; }
own_entry() { awk -F', ' -v url=",$own_url," 'index("," $4 ",", url) { print; exit }'; }

# Prints what ETCD_INITIAL_CLUSTER is to be. Fails when it is to be tried again.
join_at() {
  local endpoints=$1 all entry
  all=$(members "$endpoints") || return 1
  entry=$(own_entry <<<"$all")
  if [ -n "$entry" ] && [ "$(cut -d, -f2 <<<"$entry")" != " unstarted" ]; then
    say "the cluster has an entry of $ETCD_NAME, whose data are gone: it is removed"
    etcdctl --endpoints="$endpoints" member remove "${entry%%,*}" >&2 || return 1
    entry=''
  fi
  if [ -z "$entry" ]; then
    say "$ETCD_NAME is added as a learner"
    etcdctl --endpoints="$endpoints" member add "$ETCD_NAME" --peer-urls="$own_url" --learner >&2 || return 1
    all=$(members "$endpoints") || return 1
  fi
  awk -F', ' -v own="$own_url" -v name="$ETCD_NAME" '
    $4 == own { next }
    $2 == "started" { n = split($4, urls, ","); for (i = 1; i <= n; i++) printf "%s=%s,", $3, urls[i] }
    END { printf "%s=%s\n", name, own }' <<<"$all"
}

# Until it has the cluster's answer, or `max_retries` have failed.
join() {
  local endpoints cluster
  for ((n = 0; n < max_retries; n++)); do
    if endpoints=$(find_cluster) && cluster=$(join_at "$endpoints"); then
      export ETCD_INITIAL_CLUSTER=$cluster ETCD_INITIAL_CLUSTER_STATE=existing
      return 0
    fi
    rest "$retry_delay"
  done
  fail "the cluster did not take $ETCD_NAME in, in $max_retries attempts"
}

wait_for_peer() {
  local deadline=$((SECONDS + ${peer_wait_timeout%.*}))
  say "waiting for a peer of $ETCD_NAME"
  until find_cluster >/dev/null; do
    ((SECONDS < deadline)) || fail "no peer has answered within $peer_wait_timeout s: ${others[*]}"
    rest "$peer_check_interval"
  done
}

# The process. A signal ends it, and us with it, also in the middle of a wait.

etcd_pid=''
stop() {
  trap '' TERM INT
  [ -z "$etcd_pid" ] || kill -TERM "$etcd_pid" 2>/dev/null
  [ -z "$etcd_pid" ] || wait "$etcd_pid"
  exit $((128 + 15))
}
trap stop TERM INT

rest() {
  sleep "$1" &
  wait $!
}
is_running() { kill -0 "$etcd_pid" 2>/dev/null; }
end_etcd() {
  kill -TERM "$etcd_pid" 2>/dev/null
  wait "$etcd_pid"
  etcd_pid=''
}

# It votes, as the cluster sees it; a learner is promoted on the way there.
becomes_voter() {
  local endpoints entry
  endpoints=$(find_cluster) || endpoints=$ETCD_ADVERTISE_CLIENT_URLS
  entry=$(members "$endpoints" 2>/dev/null | own_entry)
  [ "${entry#*, started}" != "$entry" ] || return 1
  [ "${entry##*, }" = true ] || return 0
  etcdctl --endpoints="$endpoints" member promote "${entry%%,*}" >/dev/null 2>&1
}
# Beside ours there is another member in the cluster, or there are no others to come.
is_not_alone() {
  [ ${#others[@]} -eq 0 ] || [ "$(members "$ETCD_ADVERTISE_CLIENT_URLS" 2>/dev/null | wc -l)" -gt 1 ]
}

# While the member is incomplete: until it is complete, or etcd ends, or is to begin anew.
tend() {
  while is_running && is_incomplete; do
    if [ "$(cat "$mark")" = begun ]; then
      if peers_have_another; then
        end_etcd
        throw_away "the peers have a cluster already"
        return
      fi
      is_not_alone && becomes_voter && mark_complete
    else
      becomes_voter && mark_complete
    fi
    is_incomplete && rest 1
  done
}

{ mkdir -p "$data" && chmod 700 "$data"; } || fail "cannot write to $data"
if [ "$(id -u)" = 0 ] && [ -n "${ETCD_RUN_AS:-}" ]; then # volumes of platforms belong to root
  chown -R "$ETCD_RUN_AS" "$data" || fail "cannot give $data to $ETCD_RUN_AS"
  exec setpriv --reuid="$ETCD_RUN_AS" --regid="$ETCD_RUN_AS" --clear-groups "$0" "$@"
fi
unset ETCD_RUN_AS

for ((attempt = 0; ; attempt++)); do
  if has_data; then
    say "starting with the data of before"
  elif find_cluster >/dev/null; then
    mark_incomplete joined
    join
  elif [ "$ETCD_NAME" = "$first" ]; then
    say "nobody answers: $ETCD_NAME begins a cluster"
    mark_incomplete begun
    export ETCD_INITIAL_CLUSTER=$ETCD_NAME=$own_url ETCD_INITIAL_CLUSTER_STATE=new
    # etcd makes the ids of cluster and member of these; who lost its volume must not come back as the
    # member that it was, without the log that it had.
    ETCD_INITIAL_CLUSTER_TOKEN=$token-$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
    export ETCD_INITIAL_CLUSTER_TOKEN
  else
    wait_for_peer
    continue
  fi
  etcd "$@" &
  etcd_pid=$!
  tend
  [ -n "$etcd_pid" ] || continue
  wait "$etcd_pid"
  status=$?
  if ! is_incomplete || ((attempt >= max_retries)); then exit $status; fi
  throw_away "etcd has ended with status $status"
  rest "$retry_delay"
done
