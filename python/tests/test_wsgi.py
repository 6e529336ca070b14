# SPDX-License-Identifier: MIT
"""What an application sees of a request, and a client of its response (PEP 3333)."""

import ast
import hashlib
import os
import socket
import struct
import time

import pytest

from wsgi_server import Server, eventually, receive_all


@pytest.fixture(scope="module", name="bodies")
def _bodies():
    with Server("wsgi_apps:bodies") as server:
        yield server


@pytest.fixture(scope="module", name="reader")
def _reader():
    with Server("wsgi_apps:read_input") as server:
        yield server


def dump(server, request):
    return ast.literal_eval(server.raw(request).partition(b"\r\n\r\n")[2].decode())


# ---- the validator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("app, method, body, expected", [
    ("valid", "GET", None, b"hello\n"), ("valid", "HEAD", None, b""), ("valid_echo", "POST", b"echo", b"echo"),
    ("valid_lines", "POST", b"a\nbc\n\nd", b"2 a\n3 bc\n1 \n1 d")])
def test_the_validator_of_the_standard_library_is_content(app, method, body, expected):
    with Server(f"wsgi_apps:{app}") as server:
        status, headers, got = server.get("/a/b?c=d", method, body)
        assert (status, got) == (200, expected), server.errors()
        assert "Traceback" not in server.errors()
        assert ("a line of wsgi.errors" in server.errors()) == (app == "valid_lines")


# ---- the environ -----------------------------------------------------------------------------------------------------


def test_the_environ_says_what_was_sent():
    with Server("wsgi_apps:environ_dump") as server:
        environ = dump(server, b"POST /a%20b/%C3%A9//c?x=%20&y HTTP/1.1\r\nHost: example.org:81\r\nX-Twice: 1\r\n"
                       b"X-Twice: 2\r\nCookie: a=b\r\nCookie: c=d\r\nContent-Type: text/x\r\nContent-Length: 3\r\n"
                       b"X_Twice: 3\r\nProxy: evil\r\nConnection: close\r\n\r\nabc")
        wanted = {"REQUEST_METHOD": "POST", "PATH_INFO": "/a b/\xc3\xa9//c", "QUERY_STRING": "x=%20&y",
                  "REQUEST_URI": "/a%20b/%C3%A9//c?x=%20&y", "SCRIPT_NAME": "", "SERVER_PROTOCOL": "HTTP/1.1",
                  "SERVER_NAME": "127.0.0.1", "SERVER_PORT": str(server.port), "HTTP_HOST": "example.org:81",
                  "HTTP_X_TWICE": "1,2", "HTTP_COOKIE": "a=b; c=d", "CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "3",
                  "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "wsgi.version": (1, 0),
                  "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
                  "wsgi.input_terminated": True}
        assert {k: environ.get(k) for k in wanted} == wanted
        assert int(environ["REMOTE_PORT"]) > 0
        assert "HTTP_PROXY" not in environ and "HTTP_CONTENT_LENGTH" not in environ


def test_a_request_sees_nothing_of_the_one_before():
    with Server("wsgi_apps:environ_dump") as server:
        dump(server, b"GET /one?q HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-Forwarded-Proto: https\r\n\r\n")
        environ = dump(server, b"GET /two HTTP/1.0\r\n\r\n")
        assert environ["QUERY_STRING"] == "" and environ["wsgi.url_scheme"] == "http"
        assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        assert not {"HTTP_X_ONE", "HTTP_HOST", "HTTPS"} & environ.keys()


def test_names_that_clients_make_up_fill_no_memory():
    with Server("wsgi_apps:environ_dump") as server:
        for i in range(20):
            names = [b"X-%d-%d: v%d\r\n" % (i, k, k) for k in range(90)]
            environ = dump(server, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(names) + b"X-0-0: again\r\n\r\n")
            assert environ[f"HTTP_X_{i}_89"] == "v89"
            assert environ["HTTP_X_0_0"] == ("v0,again" if i == 0 else "again")


