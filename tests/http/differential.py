# SPDX-License-Identifier: MIT
"""Compares the HTTP/1 parser with others on the same bytes: llhttp (in Node.js), h11 and nginx.

    differential.py PARSE_CLI ORACLE [SEED]        ORACLE: llhttp, h11 or nginx

Two rules. What the other refuses, we refuse (or still wait for more): our strictness is a superset. What both accept
has equal slices: method, target, fields, body. Inputs are the strictness table, its chunked bodies behind a fixed
head, and seeded mutations of both, so a run can be repeated. Exit 0 agreed, 1 a disagreement, 77 the other is not
installed.

Known exceptions are listed in exempt(), each with its reason; nothing else is let through.
"""

import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNKED_HEAD = b"POST /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = [
    b"\r", b"\n", b"\r\n", b"\0", b"\t", b" ", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\x85", b"\xa0", b":", b",", b";",
    b"=", b'"', b"0", b"00", b"1", b"5", b"f", b"x", b"+", b"-", b"_", b"/", b"//", b"*", b"#", b"?", b"@", b"%", b"[",
    b"chunked", b"gzip", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding", b"Host: b\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: x\r\n",
    b"X: y\r\n", b" HTTP/1.1", b" HTTP/1.0", b"HTTP/1.2", b"CONNECT ", b"OPTIONS ", b"HEAD ", b"0\r\n\r\n",
    b"5\r\nhello\r\n", b";a=b", b"\r\n\r\n", b"http://b.example", b"Expect: 100-continue\r\n",
]  # fmt: skip


