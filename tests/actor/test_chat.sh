#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs examples/chat on a port of the kernel's choice: a hundred users in ten rooms, half of them
# killed.
# Usage: test_chat.sh PROGRAM LOAD PYTHON
set -u
out=$(mktemp)
"$1" 127.0.0.1:0 >"$out" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; rm -f "$out"' EXIT
url=
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    url=$(sed -n 's/^listening on //p' "$out")
    [ -n "$url" ] && break
    sleep 0.1
done
[ -n "$url" ] || { echo "it does not say where it listens"; exit 1; }
"$3" "$2" "$url" --users 100 --rooms 10 --lines 10 || exit 1
kill -TERM "$server"
wait "$server" || { echo "it did not end well"; cat "$out"; exit 1; }
[ "$(wc -l <"$out")" -eq 1 ] || { cat "$out"; exit 1; }
"$1" --kill never 2>/dev/null && { echo "--kill never is accepted"; exit 1; }
exit 0