def test_a_mounted_application_has_a_script_name():
    with Server("wsgi_apps:environ_dump", "--script-name", "/shop") as server:
        for path, script, info in [("/shop/cart", "/shop", "/cart"), ("/shop", "/shop", ""),
                                   ("/shopping", "/shop", "/shopping")]:
            environ = dump(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, info)


@pytest.mark.parametrize("options, headers, address, scheme", [
    ((), {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}, "203.0.113.7", "https"),
    ((), {"X-Forwarded-For": "10.9.9.9, 203.0.113.7, 127.0.0.1"}, "203.0.113.7", "http"),
    ((), {"X-Forwarded-For": "10.9.9.9, nonsense"}, "127.0.0.1", "http"),
    ((), {"X-Forwarded-For": "[2001:db8::1]:443"}, "2001:db8::1", "http"),
    (("--trusted-proxies", ""), {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}, "127.0.0.1", "http"),
    (("--trusted-proxies", "10.0.0.0/8"), {"X-Forwarded-For": "203.0.113.7"}, "127.0.0.1", "http"),
    (("--trusted-proxies", "127.0.0.0/8,203.0.113.0/24"), {"X-Forwarded-For": "8.8.8.8, 203.0.113.9"}, "8.8.8.8",
     "http"),
    (("--trusted-proxies", "*"), {"X-Forwarded-For": "1.1.1.1, 8.8.8.8"}, "1.1.1.1", "http"),
])
def test_only_trusted_proxies_are_believed(options, headers, address, scheme):
    with Server("wsgi_apps:environ_dump", *options) as server:
        environ = ast.literal_eval(server.get(headers=headers)[2].decode())
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (address, scheme)
        assert environ["HTTP_X_FORWARDED_FOR"] == headers["X-Forwarded-For"]


# ---- the body of a request -------------------------------------------------------------------------------------------

TEXT = b"first line\nsecond\n\nlast without end"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("way, expected", [
    ("read", TEXT), ("none", TEXT), ("pieces", b"|".join(TEXT[i:i + 7] for i in range(0, len(TEXT), 7))),
    ("readline", b"first line\n|second\n|\n|last without end"),
    ("readline4", b"firs|t li|ne\n|seco|nd\n|\n|last| wit|hout| end"),
    ("readlines", b"first line\n|second\n|\n|last without end"), ("hint", b"first line\n"),
    ("iterate", b"first line\n|second\n|\n|last without end"), ("mixed", b"first line\n|sec|ond\n\nlast without end"),
    ("zero", b"zero"), ("unread", b"")])
