# SPDX-License-Identifier: MIT
"""Actors of other processes: two real processes, pickles, lost processes, processes that say nonsense."""

import contextlib
import errno
import functools
import logging
import os
import pickle
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile

import fibril
import helpers
from fibril import actors, nodes

ISOLATED = True

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node_worker.py")


class Odd(Exception):
    """Cannot be read again: its class takes more than the text."""

    def __init__(self, number, text):
        super().__init__(text)
        self.number = number


class Collector(fibril.Actor):
    """Keeps what it is sent."""

    def __init__(self):
        self.kept = []

    def on_keep(self, what):
        self.kept.append(what)
        return len(self.kept)

    def on_kept(self):
        return self.kept

    def on_message(self, what):
        self.kept.append(what)

    def on_ask(self, handle, *args):
        return handle.call(*args)

    def on_take(self, file, error):
        raise actors.Refuse(Odd(1, "odd"))


@functools.cache
def log_file():
    return tempfile.NamedTemporaryFile(prefix="node_worker")


def start(**options):
    options.setdefault("timeout", helpers.TIME_LIMIT)
    return nodes.start_worker([sys.executable, WORKER], env=os.environ | {"NODE_WORKER_LOG": log_file().name}, **options)


def reported():
    with open(log_file().name, encoding="utf-8") as log:
        return log.read()