def table(cli, option, head=b""):
    """The rows of a table as (accepted, request)."""
    out = subprocess.run([cli, option], check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return [(row["status"] == 0, head + bytes.fromhex(row["raw"])) for row in rows]


def mutate(rng, data):
    """One to three small changes: a byte, a piece put in, a run cut out or doubled."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind in (1, 2):
            data[at:at] = rng.choice(PIECES)
        elif kind == 3:
            del data[at : at + rng.randrange(1, 9)]
        else:
            run = data[at : at + rng.randrange(1, 30)]
            data[at:at] = run
    return bytes(data)


def inputs(cli, seed, count):
    rng = random.Random(seed)
    rows = table(cli, "--cases") + table(cli, "--chunk-cases", CHUNKED_HEAD)
    every = [request for _, request in rows]
    good = [request for accepted, request in rows if accepted]
    # Mostly of good requests: what was bad before rarely becomes good, and says little.
    return every + [mutate(rng, rng.choice(good if rng.random() < 0.8 else every)) for _ in range(count)]


def ours(cli, requests):
    frames = b"".join(struct.pack("<I", len(r)) + r for r in requests)
    out = subprocess.run([cli], input=frames, check=True, capture_output=True).stdout
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == len(requests)
    return answers


def refused(answer):
    return answer["status"] > 0 or answer.get("body_status", 0) > 0


def complete(answer):
    return answer["status"] == 0 and answer["body_status"] == 0


# Each oracle returns, for each request, None (it refused), "more" (incomplete), or a dict with any of the keys method,
# target, fields (name and value as latin-1 text), body.


def ask_llhttp(requests):
    node = shutil.which("node")
    if node is None:
        sys.exit(77)
    lines = "".join(r.hex() + "\n" for r in requests)
    out = subprocess.run(
        [node, os.path.join(HERE, "llhttp_oracle.js")], input=lines, check=True, capture_output=True, text=True
    ).stdout
    answers = []
    for line in out.rstrip("\n").split("\n"):
        got = json.loads(line)
        if got["error"]:
            answers.append({"refused": got["error"], "head": got["head"]})
        elif not got["done"]:
            answers.append("more")
        else:
            pairs = got["fields"]
            fields = [[pairs[i], pairs[i + 1]] for i in range(0, len(pairs), 2)]
            answer = {"method": got["method"], "target": got["target"], "fields": fields, "body": got["body"]}
            # After an upgrade llhttp leaves the body to its caller, and for CONNECT always.
            if got["upgrade"]:
                del answer["body"]
            answers.append(answer)
    return answers


def ask_h11(requests):
    try:
        import h11
    except ImportError:
        sys.exit(77)
    return [h11_answer(h11, r) for r in requests]


def h11_answer(h11, request):
    conn = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    conn.receive_data(request)
    answer = {"body": ""}
    try:
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                return "more"
            if isinstance(event, h11.Request):
                answer["method"] = event.method.decode("latin-1")
                answer["target"] = event.target.decode("latin-1")
                answer["fields"] = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in event.headers]
            elif isinstance(event, h11.Data):
                answer["body"] += bytes(event.data).decode("latin-1")
            elif isinstance(event, h11.EndOfMessage):
                return answer
            else:
                return {"refused": repr(event), "head": "method" in answer}
    except h11.RemoteProtocolError as error:
        return {"refused": str(error), "head": "method" in answer}


NGINX_CONF = """
daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log crit;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
    uwsgi_temp_path {dir}; scgi_temp_path {dir};
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "$request_method\\n$request_uri\\n$http_x\\n"; }}
    }}
}}
"""


def nginx_start(folder):
    """Starts nginx on a port the kernel has just called free; another may take it first, so try again."""
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        conf = os.path.join(folder, "nginx.conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write(NGINX_CONF.format(dir=folder, port=port))
        server = subprocess.Popen(
            ["/usr/sbin/nginx", "-c", conf, "-p", folder, "-e", "stderr"], stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return server, port
            except OSError:
                if server.poll() is not None:
                    break
                time.sleep(0.02)
        server.kill()
        server.wait()
    raise RuntimeError("nginx does not start")


def nginx_answer(port, request):
    with socket.create_connection(("127.0.0.1", port), 10) as conn:
        try:
            conn.sendall(request)
            conn.shutdown(socket.SHUT_WR)
            got = b""
            while piece := conn.recv(65536):
                got += piece
        except ConnectionError:
            pass
    if not got:
        return "more"
    if got.startswith(b"HTTP/1.1 100 "):
        got = got.split(b"\r\n\r\n", 1)[1]
    if not got.startswith(b"HTTP/1.1 200 "):
        return {"refused": got.split(b"\r\n")[0].decode("latin-1"), "head": True}
    # Answers to pipelined requests may follow; the first is the one that counts.
    body = got.split(b"\r\n\r\n", 1)[1].split(b"\n")
    return {"method": body[0].decode("latin-1"), "target": body[1].decode("latin-1")}


def ask_nginx(requests):
    if not os.path.exists("/usr/sbin/nginx"):
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        server, port = nginx_start(folder)
        try:
            return [nginx_answer(port, r) for r in requests]
        finally:
            server.terminate()
            server.wait(10)


NGINX_HOST = r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?(:[0-9]*)?"


def hosts(answer):
    return [answer["authority"]] + [value for name, value in answer["fields"] if name.lower() == "host"]


def exempt(oracle, request, mine, theirs):
    """Why a refusal of theirs need not be ours, or None."""
    why = theirs["refused"]
    if oracle == "llhttp" and why == "HPE_INVALID_METHOD":
        return "llhttp knows a list of methods; an unknown one is the application's 501"
    if oracle == "llhttp" and theirs["head"] and mine["chunked"]:
        if why in ("HPE_INVALID_TRANSFER_ENCODING", "HPE_INVALID_CONTENT_LENGTH"):
            return "framing fields in trailers: llhttp refuses them, we drop them"
    if oracle == "h11" and why == "no request line received":
        return "h11 does not know the one empty line allowed before a request"
    if oracle == "nginx" and (" 405 " in why or not re.fullmatch("[A-Z_-]+", mine["method"])):
        return "nginx judges the method, and takes no other characters in it"
    if oracle == "nginx" and (mine["method"] == "CONNECT" or mine["target"] == "*"):
        return "nginx knows neither CONNECT nor *"
    if oracle == "nginx" and ("%" in mine["path"] or ".." in mine["path"]):
        return "nginx decodes the path while it parses; fibril__http_path_normalise() does so later"
    if oracle == "nginx" and not all(re.fullmatch(NGINX_HOST, host) for host in hosts(mine)):
        return "nginx takes fewer characters in a host than RFC 3986"
    if oracle == "nginx" and b"\t" in request:
        return "nginx takes no tab for optional whitespace"
    if oracle == "nginx" and " 413 " in why:
        return "nginx's limit of the body"
    return None


def same(mine, theirs, oracle):
    if mine["method"] != theirs["method"]:
        return False
    if oracle == "nginx":
        # $request_uri of an absolute form is the path alone, for h11 and llhttp the whole target.
        path = mine["path"] + ("?" + mine["query"] if "?" in mine["target"] else "")
        # ... and of one without a path its query.
        return theirs["target"] in (mine["target"], path, path[1:])
    fields = mine["fields"]
    if oracle == "h11":
        # h11 lower-cases names, and the value of Transfer-Encoding.
        fields = [[n.lower(), v.lower() if n.lower() == "transfer-encoding" else v] for n, v in fields]
    if mine["target"] != theirs["target"] or fields != theirs["fields"]:
        return False
    return "body" not in theirs or (complete(mine) and mine["body"] == theirs["body"])


def judge(oracle, request, mine, theirs):
    """None when the two agree, else what is wrong."""
    if theirs == "more":
        return None
    if "refused" in theirs:
        accepted = complete(mine) if theirs["head"] else mine["status"] == 0
        if accepted and exempt(oracle, request, mine, theirs) is None:
            return "accepted what is refused with " + theirs["refused"]
        return None
    if refused(mine):
        return None
    if mine["status"] != 0:
        return "still waiting for what is complete to the other"
    return None if same(mine, theirs, oracle) else "different slices"


def main():
    cli, oracle = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    ask, count = {"llhttp": (ask_llhttp, 30000), "h11": (ask_h11, 8000), "nginx": (ask_nginx, 1500)}[oracle]
    if os.environ.get("FIBRIL_TEST_LONG") == "1":
        count *= 10
    requests = inputs(cli, seed, count)
    theirs = ask(requests)
    mine = ours(cli, requests)
    assert len(theirs) == len(requests)
    wrong = both = 0
    for request, ours_one, theirs_one in zip(requests, mine, theirs):
        problem = judge(oracle, request, ours_one, theirs_one)
        both += theirs_one != "more" and "refused" not in theirs_one and complete(ours_one)
        if problem is not None:
            wrong += 1
            if wrong <= 10:
                print(f"{problem}\n  request {request!r}\n  ours    {ours_one}\n  theirs  {theirs_one}")
    print(f"{oracle}, seed {seed}: {len(requests)} requests, {both} accepted by both, {wrong} disagreements")
    assert both > len(requests) // 50, "too few requests were accepted to say anything"
    sys.exit(1 if wrong else 0)


main()