def test_every_way_to_read_gives_the_same_bytes(reader, way, expected, chunked):
    if chunked:
        pieces = [TEXT[i:i + 5] for i in range(0, len(TEXT), 5)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        framing = b"Transfer-Encoding: chunked"
    else:
        body, framing = TEXT, b"Content-Length: %d" % len(TEXT)
    answer = reader.raw(b"POST /" + way.encode() + b" HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + body +
                        b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    first, second = answer.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.partition(b"\r\n\r\n")[2] == expected
    assert second.endswith(b"\r\n\r\nok")  # the next request begins where the body ended


def test_a_body_of_many_megabytes_streams(reader):
    body = os.urandom(1 << 20) * 30
    assert reader.get("/sum", "POST", body)[2].decode() == hashlib.sha256(body).hexdigest()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:1000], body[1000:])) + b"0\r\n\r\n"
    answer = reader.raw(b"POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.decode().endswith(hashlib.sha256(body).hexdigest())


def test_the_peer_that_asks_first_is_told_to_go_on(reader):
    with reader.connect() as s:
        s.sendall(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"abc")
        assert s.recv(1000).endswith(b"abc")


def test_a_body_that_breaks_off_is_no_error_of_the_application(reader):
    answer = reader.raw(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")
    assert b"200 OK" not in answer
    assert reader.get("/unread")[0] == 200
    assert "Traceback" not in reader.errors()


def test_a_body_beyond_the_limit_is_refused():
    with Server("wsgi_apps:read_input", "--limits", "body_bytes=1k") as server:
        assert server.get("/read", "POST", b"x" * 1024)[0] == 200
        assert server.get("/read", "POST", b"x" * 1025)[0] == 413
        assert "Traceback" not in server.errors()


def test_a_body_that_does_not_come_is_given_up():
    with Server("wsgi_apps:read_input", "--limits", "body_idle_s=0.3") as server:
        with server.connect() as s:
            s.sendall(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            assert receive_all(s).startswith(b"HTTP/1.1 408 ")


def test_another_thread_may_read_the_body():
    with Server("wsgi_apps:thread") as server:
        assert server.get("/", "POST", b"y" * 300000)[2] == b"y" * 300000


# ---- the body of a response ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, status, body, length", [
    ("/write", 200, b"one,two,three", None), ("/late", 201, b"late", None), ("/generator", 200, b"0\n1\n2\n3\n4\n", None),
    ("/list", 200, b"abc", "3"), ("/empty", 200, b"", "0"), ("/big", 200, b"0123456789" * 1000000, "10000000")])
def test_every_kind_of_body_arrives(bodies, path, status, body, length):
    got = bodies.get(path)
    assert got[0] == status and got[2] == body
    assert got[1]["Content-Length"] == length
    assert bodies.get(path, "HEAD")[2] == b""


def test_a_block_is_sent_before_the_next_is_asked_for():
    with Server("wsgi_apps:bodies") as server, server.connect() as s:
        s.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(s.recv(100)) > 0


@pytest.mark.parametrize("code", [204, 304])
def test_what_has_no_body_gets_none(bodies, code):
    answer = bodies.raw(f"GET /status/{code}/body HTTP/1.1\r\nHost: a\r\n\r\n".encode() +
                        b"GET /list HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % code) and rest.startswith(b"HTTP/1.1 200 ")
    assert b"Transfer-Encoding" not in head
    assert code == 304 or b"Content-Length" not in head


def test_old_clients_get_the_body_until_the_end(bodies):
    answer = bodies.raw(b"GET /generator HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n0\n1\n2\n3\n4\n") and b"chunked" not in answer


def test_more_than_announced_is_cut_off(bodies):
    for path in ("/long", "/long-generator"):
        assert bodies.get(path)[2] == b"abc"
    eventually(lambda: bodies.errors().count("more bytes than Content-Length") == 2, "the log says so")


def test_less_than_announced_breaks_the_connection_off(bodies):
    with pytest.raises(Exception):
        bodies.get("/short")
    eventually(lambda: "fewer bytes than Content-Length" in bodies.errors(), "the log says so")


def test_a_response_can_be_replaced_until_it_is_sent(bodies):
    status, headers, body = bodies.get("/replaced")
    assert (status, headers["X-First"], headers["X-Second"], body) == (503, None, "2", b"instead")


def test_files_are_sent_from_where_they_stand():
    data = bytes(range(256)) * 4096
    with Server("wsgi_apps:files") as server:
        assert server.get("/whole")[2] == data
        assert server.get("/whole")[1]["Content-Length"] == str(len(data))
        assert server.get("/middle")[2] == data[1000:]
        assert server.get("/part")[2] == data[:5000]
        assert server.get("/memory")[2] == data
        assert server.get("/whole", "HEAD")[1]["Content-Length"] == str(len(data))
        assert "Traceback" not in server.errors()


def test_headers_of_the_server_are_its_own(bodies):
    status, headers, body = bodies.get("/own")
    assert headers.get_all("Server") == ["fibril"] and "yesterday" not in headers["Date"]
    assert headers["Connection"] == "close"
    assert bodies.raw(b"GET /latin HTTP/1.1\r\nHost: a\r\n\r\n").count(b"X-Latin: caf\xe9\r\n") == 1


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, message", [
    ("/raise", "RuntimeError: before start_response"), ("/raise-started", "RuntimeError: after start_response"),
    ("/never", "did not call start_response"), ("/text", "must be bytes, not str"), ("/twice", "called again"),
    ("/exit", "SystemExit: an application must not end the server"),
    ("/headers?crlf", "no such header can be sent"), ("/headers?name", "no such header"), ("/headers?wide", "latin-1"),
    ("/headers?hop", "belongs to the connection"), ("/headers?zero", "zero byte"), ("/headers?int", "must be str"),
    ("/headers?length", "no such header"), ("/headers?list", "must be tuples"),
    ("/status/abc", "must be like '200 OK'"), ("/status/199", "from 200 to 599")])
