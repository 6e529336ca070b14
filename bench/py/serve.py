# SPDX-License-Identifier: MIT
"""The application on servers that have no command of their own. Prints nothing: the port is given.

    serve.py pywsgi|eventlet|bjoern|fastwsgi PORT
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
BACKLOG = 16384


def pywsgi(port):
    from gevent import monkey, pywsgi, socket
    monkey.patch_all()
    import app
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.listen(BACKLOG)
    pywsgi.WSGIServer(s, app.application, log=None).serve_forever()


def eventlet(port):
    import eventlet as e
    e.monkey_patch()
    from eventlet import wsgi
    import app
    wsgi.server(e.listen(("127.0.0.1", port), backlog=BACKLOG), app.application, log_output=False, max_size=20000)


def bjoern(port):
    import bjoern as b
    import app
    b.run(app.application, "127.0.0.1", port)


def fastwsgi(port):
    import fastwsgi as f
    import app
    f.server.backlog = BACKLOG
    f.run(app.application, host="127.0.0.1", port=port, loglevel=0)


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](int(sys.argv[2]))
    except ImportError as e:
        print(e, file=sys.stderr)
        sys.exit(77)