@contextlib.contextmanager
def running(*arguments):
    """This Python with the arguments, killed at the end."""
    process = subprocess.Popen([sys.executable, *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def path_of_socket():
    return os.path.join(tempfile.mkdtemp(), "socket")


def wait_until(true):
    for _ in range(int(100 * helpers.TIME_LIMIT)):
        if true():
            return
        fibril.sleep(0.01)
    raise AssertionError("it did not come true")


# ---- talking -------------------------------------------------------------------------------------------

def test_calls_casts_messages_and_streams_reach_actors_of_a_worker():
    keeper = start().whereis("keeper")
    assert keeper.call("echo", 1, [2], three={3}) == ((1, [2]), {"three": {3}})
    assert list(keeper.stream("count_to", 1000)) == list(range(1000))
    keeper.send("sent")
    keeper.cast("keep", "cast")
    assert keeper.call("kept") == ["sent", "cast"]
    assert keeper.alive and nodes.node_of(keeper).info()["name"] == "a worker"


def test_a_process_listens_and_others_connect():
    path = path_of_socket()
    with running(WORKER, path) as process:
        node = nodes.connect(path, name="me", wait=True, timeout=helpers.TIME_LIMIT)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert node.whereis("keeper").call("pid") == process.pid
        assert node.info()["pid"] == process.pid and node.info()["name"] == "a server"
        assert node.whereis("nobody") is None
        node.leave()
        node.join(helpers.TIME_LIMIT)
        assert node.info() is None and not node.alive


def test_ten_megabytes_go_there_and_back():
    keeper = start().whereis("keeper")
    data = os.urandom(10 << 20)
    assert keeper.call("size", data) == len(data)
    (back,), _ = keeper.call("echo", data)
    assert back == data


def test_an_os_thread_without_a_loop_can_call_too():
    keeper = start().whereis("keeper")
    assert fibril.os_thread(keeper.call, "echo", 5).join() == ((5,), {})


def test_replies_that_come_later_or_from_another_actor_arrive():
    keeper = start().whereis("keeper")
    answers = []
    asking = fibril.spawn(lambda: answers.append(keeper.call("later")))
    wait_until(lambda: keeper.call("reply_now", "late"))
    asking.join(helpers.TIME_LIMIT)
    assert answers == ["late"]
    me = Collector.start()
    other = keeper.call("start")
    assert keeper.call("hand_over", other) == "answered by another"
    assert me.alive


# ---- handles in messages -------------------------------------------------------------------------------

def test_handles_in_messages_work_on_the_other_side_and_come_home_as_they_were():
    keeper = start().whereis("keeper")
    mine = Collector.start()
    (echoed, (again,)), _ = keeper.call("echo", mine, (mine,))
    assert echoed == again == mine
    keeper.call("tell", mine, {"from": mine})
    assert mine.call("kept") == [{"from": mine}]
    assert keeper.call("ask", mine, "keep", keeper) == 2
    assert mine.call("kept")[1] == keeper


def test_a_handle_works_from_a_third_process():
    first, second = start().whereis("keeper"), start().whereis("keeper")
    assert first.call("ask", second, "echo", 1) == ((1,), {})
    assert first.call("ask", second, "pid") == second.call("pid") != first.call("pid")
    made = first.call("start", monitor=False)
    assert second.call("ask", made, "echo", b"x" * 100_000) == ((b"x" * 100_000,), {})


def test_more_actors_than_a_message_may_mention_are_refused():
    keeper = start().whereis("keeper")
    many = [actors.ActorHandle(number) for number in range(1, 2000)]
    with helpers.raises(nodes.MessageError) as caught:
        keeper.call("size", many)
    assert "1,999 actors" in str(caught.value)


def test_a_handle_is_not_pickled_outside_of_messages():
    with helpers.raises(TypeError):
        pickle.dumps(actors.me())


# ---- what cannot be sent or read -----------------------------------------------------------------------

def test_what_cannot_be_pickled_raises_in_the_sender_and_is_named():
    keeper = start().whereis("keeper")
    unsendable = (i for i in ())
    for send in (lambda: keeper.call("echo", 1, unsendable), lambda: keeper.cast("echo", 1, unsendable),
                 lambda: keeper.stream("echo", 1, unsendable)):
        with helpers.raises(nodes.MessageError) as caught:
            send()
        assert "argument 2 of on_echo, <generator" in str(caught.value)
        assert isinstance(caught.value.__cause__, TypeError)
    with helpers.raises(nodes.MessageError) as caught:
        keeper.call("echo", what=unsendable)
    assert "argument what of on_echo" in str(caught.value)
    with helpers.raises(nodes.MessageError):
        keeper.send(unsendable)
    with helpers.raises(nodes.MessageError):
        actors.send_after(0, keeper, unsendable)
    assert keeper.call("echo") == ((), {})


def test_more_than_a_message_can_hold_raises_in_the_sender():
    keeper = start().whereis("keeper")
    with helpers.raises(nodes.MessageError) as caught:
        keeper.call("size", bytes(65 << 20))
    assert "at most 64 MiB" in str(caught.value)
    assert keeper.call("size", bytes(63 << 20)) == 63 << 20


def test_a_reply_that_cannot_be_sent_is_told_to_the_caller_and_the_actor_lives():
    keeper = start().whereis("keeper")
    with helpers.raises(nodes.MessageError) as caught:
        keeper.call("unsendable")
    assert "the reply <function" in str(caught.value)
    values = []
    with helpers.raises(nodes.MessageError):
        values.extend(keeper.stream("odd_stream"))
    assert keeper.call("echo") == ((), {})


class Private:
    """Known to the worker as nothing: this module is not imported there."""

    __module__ = "not_to_be_found"


def test_a_class_that_the_other_side_does_not_know_fails_the_call_is_reported_and_loses_nothing_else():
    sys.modules["not_to_be_found"] = sys.modules[__name__]
    node = start()
    keeper, receiver = node.whereis("keeper"), node.whereis("receiver")
    for i in range(3):
        keeper.send(i)
    with helpers.raises(nodes.MessageError) as caught:
        keeper.call("keep", Private())
    assert "cannot be read" in str(caught.value) and "not_to_be_found" in str(caught.value)
    assert "not_to_be_found" in str(caught.value.__cause__)
    keeper.send(Private())
    keeper.send(3)
    with helpers.raises(nodes.MessageError):
        receiver.call("echo", Private())
    receiver.send(Private())
    assert receiver.call("echo", 4) == 4
    assert keeper.call("kept") == [0, 1, 2, 3]
    assert reported().count("cannot be read in this one: ModuleNotFoundError") == 4


def test_a_choosing_receive_passes_over_what_cannot_be_read():
    sys.modules["not_to_be_found"] = sys.modules[__name__]
    receiver = start().whereis("receiver")
    asking = fibril.spawn(receiver.call, "next_number", actors.me())
    assert fibril.receive(timeout=helpers.TIME_LIMIT) == "waiting"
    receiver.send("no number")
    receiver.send(Private())
    receiver.send(5)
    assert asking.join(helpers.TIME_LIMIT) == 5
    assert "cannot be read in this one" in reported()


def test_a_reply_of_a_class_unknown_here_fails_the_call():
    keeper = start().whereis("keeper")
    with helpers.raises(nodes.MessageError) as caught:
        keeper.call("here")
    assert isinstance(caught.value.__cause__, AttributeError)
    assert keeper.alive


def test_what_a_handler_raised_comes_over_with_where_it_was_raised():
    keeper = start().whereis("keeper")
    with helpers.raises(fibril.ActorFailed) as caught:
        keeper.call("fail")
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError) and str(cause) == "asked to"
    assert "in on_fail" in str(cause.__cause__)
    assert not keeper.alive and "asked to" in reported()


def test_an_exception_that_cannot_be_made_here_is_replaced_by_its_text():
    keeper = start().whereis("keeper")
    with helpers.raises(nodes.RemoteError) as caught:
        keeper.call("refuse_oddly")
    assert str(caught.value) == "__main__.Odd: odd"
    mine = Collector.start()
    with helpers.raises(fibril.ActorFailed) as failed:
        keeper.call("ask", mine, "take", 1, 2)
    assert isinstance(failed.value.__cause__, nodes.RemoteError)


# ---- ends ----------------------------------------------------------------------------------------------

def test_a_killed_process_is_noticed_by_calls_monitors_links_and_streams():
    node = start()
    keeper = node.whereis("keeper")
    ref, at_node = keeper.monitor(), node.monitor()
    actors.trap_exits()
    keeper.link()
    numbers = keeper.stream("count_to", 10 ** 9)
    assert next(numbers) == 0
    other = node.whereis("receiver")
    os.kill(node.info()["pid"], signal.SIGKILL)
    with helpers.raises(fibril.ActorEnded):
        other.call("next_number", Collector.start(), timeout=helpers.TIME_LIMIT)
    with helpers.raises(fibril.ActorEnded):
        while True:
            next(numbers)
    news = [fibril.receive((actors.Down, actors.Exit), timeout=helpers.TIME_LIMIT) for _ in range(3)]
    assert actors.Down(keeper, ref, "noconnection") in news
    assert actors.Exit(keeper, "noconnection") in news
    assert actors.Down(node, at_node, "noconnection") in news
    assert not keeper.alive and not node.alive and nodes.node_of(keeper) is None
    keeper.send("nobody hears this")


def test_the_worker_notices_too_and_its_links_fire():
    keeper = start().whereis("keeper")

    def leave_it_linked():
        keeper.call("link", actors.me())
        raise ValueError("and so the other one")

    ref = keeper.monitor()
    actors.spawn(leave_it_linked)
    down = fibril.receive(actors.Down, timeout=helpers.TIME_LIMIT)
    assert (down.actor, down.ref) == (keeper, ref)
    assert isinstance(down.reason, actors.Crashed)


def test_exits_are_told_over_and_reasons_come_back():
    node = start()
    for reason, seen in (("shutdown", "shutdown"), (7, 7), ("kill", "killed")):
        other = node.whereis("keeper").call("start")
        ref = other.monitor()
        other.exit(reason)
        assert fibril.receive(actors.Down, timeout=helpers.TIME_LIMIT) == actors.Down(other, ref, seen)
    other = node.whereis("keeper").call("start")
    assert other.stop(timeout=helpers.TIME_LIMIT) and not other.alive
    assert actors.demonitor(node.whereis("keeper").monitor())


def test_a_crash_over_there_is_no_crash_of_this_process():
    keeper = start().whereis("keeper")
    ref = keeper.monitor()
    keeper.cast("fail")
    down = fibril.receive(actors.Down, timeout=helpers.TIME_LIMIT)
    assert (down.actor, down.ref, down.reason.type) == (keeper, ref, None)


def test_a_worker_that_is_started_again_is_reached_by_its_name():
    first = start(register="worker")
    with helpers.raises(ValueError):
        start(register="worker")
    old = first.whereis("keeper")
    with helpers.raises(fibril.ActorEnded):
        old.call("die")
    first.join(helpers.TIME_LIMIT)
    start(register="worker")
    found = nodes.named("worker").whereis("keeper")
    assert found.call("echo", 1) == ((1,), {}) and not old.alive and found != old


def test_a_server_that_is_started_again_at_the_path_is_reached_again():
    path = path_of_socket()
    for _ in range(2):  # the first one is killed, and leaves its socket there
        with running(WORKER, path):
            node = nodes.connect(path, wait=True, timeout=helpers.TIME_LIMIT)
            assert node.whereis("keeper").call("echo", 1) == ((1,), {})
        node.join(helpers.TIME_LIMIT)
    with helpers.raises(ConnectionError):
        nodes.connect(path)


def test_leaving_ends_the_worker_process():
    node = start()
    pid = node.info()["pid"]
    handle = os.pidfd_open(pid)
    node.leave()
    assert fibril.select((handle, 1), timeout=helpers.TIME_LIMIT)


def test_a_worker_that_cannot_start_says_why():
    with helpers.raises(FileNotFoundError):
        nodes.start_worker(["/nowhere/to/be/found"])
    with helpers.raises(ConnectionResetError):
        nodes.start_worker([sys.executable, "-c", "pass"], timeout=helpers.TIME_LIMIT)
    with helpers.raises(TimeoutError):
        nodes.start_worker([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.3)
    with helpers.raises(ValueError):
        nodes.start_worker([])
    with helpers.raises(RuntimeError):
        nodes.join_starter()


def test_run_worker_is_a_child_of_supervisors():
    tree = fibril.actors.Supervisor([fibril.Child(nodes.run_worker, [sys.executable, WORKER], register="worker",
                                                  timeout=helpers.TIME_LIMIT)], intensity=3)
    top = tree.start()
    seen = set()
    for _ in range(2):
        wait_until(lambda: nodes.named("worker") is not None and nodes.named("worker").info()["pid"] not in seen)
        pid = nodes.named("worker").info()["pid"]
        seen.add(pid)
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: nodes.named("worker") is not None and nodes.named("worker").info()["pid"] not in seen)
    last = os.pidfd_open(nodes.named("worker").info()["pid"])
    top.stop(timeout=helpers.TIME_LIMIT)
    assert nodes.named("worker") is None
    assert fibril.select((last, 1), timeout=helpers.TIME_LIMIT)


def test_a_program_that_ends_has_sent_what_it_sent():
    path = path_of_socket()
    collector = Collector.start(name="collector")
    code = f"""
import fibril
fibril.enable()
from fibril import nodes
node = nodes.connect({path!r})
collector = node.whereis("collector")
for i in range(1000):
    collector.send(i)
"""
    nodes_seen = []
    with nodes.listen(path, on_join=lambda node: nodes_seen.append((node, node.monitor()))):
        done = helpers.python("-c", code)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: not nodes_seen[0][0].alive)
    assert collector.call("kept") == list(range(1000))