def test_an_error_before_the_first_byte_is_a_500_and_a_traceback(bodies, path, message):
    before = len(bodies.errors())
    status, headers, body = bodies.get(path)
    assert (status, body) == (500, b"500 Internal Server Error\n")
    said = eventually(lambda: message in bodies.errors()[before:] and bodies.errors()[before:], message)
    assert f"fibril: error in GET {path} HTTP/1.1 from 127.0.0.1" in said
    assert ("Traceback" in said) == (path not in ("/never", "/text"))  # no line of the application's raised these
    assert "before start_response" not in body.decode()


@pytest.mark.parametrize("path", ["/raise-sent", "/raise-known", "/too-late"])
def test_an_error_after_the_first_byte_breaks_the_connection_off(path, tmp_path):
    log = tmp_path / "closed"
    with Server("wsgi_apps:bodies", env={"CLOSE_LOG": str(log)}) as server:
        with pytest.raises(Exception):
            server.get(path)
        eventually(lambda: "Traceback" in server.errors(), "a traceback")
        assert server.get("/list")[2] == b"abc"
        if path != "/too-late":
            assert eventually(lambda: log.exists() and log.read_text(), "close()") == "closed\n"


def test_close_is_called_once_at_the_end_and_when_the_peer_goes_away(tmp_path):
    log = tmp_path / "closed"
    with Server("wsgi_apps:bodies", env={"CLOSE_LOG": str(log)}) as server:
        server.get("/generator")
        eventually(lambda: log.exists() and log.read_text() == "closed\n", "close() after the last block")
        with server.connect() as s:
            s.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            s.recv(1000)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        eventually(lambda: log.read_text() == "closed\nclosed\n", "close() after a disconnect")
        assert "Traceback" not in server.errors()


def test_a_slow_reader_delays_nobody_else(bodies):
    with bodies.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        s.recv(100)
        for _ in range(50):
            assert bodies.get("/list")[2] == b"abc"
        assert receive_all(s).endswith(b"0123456789")


def test_a_reader_that_takes_little_is_waited_for():
    with Server("wsgi_apps:bodies", "--limits", "write_idle_s=0.6") as server, server.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel's timers make this very slow
        s.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        begin = time.monotonic()
        while time.monotonic() < begin + 2:
            assert s.recv(65536)


def test_a_reader_that_takes_nothing_is_given_up(tmp_path):
    log = tmp_path / "closed"
    with Server("wsgi_apps:bodies", "--limits", "write_idle_s=0.3", env={"CLOSE_LOG": str(log)}) as server:
        with server.connect() as s:
            s.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(log.exists, "the response is closed")


def test_pipelined_requests_are_answered_in_order(bodies):
    paths = [b"/list", b"/generator", b"/raise", b"/empty", b"/list"] * 20
    requests = [b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % p for p in paths]
    answer = bodies.raw(b"".join(requests) + b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 81 and answer.count(b"HTTP/1.1 500 ") == 20


def test_requests_that_sleep_sleep_together(bodies):
    connections = [bodies.connect() for _ in range(300)]
    begin = time.monotonic()
    for s in connections:
        s.sendall(b"GET /slow?1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    for s in connections:
        assert receive_all(s).endswith(b"slow\n")
        s.close()
    assert time.monotonic() - begin < 100  # one after the other: 300
