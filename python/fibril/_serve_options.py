# SPDX-License-Identifier: MIT
"""The command line of ``fibril serve module:app``, and its configuration file.

One table of options serves both: a key of the file is an option's name, and what the command line says wins. Each
mistake is one line and exit status 2. Limits have the keys, units and defaults of ``fibril serve DIR``.
"""

import argparse
import ipaddress
import os
import re
import sys

LIMITS = {  # key: (unit, field of struct fibril_http_limits)
    "request_line_bytes": ("bytes", "request_line_bytes"), "field_bytes": ("bytes", "field_bytes"),
    "head_bytes": ("bytes", "head_bytes"), "fields_max": ("count", "fields_max"),
    "trailer_bytes": ("bytes", "trailer_bytes"), "trailers_max": ("count", "trailers_max"),
    "body_bytes": ("bytes", "body_bytes"), "drain_bytes": ("bytes", "drain_bytes"),
    "first_byte_s": ("seconds", "first_byte_ns"), "head_s": ("seconds", "head_ns"),
    "body_idle_s": ("seconds", "body_idle_ns"), "body_rate": ("bytes", "body_rate"),
    "write_idle_s": ("seconds", "write_idle_ns"), "keep_alive_s": ("seconds", "keep_alive_ns"),
    "linger_s": ("seconds", "linger_ns"), "requests_max": ("count", "requests_max"),
    "connection_age_s": ("seconds", "connection_age_ns"), "connections_max": ("count", "connections_max"),
    "per_address_max": ("count", "per_address_max"), "handlers_max": ("count", "handlers_max"),
    "retry_after_s": ("count", "retry_after_s"),
}


class Wrong(Exception):
    """A mistake on the command line or at the start: its text is the line that is shown."""


def die(text, status=2):
    print(f"fibril serve: {text}", file=sys.stderr, flush=True)
    raise SystemExit(status)


# ---- values ----------------------------------------------------------------------------------------------------------


def number(text, least=0, most=10**9):
    if not re.fullmatch(r"[0-9]{1,10}", str(text)) or not least <= int(text) <= most:
        raise ValueError(f"wants a number from {least} to {most}")
    return int(text)


def size(text):
    match = re.fullmatch(r"([0-9]{1,12})([kmg]?)", str(text).lower())
    if not match or int(match[1]) == 0:
        raise ValueError("wants bytes, like 65536, 64k or 2g")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


def seconds(text, least=0.001):
    """Seconds as float; None for "none"."""
    if str(text) == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,9})?", str(text)) or not least <= float(text) <= 31536000:
        raise ValueError(f"wants seconds from {least} to 31536000, or none")
    return float(text)


def limit(key, text):
    """One limit as (field, value in the server's unit)."""
    if key not in LIMITS:
        raise ValueError(f"knows no limit '{key}'")
    unit, field = LIMITS[key]
    try:
        if unit == "seconds":
            value = seconds(text)
            return field, None if value is None else int(value * 1e9)
        if unit == "bytes":
            return field, None if str(text) == "none" else size(text)
        return field, number(text, 1)
    except ValueError as error:
        raise ValueError(f"{error} in {key}") from None


def limits(text):
    found = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError("wants key=value,...")
        field, value = limit(key, value)
        found[field] = value
    return found


def address(text):
    """("unix", path) or ("tcp", host, port)."""
    if text.startswith("unix:") and len(text) > 5:
        return ("unix", text[5:])
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|\*|[^:\[\]]*):([0-9]{1,5})", text)
    if not match or int(match[2]) > 65535:
        raise ValueError("wants HOST:PORT, [::1]:PORT, *:PORT or unix:/path")
    return ("tcp", match[1].strip("[]") or "127.0.0.1", int(match[2]))


def networks(text):
    for word in str(text).replace(",", " ").split():
        if word not in ("*", "unix"):
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError:
                raise ValueError("wants addresses and networks like 10.0.0.0/8, unix or *") from None
    return str(text)


def application(text):
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(\))?", text):
        raise ValueError("wants module:app, like shop.wsgi:application or shop:create_app()")
    return text


# ---- the table -------------------------------------------------------------------------------------------------------

