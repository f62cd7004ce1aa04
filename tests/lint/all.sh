#!/bin/sh
# Everything that reads the sources without running them; ./dev lint calls it. A tool that is
# not installed is named and left out.
set -u
cd "$(dirname "$0")/../.." || exit 1
failed=
left_out=

# check NAME TOOL COMMAND...: runs the command if there is such a tool.
check() {
  name=$1 tool=$2
  shift 2
  if ! command -v "$tool" >/dev/null; then
    left_out="$left_out $name"
    echo "== $name: left out, $tool is not installed"
  elif echo "== $name"; ! "$@"; then
    failed="$failed $name"
  fi
}

sources() {
  find core wire config health pool router tests bench -name "$1" | sort
}

compile_with_clang() {
  build="build-lint"
  [ -e $build/build.ninja ] || CC=clang meson setup $build >/dev/null || return 1
  ninja -C $build
}

format() {
  # Other versions break lines elsewhere.
  if ! clang-format --version | grep -q 'version 14\.'; then
    echo 'left out: the sources are formatted by clang-format 14'
    return 0
  fi
  sources '*.[ch]' | xargs clang-format --dry-run -Werror
}

tidy() {
  sources '*.c' | grep -v '^bench/' | xargs -P "$(nproc)" -n 1 clang-tidy -p build-lint --quiet
}

# Unit tests are left to clang-tidy: Criterion's macros are more than cppcheck understands.
look_for_errors() {
  cppcheck --enable=warning,performance,portability --library=posix --inline-suppr \
    --suppressions-list=tests/lint/cppcheck.txt -I. -D_GNU_SOURCE --error-exitcode=1 --quiet \
    -j "$(nproc)" core wire config health pool router tests/lib tests/threads tests/fuzz bench
}

shell_scripts() {
  shellcheck dev .ci/run tests/lint/*.sh docker/*/*.sh docker/*/*/*.sh
}

python_sources() {
  find tests bench docker \( -name '*.py' -o -path tests/run \) -exec /usr/bin/python3 -c '
import ast, sys
for path in sys.argv[1:]:
    ast.parse(open(path, encoding="utf-8").read(), path)' {} +
}

check includes python3 tests/lint/layers.py
check format clang-format format
check clang clang compile_with_clang
check clang-tidy clang-tidy tidy
check cppcheck cppcheck look_for_errors
check shellcheck shellcheck shell_scripts
check python python3 python_sources

[ -z "$left_out" ] || echo "left out:$left_out"
[ -z "$failed" ] || { echo "lint: these failed:$failed"; exit 1; }
echo 'lint: all is well'
