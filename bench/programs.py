# SPDX-License-Identifier: MIT
"""The compared programs: where fibril's own are, how the peers are built, how servers are started.

A program that is not there is a Missing with the reason, and every measurement of it is skipped and said;
nothing is downloaded. Servers print their port, as "port N" or
as N alone, when they listen (nginx and h2o are given a port that was
free a moment ago). Processor time is that of the whole process tree.
"""
import errno
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, SERVER_CORE = CORES[0], CORES[-1] if len(CORES) == 1 else CORES[1]
TICK = os.sysconf("SC_CLK_TCK")
GO_DIRS = ["/usr/lib/go/bin", "/usr/local/go/bin"]
ERL_FLAGS = ["+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "+P", "2000000", "-noshell"]


class Missing(Exception):
    """A program that cannot be measured here; the text says why."""


def raise_file_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pinned(core):
    cores = {core} if isinstance(core, int) else set(core)
    return lambda: os.sched_setaffinity(0, cores)


def run_for_rows(argv, core=SERVER_CORE, timeout=300):
    """Runs one micro benchmark and returns the JSON lines that it printed."""
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                       preexec_fn=pinned(core), cwd=tempfile.gettempdir())
    if p.returncode == 77:
        raise Missing((p.stderr or p.stdout).strip().split("\n")[-1] or "it says that it cannot run here")
    if p.returncode != 0:
        raise RuntimeError("%s ended with %d: %s" % (" ".join(argv), p.returncode, p.stderr.strip()[-300:]))
    rows = [json.loads(line) for line in p.stdout.splitlines() if line.startswith("{")]
    if not rows:
        raise RuntimeError("%s printed no figure" % " ".join(argv))
    return rows


class Builder:
    """Finds fibril's programs in a Meson build and builds the peers into a folder of their own."""

    def __init__(self, build_dir, peer_dir):
        self.build_dir = build_dir
        self.peer_dir = peer_dir
        self.known = {}

    def own(self, name, folder="bench"):
        path = os.path.join(self.build_dir, folder, name)
        if not os.access(path, os.X_OK):
            raise Missing("%s is not built in %s" % (name, self.build_dir))
        return path

    def tool(self, name, more_dirs=()):
        path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *more_dirs]))
        if not path:
            raise Missing("%s is not installed" % name)
        return path

    def peer(self, source):
        """Returns the program built from bench/peers/SOURCE; a failed build is tried once only."""
        if source not in self.known:
            try:
                self.known[source] = self._build(source)
            except Missing as e:
                self.known[source] = e
        if isinstance(self.known[source], Missing):
            raise self.known[source]
        return self.known[source]

    def _build(self, source):
        src = os.path.join(HERE, "peers", source)
        base, ext = os.path.splitext(source)
        out = os.path.join(self.peer_dir, base + (".beam" if ext == ".erl" else ""))
        env = dict(os.environ, GO111MODULE="off", GOCACHE=os.path.join(self.peer_dir, "go-cache"))
        os.makedirs(self.peer_dir, exist_ok=True)
        argv = {
            ".c": lambda: [self.tool("gcc"), "-O2", "-std=gnu11", "-o", out, src, "-lst"],
            ".cc": lambda: [self.tool("g++"), "-O2", "-std=c++17", "-o", out, src, "-lboost_fiber",
                            "-lboost_context", "-pthread"],
            ".go": lambda: [self.tool("go", GO_DIRS), "build", "-o", out, src],
            ".erl": lambda: [self.tool("erlc"), "-o", self.peer_dir, src],
        }[ext]()
        newest = max(os.path.getmtime(src), os.path.getmtime(os.path.join(HERE, "measure.h")))
        if not os.path.exists(out) or os.path.getmtime(out) < newest:
            p = subprocess.run(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
            if p.returncode:
                errors = [line for line in p.stderr.splitlines() if "error" in line or "cannot find" in line]
                raise Missing("%s does not build: %s" % (source, (errors or [p.stderr.strip()])[0]))
        return out

    def peer_argv(self, source):
        """The command line of a peer, without its arguments."""
        out = self.peer(source)
        if source.endswith(".erl"):
            return [self.tool("erl"), *ERL_FLAGS, "-pa", self.peer_dir, "-s", "erlang_peer", "main", "-extra"]
        return [out]


class Server:
    """A server process on the server core; use it in a with statement, it is ended on the way out."""

    def __init__(self, argv, port=None, env=None):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env=dict(os.environ, **(env or {})), preexec_fn=pinned(SERVER_CORE))
        self.pid = self.process.pid
        try:
            self.port = port or self._port_line()
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def _port_line(self):
        line = self.process.stdout.readline()
        m = re.match(r"(?:port )?(\d+)$", line.strip())
        if m:
            return int(m.group(1))
        code = self.process.wait(5)
        self.log.seek(0)
        said = self.log.read().strip()[-300:]
        if code == 77 or os.strerror(errno.ENOSYS) in said:  # io_uring refused, say
            raise Missing(said or "it says that it cannot run here")
        raise RuntimeError("server ended with %s: %s" % (code, said))

    def _wait_until_it_listens(self):
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.log.seek(0)
                    raise RuntimeError("no server on port %d: %s" % (self.port, self.log.read()[-300:]))
                time.sleep(0.02)

    def tree(self):
        pids = [self.pid]
        for pid in pids:
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/children" % (pid, task)) as f:
                    pids += [int(w) for w in f.read().split()]
        return pids

    def cpu(self):
        """User and system seconds so far."""
        ticks = 0
        for pid in self.tree():
            with open("/proc/%d/stat" % pid) as f:
                fields = f.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