# name, kind, default, argparse extras, help
OPTIONS = [
    ("bind", address, [("tcp", "127.0.0.1", 8080)], dict(action="append", metavar="ADDR"),
     "listen on this address; may be given several times; port 0 lets the kernel choose (127.0.0.1:8080)"),
    ("workers", lambda t: number(t, 1, 512), 1, dict(metavar="N"), "processes that serve (1)"),
    ("chdir", str, None, dict(metavar="DIR"), "change to this folder before the application is imported"),
    ("reload", bool, False, dict(action="store_true"), "start again when a file of the application changes"),
    ("access-log", str, None, dict(nargs="?", const="-", metavar="FILE"),
     "write an access log, to standard output unless FILE is given"),
    ("log", str, None, dict(choices=["off", "combined", "json"]), "form of the access log (combined)"),
    ("error-log", str, None, dict(metavar="FILE"), "append standard error and tracebacks to FILE"),
    ("keep-alive", seconds, 65.0, dict(metavar="S"), "seconds that an idle connection is kept, or none (65)"),
    ("drain", lambda t: seconds(t, 0), 30.0, dict(metavar="S"),
     "seconds that requests may go on after SIGTERM or a reload, or none (30)"),
    ("timeout", lambda t: seconds(t, 0), 0.0, dict(metavar="S"),
     "end a worker whose loop has not turned for so long; 0 never (0)"),
    ("limits", limits, {}, dict(action="append", metavar="KEY=VALUE,..."),
     "what a peer may make the server hold; keys as in fibril serve DIR"),
    ("max-requests", number, 0, dict(metavar="N"), "replace a worker after N requests; 0 never (0)"),
    ("max-requests-jitter", number, 0, dict(metavar="N"), "up to so many more, by chance (0)"),
    ("memory-limit", size, 0, dict(metavar="BYTES"), "replace a worker that grew larger, like 512m"),
    ("trusted-proxies", networks, "127.0.0.1,::1,unix", dict(metavar="LIST"),
     "addresses and networks whose X-Forwarded-For and -Proto are believed; '' none, * all "
     "(127.0.0.1,::1,unix)"),
    ("script-name", str, "", dict(metavar="PREFIX"), "path that the application is mounted at (none)"),
    ("scheme", str, "http", dict(choices=["http", "https"]), "wsgi.url_scheme without a proxy (http)"),
    ("poller", str, None, dict(choices=["auto", "uring", "epoll"]), "how to wait for the kernel (auto)"),
    ("stack", size, 0, dict(metavar="BYTES"), "address space of a request's stack (256k)"),
    ("pid-file", str, None, dict(metavar="FILE"), "write the number of the main process to FILE"),
]


class Parser(argparse.ArgumentParser):
    def error(self, message):
        die(f"{message} (see fibril serve --help)")


def parser():
    p = Parser(prog="fibril serve", allow_abbrev=False, usage="fibril serve module:app [OPTION]...",
               description="Serves a WSGI application, each request in a fibril. SIGHUP loads it anew without "
               "losing a request; SIGTERM and SIGINT finish what is in flight.")
    p.add_argument("app", metavar="module:app", nargs="?", help="the application; module:factory() calls a factory")
    p.add_argument("--config", metavar="FILE", help="TOML file with these options (without the dashes)")
    for name, _, _, extra, text in OPTIONS:
        p.add_argument("--" + name, help=text, default=None, **extra)
    return p


def _convert(name, kind, value):
    try:
        if name == "bind":
            return [address(each) for each in ([value] if isinstance(value, str) else value)]
        if name == "limits" and isinstance(value, dict):
            return dict(limit(key, each) for key, each in value.items())
        if name == "limits":
            return {k: v for each in ([value] if isinstance(value, str) else value) for k, v in limits(each).items()}
        if kind is bool and not isinstance(value, bool):
            raise ValueError("wants true or false")
        return kind(value)
    except ValueError as error:
        shown = value[-1] if isinstance(value, list) and value else value
        raise Wrong(f"--{name} {error}, not '{shown}'") from None


def read_config(path):
    import tomllib
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise Wrong(f"cannot read '{path}': {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise Wrong(f"'{path}' is no TOML: {error}") from None
    known = {name: extra for name, _, _, extra, _ in OPTIONS}
    for key, value in list(found.items()):
        name = key.replace("_", "-")
        if name not in known and name != "app":
            raise Wrong(f"'{path}' has an unknown key '{key}'")
        choices = known.get(name, {}).get("choices")
        if choices and value not in choices:
            raise Wrong(f"'{path}': {key} wants one of {', '.join(choices)}, not '{value}'")
        found[name] = found.pop(key)
    return found


def resolve(given):
    """The options of a namespace of the command line, with the configuration file's below it. Raises Wrong."""
    config = read_config(given.config) if given.config else {}
    result = argparse.Namespace(config=given.config)
    for name, kind, default, _, _ in OPTIONS:
        value = getattr(given, name.replace("-", "_"))
        value = config.get(name) if value is None else value
        setattr(result, name.replace("-", "_"), default if value is None else _convert(name, kind, value))
    app = given.app or config.get("app")
    if not app:
        raise Wrong("module:app is missing (see fibril serve --help)")
    try:
        result.app = application(app)
    except ValueError as error:
        raise Wrong(f"{error}, not '{app}'") from None
    if result.script_name and not re.fullmatch(r"(/[^/?#]+)+", result.script_name):
        raise Wrong(f"--script-name wants a path like /shop, not '{result.script_name}'")
    result.limits.setdefault("keep_alive_ns", None if result.keep_alive is None else int(result.keep_alive * 1e9))
    result.limits.setdefault("body_bytes", None)
    if result.chdir and not os.path.isdir(result.chdir):
        raise Wrong(f"--chdir: no folder '{result.chdir}'")
    return result
