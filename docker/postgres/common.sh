# shellcheck shell=bash
# What the scripts of this folder share; they source it.

script=${0##*/}
say() { printf '%s %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${script%.sh}" "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

# true and false, as people write them.
is_true() {
  local value=${!1:-false}
  case ${value,,} in
  true | yes | on | 1) return 0 ;;
  false | no | off | 0) return 1 ;;
  *) fail "$1: '$value' is neither true nor false" ;;
  esac
}

# A server that nobody but us reaches: a socket in a folder of its own, where everybody is who he says.
# start_private DATA FOLDER [argument ...]

private_pid=''
start_private() {
  local data=$1 folder=$2
  shift 2
  mkdir -p "$folder" && chmod 700 "$folder"
  # What one before left that was killed: its number may be another process's by now.
  rm -f "$folder"/.s.PGSQL.5432*
  printf 'local all all trust\n' >"$folder/pg_hba.conf"
  postgres -D "$data" -c listen_addresses= -c "unix_socket_directories=$folder" -c port=5432 \
    -c "hba_file=$folder/pg_hba.conf" -c ssl=off -c logging_collector=off "$@" >&2 &
  private_pid=$!
  trap stop_private EXIT
  trap 'exit 143' INT TERM
  until pg_isready -q -h "$folder" -p 5432; do
    kill -0 "$private_pid" 2>/dev/null || fail "PostgreSQL does not start with the data in $data"
    sleep 0.2
  done
}
stop_private() {
  trap - EXIT INT TERM
  kill -INT "$private_pid"
  wait "$private_pid"
}
