# SPDX-License-Identifier: MIT
"""paramiko as SSH server and client over loopback; each connection has transport threads of its own."""
import socket
import threading

import paramiko

from common import count, crowd

key = paramiko.RSAKey.generate(1024)
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
transports = []


class Host(paramiko.ServerInterface):
    def check_auth_password(self, username, password):
        return paramiko.AUTH_SUCCESSFUL if password == "word-" + username else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        threading.Timer(0.1, self.answer, (channel, command)).start()  # the client hears "yes" first
        return True

    def answer(self, channel, command):
        channel.sendall(command.upper())
        channel.send_exit_status(7)
        channel.close()


def accept():
    while True:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        t = paramiko.Transport(conn)
        transports.append(t)
        t.add_server_key(key)
        t.start_server(event=threading.Event(), server=Host())


acceptor = threading.Thread(target=accept)
acceptor.start()


def ssh(i):
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", listener.getsockname()[1], "u%d" % i, "word-u%d" % i, allow_agent=False,
                   look_for_keys=False, timeout=60, banner_timeout=60, auth_timeout=60)
    _, out, _ = client.exec_command("run %d" % i)
    text, status = out.read(), out.channel.recv_exit_status()
    client.close()
    return text == b"RUN %d" % i and status == 7


c = crowd(count(), ssh)
listener.shutdown(socket.SHUT_RDWR)
listener.close()
acceptor.join()
for t in transports:
    t.close()
    t.join(10)
c.report(right=sum(map(bool, c.results)))