HELLO = "hello world\n"


def make_site(folder):
    """The files that every web server serves: 12 bytes, and 4 KiB."""
    os.makedirs(os.path.join(folder, "www"), exist_ok=True)
    os.chmod(folder, 0o755)  # h2o changes to an unprivileged user when root starts it
    with open(os.path.join(folder, "www", "hello.txt"), "w") as f:
        f.write(HELLO)
    with open(os.path.join(folder, "www", "4k.txt"), "w") as f:
        f.write("0123456789abcde\n" * 256)
    with open(os.path.join(folder, "pipeline.lua"), "w") as f:
        f.write("init = function(args)\n  local r = {}\n  for i = 1, 16 do r[i] = wrk.format() end\n"
                "  batch = table.concat(r)\nend\nrequest = function() return batch end\n")


def nginx(builder, folder):
    """nginx at its best: one process, no log, sendfile with cached descriptors."""
    exe, port = builder.tool("nginx"), free_port()
    conf = """daemon off; master_process off; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.log;
worker_rlimit_nofile {nofile};
events {{ worker_connections 16384; use epoll; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; default_type text/plain;
  sendfile on; tcp_nopush on; open_file_cache max=1000 inactive=600s; open_file_cache_valid 600s;
  client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
  uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /hello {{ return 200 "{hello}\\n"; }}
    location / {{ root {d}/www; }}
  }}
}}
""".format(d=folder, port=port, hello=HELLO.strip(), nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as f:
        f.write(conf)
    return Server([exe, "-c", path, "-e", os.path.join(folder, "nginx.log")], port)


def h2o(builder, folder):
    """h2o with one thread; its hello is a file of the same 12 bytes, the fastest way it has."""
    exe, port = builder.tool("h2o"), free_port()
    conf = """num-threads: 1
max-connections: 16384
listen: {{ host: 127.0.0.1, port: {port} }}
hosts:
  default:
    paths:
      "/": {{ file.dir: {d}/www }}
""".format(d=folder, port=port)
    path = os.path.join(folder, "h2o.conf")
    with open(path, "w") as f:
        f.write(conf)
    return Server([exe, "-c", path], port)


def wrk(builder, url, connections, seconds, more=()):
    """Runs wrk on the load core and returns the number of requests; an error of any kind raises."""
    argv = [builder.tool("wrk"), "-t1", "-c%d" % connections, "-d%ds" % seconds, *more, url]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=seconds + 30, preexec_fn=pinned(LOAD_CORE))
    m = re.search(r"(\d+) requests in", p.stdout)
    bad = re.search(r"Socket errors:.*|Non-2xx.*", p.stdout)
    if not m or not int(m.group(1)) or bad:
        raise RuntimeError("wrk %s: %s" % (url, bad.group(0) if bad else p.stdout.strip()[-300:]))
    return int(m.group(1))
