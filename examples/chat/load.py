#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Thousands of users of the chat, each a thread, while half of the rooms are killed again and again.

    python3 -m fibril examples/chat/load.py http://127.0.0.1:8080/ [--users 5000] [--rooms 50] [--lines 20]

Every user must hear every line of its room once and in order, and nobody in the other half be told of a kill. Exit
status 1 if not. The program is plain threads and sockets; started without `-m fibril` it needs an OS thread a user.
"""

import argparse
import http.client
import json
import os
import random
import socket
import sys
import threading
import time
import urllib.parse

PATIENCE = 60


class Room:
    def __init__(self, number):
        self.name = f"load-{os.getpid()}-{number}"
        self.doomed = number % 2 == 0
        self.inside = threading.Semaphore(0)
        self.users = self.said = self.kills = 0


class User:
    """Listens to the events of a room until somebody says "end"."""

    def __init__(self, address, room):
        self.address, self.room = address, room
        self.heard, self.told, self.wrong = 0, 0, None

    def listen(self):
        with socket.create_connection(self.address, timeout=PATIENCE) as connection:
            connection.sendall(f"GET /rooms/{self.room.name} HTTP/1.1\r\nHost: chat\r\n\r\n".encode())
            self.events(connection.makefile("rb"))

    def events(self, stream):
        kind = None
        for line in stream:
            if line == b"\r\n" and kind is None:  # the head is over
                kind = b""
                self.room.inside.release()
            elif line.startswith(b"event: "):
                kind = line[7:].strip()
            elif line.startswith(b"data: ") and kind == b"room":
                self.told += 1
            elif line.startswith(b"data: ") and self.line(json.loads(line[6:])):
                return
        raise EOFError("the stream ended")

    def line(self, line):
        """Lines that a room repeats for those who come in are known already."""
        if line["n"] > self.heard + 1:
            self.wrong = f"line {line['n']} came after line {self.heard}"
        self.heard = max(self.heard, line["n"])
        return line["text"] == "end"

    def run(self):
        try:
            self.listen()
        except (OSError, EOFError) as error:
            self.wrong = f"{error!r} after line {self.heard}"


def ask(address, method, path, body=None):
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    connection.request(method, path, body)
    status = connection.getresponse().status
    connection.close()
    return status


def speak(address, room, lines):
    """Says the lines, again where the room was away, when all its users are inside."""
    for _ in range(room.users):
        room.inside.acquire()
    for number in range(lines + 1):
        text = "end" if number == lines else f"line {number}"
        while ask(address, "POST", f"/rooms/{room.name}?who=speaker", text) == 503:
            time.sleep(0.001)
        room.said += 1
        time.sleep(random.uniform(0, 0.1))


def kill(address, rooms, speakers):
    while any(speaker.is_alive() for speaker in speakers):
        room = random.choice(rooms)
        if ask(address, "DELETE", f"/rooms/{room.name}") == 202:
            room.kills += 1
        time.sleep(0.01)


def report(users, rooms, seconds):
    quiet = [user for user in users if not user.room.doomed]
    wrong = [f"{user.room.name}: {user.wrong}" for user in users if user.wrong]
    # What is said to a room in the moment of its end gets no number, and is said to nobody.
    wrong += [f"{user.room.name}: {user.heard} of {user.room.said} lines" for user in quiet
              if user.heard != user.room.said]
    wrong += [f"{user.room.name}: told of a kill" for user in quiet if user.told]
    print(f"{len(users)} users in {len(rooms)} rooms, {sum(room.said for room in rooms)} lines said, "
          f"{sum(user.heard for user in users)} heard, {sum(room.kills for room in rooms)} kills of "
          f"{sum(room.doomed for room in rooms)} rooms, {sum(user.told for user in users)} users told, "
          f"{len(wrong)} wrong, {seconds:.1f} s")
    print(*wrong[:10], sep="\n", end="\n" if wrong else "")
    return bool(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--lines", type=int, default=20)
    options = parser.parse_args()
    url = urllib.parse.urlsplit(options.url)
    address = (url.hostname, url.port or 80)
    rooms = [Room(number) for number in range(options.rooms)]
    users = [User(address, rooms[number % len(rooms)]) for number in range(options.users)]
    began = time.monotonic()
    for user in users:
        user.room.users += 1
    threads = [threading.Thread(target=user.run) for user in users]
    speakers = [threading.Thread(target=speak, args=(address, room, options.lines)) for room in rooms]
    for thread in threads + speakers:
        thread.start()
    kill(address, [room for room in rooms if room.doomed], speakers)
    for thread in threads:
        thread.join()
    return report(users, rooms, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