# ---- flow ----------------------------------------------------------------------------------------------

def rss_of_this():
    with open("/proc/self/statm", encoding="ascii") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_slow_receiver_holds_up_its_sender_and_the_memory_is_bounded():
    node = start()
    keeper = node.whereis("keeper")
    slow = keeper.call("start", mailbox=16)
    rss, own = keeper.call("rss"), rss_of_this()
    slow.cast("sleep", 1.0)
    with helpers.raises(TimeoutError):
        for _ in range(3000):
            slow.send(bytes(100_000), timeout=0.2)
    assert keeper.call("rss") - rss < 64 << 20 and rss_of_this() - own < 192 << 20
    assert keeper.call("echo", 1) == ((1,), {})  # others are not held up


def test_thousands_of_messages_arrive_in_order():
    keeper = start().whereis("keeper")
    for i in range(5000):
        keeper.send(i)
    assert keeper.call("kept") == list(range(5000))


def test_a_full_mailbox_that_fails_or_drops_does_so_for_others_too():
    keeper = start().whereis("keeper")
    failing = keeper.call("start", mailbox=4, policy="fail")
    failing.cast("sleep", 2.0)
    with helpers.raises(fibril.actors.MailboxFull):
        for i in range(2000):
            failing.send(i)


def test_a_topic_reaches_members_of_both_processes():
    keeper = start().whereis("keeper")
    mine = Collector.start()
    keeper.call("join_topic", "news")
    actors.join_topic("news", mine)
    actors.join_topic("news", keeper)
    what = object()
    with helpers.raises(nodes.MessageError):
        actors.publish("news", [i for i in (lambda: what,)])
    assert actors.publish("news", ["hear"]) == 2
    assert mine.call("kept") == [["hear"]] and keeper.call("kept") == [["hear"]]
    sent = ["the same object"]
    actors.leave_topic("news", keeper)
    actors.publish("news", sent)
    assert mine.call("kept")[1] is sent


