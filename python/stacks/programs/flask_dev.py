# SPDX-License-Identifier: MIT
"""Flask on its threaded development server; request and g are per thread, and a crowd asks for them."""
import logging
import threading
import time

import flask
import requests
from werkzeug.serving import make_server

from common import count, crowd

app = flask.Flask(__name__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)


@app.route("/echo/<int:number>")
def echo(number):
    flask.g.number = number
    time.sleep(0.3)
    return {"path": flask.request.path, "g": flask.g.number, "arg": flask.request.args["a"]}


server = make_server("127.0.0.1", 0, app, threaded=True)
server.socket.listen(4096)
thread = threading.Thread(target=server.serve_forever)
thread.start()


def get(i):
    url = "http://127.0.0.1:%d/echo/%d?a=x%d" % (server.server_port, i, i)
    return requests.get(url, timeout=60).json() == {"path": "/echo/%d" % i, "g": i, "arg": "x%d" % i}


c = crowd(count(), get)
server.shutdown()
thread.join()
server.server_close()
c.report(right=sum(map(bool, c.results)))
