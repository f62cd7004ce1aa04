#!/bin/sh
# Runs a fuzz target for some seconds from the inputs that are kept, and keeps nothing new:
# a target that finds something leaves it in the present folder, as crash-*.
#
#   run.sh PROGRAM CORPUS SECONDS
set -u
found=$(mktemp -d) || exit 1
trap 'rm -rf "$found"' EXIT
[ -d "$2" ] || set -- "$1" "$found" "$3"
"$1" -max_total_time="$3" -timeout=10 -rss_limit_mb=2048 "$found" "$2"
