# SPDX-License-Identifier: MIT
"""Other people's libraries, unchanged: each program once with a few OS threads and once with many fibrils."""
import json
import os
import subprocess
import sys

import pytest

import servers

HERE = os.path.dirname(os.path.abspath(__file__))


def test_threading_primitives_do_what_they_say(way):
    n = way.number(50, 2000)
    r = way.program("locks", n)
    assert (r["right"], r["total"], r["distinct_idents"], r["left"]) == (n, 2 * n, n, 0)
    assert r["most_inside"] <= 5


def test_an_executor_has_10000_workers(way):
    n = way.number(100, 10000)
    r = way.program("futures", n)
    assert (r["right"], r["raised"], r["cancelled"], r["mapped"]) == (n - n // 100, n // 100, 10, 500500)


def test_http_server_serves_a_crowd_of_urllib(way):
    n = way.number(50, 1500)
    assert way.program("http_server", n)["right"] == n


def test_requests_and_urllib3_share_a_pool(way):
    pytest.importorskip("requests")
    n = way.number(50, 1000)
    r = way.program("requests_pool", n)
    assert r["right"] == n and r["connections"] <= 50


def test_flask_development_server(way):
    pytest.importorskip("flask")
    n = way.number(50, 1000)
    assert way.program("flask_dev", n)["right"] == n


def test_django_development_server(way):
    pytest.importorskip("django")
    n = way.number(50, 1000)
    assert way.program("django_dev", n)["right"] == n


def test_gunicorn_gthread(way):
    pytest.importorskip("gunicorn")
    n = way.number(100, 3000)  # its own bookkeeping takes time that grows with the square of this
    with servers.gunicorn(way.command, way.folder, n, way.env) as (port, _):
        out = subprocess.run([sys.executable, os.path.join(HERE, "load.py"), str(port), str(n), "1"],
                             stdout=subprocess.PIPE, text=True, timeout=240, check=True).stdout
    r = json.loads(out)
    assert (r["right"], r["errors"]) == (n, 0), r
    with open(os.path.join(way.folder, "gunicorn.log")) as log:
        text = log.read()
    assert "Traceback" not in text and "CRITICAL" not in text, text[-3000:]


def test_sqlalchemy_queries_through_a_pool(way, postgres):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg2")
    n = way.number(100, 1000)
    r = way.program("sqlalchemy_pg", n, {"STACK_PG": postgres[0]})
    assert (r["right"], r["total"], r["checked_out"]) == (n, n, 0)


def test_psycopg2_sleeps_in_the_server(way, postgres):
    pytest.importorskip("psycopg2")
    n = way.number(50, 1000)
    assert way.program("psycopg2_sleep", n, {"STACK_PG_DSN": postgres[1]})["right"] == n


def test_mysqlclient(way, mariadb):
    pytest.importorskip("MySQLdb")
    n = way.number(50, 500)
    r = way.program("mysqlclient", n, {"STACK_MYSQL": mariadb[0], "STACK_MYSQL_USER": mariadb[1]})
    assert (r["right"], r["rows"]) == (n, n)


def test_redis_blocks_in_blpop(way, redis):
    pytest.importorskip("redis")
    n = way.number(50, 1000)
    r = way.program("redis_py", n, {"STACK_REDIS": redis})
    assert (r["right"], r["counter"]) == (n, n)


def test_pika_asks_and_answers(way, rabbitmq):
    pytest.importorskip("pika")
    n = way.number(20, 500)
    assert way.program("pika_rpc", n, {"STACK_AMQP": rabbitmq})["right"] == n


def test_grpc_with_threads_of_its_own(way):
    pytest.importorskip("grpc")
    n = way.number(50, 500)
    r = way.program("grpc_loop", n)
    assert (r["right"], r["missing"]) == (n, "UNIMPLEMENTED")


def test_paramiko_both_ends(way):
    pytest.importorskip("paramiko")
    n = way.number(20, 100)
    assert way.program("paramiko_loop", n)["right"] == n


def test_sqlite_writers_contend(way):
    n = way.number(30, 300)
    r = way.program("sqlite_contention", n)
    assert (r["right"], r["total"], r["rows"], r["distinct"]) == (n, 3 * n, 3 * n, 3 * n)


def test_subprocesses_by_the_hundred(way):
    n = way.number(30, 300)
    r = way.program("subprocesses", n)
    assert (r["right"], r["zombies"]) == (n, 0)


def test_logging_from_a_crowd(way):
    n = way.number(50, 1000)
    r = way.program("logging_many", n)
    assert (r["right"], r["direct"], r["queued"]) == (n, 10 * n, 10 * n)


def test_openssl_errors_stay_with_their_thread(way, certificate):
    n = way.number(50, 1000)
    r = way.program("tls", n, {"STACK_CERTIFICATE": certificate})
    assert (r["right"], r["failed"]) == (n, n // 5)


def test_asyncio_runs_in_many_threads(way):
    n = way.number(20, 200)
    assert way.program("asyncio_many", n)["right"] == n
