#!/bin/bash
# get-postgres-version.sh MAJOR: prints the newest minor release of it that the official image has, as
# "17.5", for the tags of our own. Asks the registry, as `docker pull` does.
set -euo pipefail

major=${1:-}
if [ $# -ne 1 ] || [[ ! $major =~ ^[0-9]+$ ]]; then
  echo "usage: $0 MAJOR, as in $0 17" >&2
  exit 2
fi
registry=${DOCKER_REGISTRY_URL:-https://registry-1.docker.io}
token_url=${DOCKER_TOKEN_URL:-https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/postgres:pull}
get() { curl -fsS --retry 4 --retry-delay "${RETRY_DELAY:-5}" --retry-connrefused --max-time 60 "$@"; }

headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
token=$(get "$token_url" | jq -er .token) || {
  echo "$0: no token from $token_url" >&2
  exit 1
}

# Tags come in pages, in no order that is promised; the header Link names the next.
path="/v2/library/postgres/tags/list?n=1000"
tags=''
for ((page = 0; page < 50 && ${#path} > 0; page++)); do
  tags+=$(get -H "Authorization: Bearer $token" -D "$headers" "$registry$path" | jq -er '.tags[]')$'\n'
  path=$(tr -d '\r' <"$headers" | sed -nE 's/^link: *<([^>]+)>; *rel="?next"?.*/\1/Ip' | tail -n 1)
  [[ -z $path || $path == /* ]] || path=/${path#*://*/}
done

newest=$(grep -xE "$major\.[0-9]+" <<<"$tags" | sort -V | tail -n 1) || :
if [ -z "$newest" ]; then
  echo "$0: the official image has no release $major.x" >&2
  exit 1
fi
echo "$newest"