def test_timers_send_to_other_processes():
    keeper = start().whereis("keeper")
    actors.send_after(0.01, keeper, "once")
    timer = actors.send_every(0.01, keeper, "again")
    while keeper.call("kept").count("again") < 3:
        fibril.sleep(0.01)
    timer.cancel()
    assert keeper.call("kept").count("once") == 1


# ---- processes that say nonsense -----------------------------------------------------------------------

MINE, YOURS = 0, 1
MESSAGE, REPLY, WHEREIS, FOUND = 13, 14, 11, 12
PLAIN, CAST, CALL, OPEN, ANSWER, REFUSAL = range(6)
PYTHON = 1 << 63 | 0x70790000
METHOD, STREAM, OBJECT, BOX, VALUE, ERROR, REFUSED, IDLE, REPLACE = (PYTHON | n for n in range(1, 10))
DOWN, EXIT, LETTER = (1 << 63 | n for n in range(1, 4))


class RawPeer:
    """A process that speaks the protocol by hand."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.write(1, struct.pack("<QQIQ", 0x65646f6e62696621, 1, 65536, 1 << 20) + self.ref(1) +
                   struct.pack("<iB", 1, 0))
        self.read()

    @staticmethod
    def ref(number, owner=MINE):
        return struct.pack("<QIBBH", number, 256, owner, 0, 0)

    def write(self, kind, rest):
        self.socket.sendall(struct.pack("<IBBH", len(rest), kind, 0, 0) + rest)

    def read(self):
        length, kind, _, _ = struct.unpack("<IBBH", self.socket.recv(8, socket.MSG_WAITALL))
        return kind, self.socket.recv(length, socket.MSG_WAITALL) if length else b""

    def find(self, name):
        self.write(WHEREIS, struct.pack("<QB", 1, len(name)) + name)
        while True:
            kind, rest = self.read()
            if kind == FOUND:
                return struct.unpack_from("<Q", rest, 8)[0]

    def message(self, to, tag, data, kind=PLAIN, number=0, type_name=b"", refs=b"", frame=MESSAGE):
        who = self.ref(2) if kind in (CALL, OPEN) else self.ref(0)
        self.write(frame, struct.pack("<QQB", to, tag, kind) + who + struct.pack("<QQB", number, len(data),
                                                                                 len(type_name)) +
                   type_name + struct.pack("<H", len(refs) // 16) + refs + data)


def test_garbage_instead_of_a_pickle_is_an_error_and_the_process_lives():
    path = path_of_socket()
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("fibril.actors").addHandler(handler)
    collector = Collector.start(name="collector")
    with nodes.listen(path):
        peer = RawPeer(path)
        to = peer.find(b"collector")
        bad = [b"", b"\0\0", b"\0\0garbage", b"\0\0" + pickle.dumps(1), b"\0\0" + pickle.dumps((1, 2, 3)),
               b"\0\0" + pickle.dumps(("__init__", None, ())), b"\0\0" + pickle.dumps(("on_keep", ("a",), ())),
               b"\0\0" + pickle.dumps(("on_keep", (1,), (1,))), b"\1\0\0\0\0\0" + pickle.dumps(1), b"\xff\xff"]
        for data in bad:
            for tag in (METHOD, STREAM, OBJECT, BOX, VALUE, ERROR, REFUSED, IDLE, REPLACE, DOWN, EXIT, LETTER, 5):
                for kind in (PLAIN, CAST, CALL):
                    peer.message(to, tag, data, kind, number=7, type_name=b"fibril.python.pickle")
        good = b"\0\0" + pickle.dumps((None, None, ("fine",)))
        peer.message(to, OBJECT, good, type_name=b"fibril.python.pickle")
        wait_until(lambda: "fine" in collector.call("kept"))
    assert any("cannot be read" in record.getMessage() for record in records)


def test_bytes_under_tags_of_python_are_no_objects():
    path = path_of_socket()
    collector = Collector.start(name="collector")
    function_got = []

    def function():
        while True:
            function_got.append(fibril.receive())

    actors.spawn(function, name="function")
    with nodes.listen(path):
        peer = RawPeer(path)
        for name in (b"collector", b"function"):
            to = peer.find(name)
            for tag in (METHOD, STREAM, OBJECT, BOX, VALUE, ERROR, REFUSED, IDLE, REPLACE, DOWN, EXIT, LETTER):
                for data in (b"", b"A" * 8, b"A" * 64):
                    for kind in (PLAIN, CAST, CALL):
                        peer.message(to, tag, data, kind, number=7)
        peer.message(to, 5, b"last")
        wait_until(lambda: any(getattr(got, "data", None) == b"last" for got in function_got))
    assert collector.call("kept") == [] and len(function_got) == 1
    assert actors.counts()["dropped"] == 2 * 12 * 3 * 3


def test_a_reply_that_is_garbage_fails_the_call():
    path = path_of_socket()
    with nodes.listen(path) as listener:
        peer = RawPeer(path)
        wait_until(lambda: listener.nodes)
        node = listener.nodes[0]
        for data, type_name, tag in ((b"\0\0garbage", b"fibril.python.pickle", VALUE),
                                     (b"\0\0garbage", b"fibril.python.pickle", ERROR),
                                     (b"A" * 8, b"", VALUE), (b"A" * 8, b"", ERROR)):
            asking = fibril.spawn(node.whereis, "somebody")
            kind, rest = peer.read()
            while kind != WHEREIS:
                kind, rest = peer.read()
            peer.write(FOUND, rest[:8] + peer.ref(9))
            somebody = asking.join(helpers.TIME_LIMIT)
            calling = fibril.spawn(somebody.call, "echo", timeout=helpers.TIME_LIMIT)
            kind, rest = peer.read()
            while kind != MESSAGE:
                kind, rest = peer.read()
            caller, number = struct.unpack_from("<Q", rest, 17)[0], struct.unpack_from("<Q", rest, 33)[0]
            peer.message(caller, tag, data, ANSWER, number=number, type_name=type_name, frame=REPLY)
            if type_name:
                with helpers.raises(nodes.MessageError):
                    calling.join(helpers.TIME_LIMIT)
            else:
                assert calling.join(helpers.TIME_LIMIT) == data


def test_a_process_without_python_says_so():
    path = path_of_socket()
    with nodes.listen(path) as listener:
        peer = RawPeer(path)
        wait_until(lambda: listener.nodes)
        asking = fibril.spawn(listener.nodes[0].whereis, "somebody")
        kind, rest = peer.read()
        while kind != WHEREIS:
            kind, rest = peer.read()
        peer.write(FOUND, rest[:8] + peer.ref(9))
        calling = fibril.spawn(asking.join(helpers.TIME_LIMIT).call, "echo", timeout=helpers.TIME_LIMIT)
        while kind != MESSAGE:
            kind, rest = peer.read()
        caller, number = struct.unpack_from("<Q", rest, 17)[0], struct.unpack_from("<Q", rest, 33)[0]
        peer.message(caller, errno.EOPNOTSUPP, b"", REFUSAL, number=number, frame=REPLY)
        with helpers.raises(nodes.MessageError) as caught:
            calling.join(helpers.TIME_LIMIT)
        assert "does not know messages of Python" in str(caught.value)


def test_what_is_no_node_is_not_let_in_and_disturbs_nobody():
    path = path_of_socket()
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("fibril.nodes").addHandler(handler)
    with nodes.listen(path, timeout=0.2) as listener:
        for said in (b"GET / HTTP/1.1\r\n\r\n", b""):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
                stranger.connect(path)
                stranger.sendall(said)
                try:
                    while stranger.recv(1000):
                        pass
                except ConnectionResetError:
                    pass
        peer = RawPeer(path)
        wait_until(lambda: listener.nodes)
        peer.socket.close()
    assert ["no node" in record.getMessage() for record in records] == [True, False]


def test_a_socket_of_another_sort_or_user_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = socket.create_connection(server.getsockname())
        with helpers.raises(PermissionError):
            fibril._fibril._node_join(client.detach(), None, 1.0, 1.0)
    if os.geteuid() == 0:  # a process of another user is at the other end
        path = path_of_socket()
        os.chmod(os.path.dirname(path), 0o755)
        code = f"import socket, os, time; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); os.setuid(65534); " \
               "s.listen(); s.accept(); time.sleep(60)"
        with running("-c", code):
            with helpers.raises(PermissionError) as caught:
                nodes.connect(path, wait=True, timeout=helpers.TIME_LIMIT)
            assert "another user" in str(caught.value)


def test_two_do_not_listen_at_one_path():
    path = path_of_socket()
    first = nodes.listen(path)
    with helpers.raises(OSError):
        nodes.listen(path)
    first.close()
    first.close()
    assert not os.path.exists(path)
    with open(path, "w", encoding="ascii"):
        pass
    with helpers.raises(OSError):  # it is no socket, and stays
        nodes.listen(path)
    assert os.path.exists(path)
