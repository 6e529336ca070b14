#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs examples/hello_http on a port of the kernel's choice and asks it for what it promises.
# Usage: test_example.sh PROGRAM
set -u
command -v curl >/dev/null || exit 77
out=$(mktemp)
"$1" 127.0.0.1:0 >"$out" &
server=$!
trap 'kill "$server" 2>/dev/null; rm -f "$out"' EXIT
url=
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    url=$(sed -n 's/^listening on \(.*\)\/hello\/you$/\1/p' "$out")
    [ -n "$url" ] && break
    sleep 0.1
done
[ -n "$url" ] || { echo "it does not say where it listens"; exit 1; }
[ "$(curl -sS --max-time 10 "$url/hello/you")" = "hello, you" ] || { echo "no greeting"; exit 1; }
echoed=$(curl -sS --max-time 10 -d 'some text' "$url/echo")
[ "$echoed" = "some text" ] || { echo "no echo"; exit 1; }
first=$(curl -sS --max-time 10 -N "$url/clock" 2>/dev/null | head -n 2)
[ "$first" = "event: second
data: 0" ] || { echo "no clock: $first"; exit 1; }
