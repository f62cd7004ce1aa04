#!/bin/sh
# Runs a Criterion program and fails also where Criterion 2.4 says that all is well: on a
# sanitizer's report, such as a leak that is found when a test's process exits, and on a
# crash in .init or .fini. (A failed assertion in .fini goes unnoticed even so: put none there.)
#
#   criterion.sh PROGRAM [ARGUMENT...]
set -u
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
reports=log_path=$folder/report

ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}$reports" \
UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}$reports:print_stacktrace=1" \
  "$@" >"$folder/output" 2>&1
status=$?
cat "$folder/output"
for report in "$folder"/report*; do
  if [ -e "$report" ]; then
    cat "$report"
    status=1
  fi
done
if grep -q 'runtime error:' "$folder/output"; then # UBSan beside ASan knows no log_path
  echo "criterion.sh: undefined behaviour"
  status=1
fi
if grep -q 'during its setup or teardown' "$folder/output"; then
  echo "criterion.sh: a test crashed in .init or .fini"
  status=1
fi
exit $status
