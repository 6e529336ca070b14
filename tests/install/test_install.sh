#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the build into a directory of its own and uses it as a stranger would: pkg-config for the
# flags, a program against the shared library, against the static one and in C++. Prints TAP.
# Usage: test_install.sh BUILD_DIR CONSUMER.c CC
set -u
build=$1 consumer=$2 cc=$3
stage=$(mktemp -d "${TMPDIR:-/tmp}/fibril-install.XXXXXX") || exit 1
trap 'rm -rf "$stage"' EXIT
number=0

# check NAME COMMAND...: one TAP line; what the command printed goes to stderr.
check()
{
    number=$((number + 1))
    name=$1
    shift
    if "$@" >"$stage/output" 2>&1; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        cat "$stage/output" >&2
    fi
}

installed()
{
    prefix_dir=$stage/root$prefix
    test -f "$prefix_dir/include/fibril/fibril.h" && test -f "$libdir/libfibril.a" &&
        test -e "$libdir/libfibril.so"
}

command_installed()
{
    "$stage/root$prefix/bin/fibril" --help
}

# The library's internal names must not be reachable from outside.
only_public_symbols()
{
    nm -D --defined-only "$libdir/libfibril.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' \
        >"$stage/symbols"
    cat "$stage/symbols"
    test -s "$stage/symbols" && ! grep -v '^fibril_[^_]' "$stage/symbols"
}

flags()
{
    PKG_CONFIG_PATH=$libdir/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage/root pkg-config "$@" fibril
}

# The words of pkg-config are meant to be split.
# shellcheck disable=SC2046
shared()
{
    $cc -Wall -Wextra -Werror "$consumer" $(flags --cflags) -o "$stage/shared" $(flags --libs) &&
        LD_LIBRARY_PATH=$libdir "$stage/shared"
}

# shellcheck disable=SC2046
static()
{
    $cc -Wall -Wextra -Werror "$consumer" $(flags --cflags) -o "$stage/static" \
        "$libdir/libfibril.a" $(flags --libs --static | sed 's/-lfibril//') &&
        "$stage/static"
}

# shellcheck disable=SC2046
cplusplus()
{
    command -v g++ >/dev/null || { echo "g++ is not here"; return 0; }
    g++ -Wall -Wextra -Werror -x c++ "$consumer" $(flags --cflags) -o "$stage/cplusplus" \
        $(flags --libs) && LD_LIBRARY_PATH=$libdir "$stage/cplusplus"
}

echo 1..7
check "installs into DESTDIR" env DESTDIR="$stage/root" meson install -C "$build"
libdir=$(find "$stage/root" -name libfibril.a -exec dirname {} \;)
prefix=$(sed -n "s/^prefix=//p" "$libdir/pkgconfig/fibril.pc")
check "headers and libraries are there" installed
check "only public symbols are exported" only_public_symbols
check "a program builds and runs with the shared library" shared
check "a program builds and runs with the static library" static
check "a C++ program builds and runs" cplusplus
if [ -x "$build/cli/fibril" ]; then
    check "the command is there and answers" command_installed
else
    echo "ok 7 - the command is there and answers # SKIP it is not part of this build"
fi
