# SPDX-License-Identifier: MIT
"""Real servers from Debian's packages, on loopback or on a socket in a temporary folder, each ended by its pid.

PostgreSQL and MariaDB refuse to be root: as root they run as the users of their packages. Whatever is not installed is
Missing, and the tests that want it are skipped with that reason.
"""
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

PG_BIN = "/usr/lib/postgresql/15/bin"


class Missing(Exception):
    """A server that is not installed; the text says which."""


def tool(name, *folders):
    path = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin"]))
    if not path:
        raise Missing(name + " is not installed")
    return path


def account(name):
    """What Popen needs to become this user, when we are root; nothing otherwise."""
    if os.getuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Missing("there is no user " + name) from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def own_folder(folder, name, who):
    """A folder in the other that the server's user may write."""
    path = os.path.join(folder, name)
    os.mkdir(path)
    if who:
        os.chown(path, who["user"], who["group"])
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(argv, ready, log, stop=signal.SIGTERM, **how):
    """Starts a server, waits until ready() says so, and ends it."""
    with open(log, "wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **how)
    try:
        end = time.monotonic() + 60
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                with open(log, encoding="utf-8", errors="replace") as text:
                    raise RuntimeError("%s does not start: %s" % (argv[0], text.read()[-2000:]))
            time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(family, address):
    def ask():
        with socket.socket(family) as s:
            return s.connect_ex(address) == 0
    return ask


@contextlib.contextmanager
def postgres(folder):
    """Yields (SQLAlchemy's address, libpq's)."""
    initdb, server, who = tool("initdb", PG_BIN), tool("postgres", PG_BIN), account("postgres")
    path = own_folder(folder, "pg", who)
    data = os.path.join(path, "data")
    subprocess.run([initdb, "-D", data, "-U", "stacks", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"], check=True,
                   stdout=subprocess.DEVNULL, cwd=path, **who)
    port = free_port()
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": path, "fsync": "off",
               "max_connections": 1050, "shared_buffers": "32MB", "autovacuum": "off", "log_min_messages": "fatal"}
    argv = [server, "-D", data]
    for key, value in options.items():
        argv += ["-c", "%s=%s" % (key, value)]
    log = os.path.join(folder, "postgres.log")
    with running(argv, answers(socket.AF_UNIX, os.path.join(path, ".s.PGSQL.%d" % port)), log, signal.SIGINT,
                 cwd=path, **who):
        yield ("postgresql+psycopg2://stacks@127.0.0.1:%d/postgres" % port,
               "host=127.0.0.1 port=%d user=stacks dbname=postgres connect_timeout=120" % port)


@contextlib.contextmanager
def mariadb(folder):
    """Yields (socket, user)."""
    install, server, who = tool("mariadb-install-db"), tool("mariadbd"), account("mysql")
    path = own_folder(folder, "maria", who)
    data, address = os.path.join(path, "data"), os.path.join(path, "socket")
    subprocess.run([install, "--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal",
                    "--skip-test-db"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=path,
                   **who)
    argv = [server, "--no-defaults", "--datadir=" + data, "--socket=" + address, "--skip-networking",
            "--max-connections=1100", "--back-log=1100", "--innodb-flush-log-at-trx-commit=0",
            "--pid-file=" + os.path.join(path, "pid")]
    with running(argv, answers(socket.AF_UNIX, address), os.path.join(folder, "mariadb.log"), cwd=path, **who):
        yield address, "root"


@contextlib.contextmanager
def redis(folder):
    """Yields the address of a server that saves nothing."""
    server, address = tool("redis-server"), os.path.join(folder, "redis.socket")
    argv = [server, "--port", "0", "--unixsocket", address, "--save", "", "--appendonly", "no", "--dir", folder,
            "--maxclients", "5000", "--tcp-backlog", "4096"]
    with running(argv, answers(socket.AF_UNIX, address), os.path.join(folder, "redis.log")):
        yield "unix://" + address


@contextlib.contextmanager
def rabbitmq(folder):
    """Yields the address. Erlang's port mapper is ours too, or the node would start one that outlives it."""
    server, mapper, who = tool("rabbitmq-server", "/usr/lib/rabbitmq/bin"), tool("epmd"), account("rabbitmq")
    path, port, mapper_port = own_folder(folder, "rabbit", who), free_port(), free_port()
    config = os.path.join(path, "rabbitmq.conf")
    with open(config, "w", encoding="utf-8") as out:
        out.write("listeners.tcp.1 = 127.0.0.1:%d\ntcp_listen_options.backlog = 4096\n" % port)
    env = dict(os.environ, HOME=path, ERL_EPMD_PORT=str(mapper_port), ERL_EPMD_ADDRESS="127.0.0.1",
               RABBITMQ_NODENAME="stacks@localhost", RABBITMQ_DIST_PORT=str(free_port()), RABBITMQ_CONFIG_FILE=config,
               RABBITMQ_MNESIA_BASE=path, RABBITMQ_ENABLED_PLUGINS_FILE=os.path.join(path, "plugins"),
               RABBITMQ_LOGS="-",
               RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}")
    with running([mapper], answers(socket.AF_INET, ("127.0.0.1", mapper_port)), os.path.join(folder, "epmd.log"),
                 env=env, cwd=path, **who), \
            running([server], answers(socket.AF_INET, ("127.0.0.1", port)), os.path.join(folder, "rabbitmq.log"),
                    env=env, cwd=path, **who):
        yield "amqp://guest:guest@127.0.0.1:%d/%%2F?heartbeat=0&connection_attempts=5" % port


@contextlib.contextmanager
def gunicorn(command, folder, threads, env):
    """Yields (port, pid of the arbiter) of gunicorn's gthread worker; command is what runs a Python module."""
    port, here = free_port(), os.path.dirname(os.path.abspath(__file__))
    argv = [*command, "-m", "gunicorn", "--chdir", os.path.join(here, "programs"), "-b", "127.0.0.1:%d" % port, "-k",
            "gthread", "-w", "1", "--threads", str(threads), "--worker-connections", "20000", "--backlog", "16384",
            "--timeout", "60", "--keep-alive", "30", "--worker-tmp-dir", folder, "gunicorn_app:application"]
    with running(argv, answers(socket.AF_INET, ("127.0.0.1", port)), os.path.join(folder, "gunicorn.log"),
                 env=env) as process:
        yield port, process.pid
