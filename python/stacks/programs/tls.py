# SPDX-License-Identifier: MIT
"""A threaded TLS server and a crowd of clients: everybody in OpenSSL at once, some of them with errors.

OpenSSL keeps its error queue in the thread. One client in five distrusts the server's certificate and must see that
error, and nobody else may.
"""
import os
import socket
import ssl
import threading

from common import count, crowd

certificate = os.environ["STACK_CERTIFICATE"]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
failed = []


def serve(raw):
    try:
        with context.wrap_socket(raw, server_side=True) as s:
            while True:
                data = s.recv(100)
                if not data:
                    return
                s.sendall(data.upper() * 1000)
    except (ssl.SSLError, ConnectionError) as e:
        failed.append(e)
    finally:
        raw.close()


def accept():
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(raw,)).start()


acceptor = threading.Thread(target=accept)
acceptor.start()
trusting = ssl.create_default_context(cafile=certificate)
wary = ssl.create_default_context()


def talk(i):
    raw = socket.create_connection(listener.getsockname(), timeout=120)
    try:
        with (wary if i % 5 == 0 else trusting).wrap_socket(raw, server_hostname="localhost") as s:
            for k in range(3):
                s.sendall(b"word %d %d" % (i, k))
                want = (b"WORD %d %d" % (i, k)) * 1000
                got = b""
                while len(got) < len(want):
                    part = s.recv(65536)
                    if not part:
                        return False
                    got += part
                if got != want:
                    return False
            return i % 5 != 0
    except ssl.SSLCertVerificationError as e:
        return i % 5 == 0 and e.verify_code == 18
    finally:
        raw.close()


c = crowd(count(), talk)
listener.shutdown(socket.SHUT_RDWR)
listener.close()
acceptor.join()
for t in threading.enumerate():
    if t is not threading.current_thread():
        t.join(30)
c.report(right=sum(map(bool, c.results)), failed=len(failed))
