# SPDX-License-Identifier: MIT
"""A Flask application as its users write them: blocking calls, a lock, a thread pool.

    fibril serve --chdir examples/wsgi flask_shop:app --workers 2
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, request

app = Flask(__name__)
stock = {"apples": 3, "pears": 5}
lock = threading.Lock()
pool = ThreadPoolExecutor(1000)


@app.route("/")
def index():
    return {"stock": stock}


@app.route("/buy/<fruit>", methods=["POST"])
def buy(fruit):
    with lock:
        if stock.get(fruit, 0) < 1:
            return {"error": f"no {fruit}"}, 409
        time.sleep(0.01)  # a database, say: the others wait for the lock, not the server
        stock[fruit] -= 1
    return {"left": stock[fruit]}


@app.route("/suppliers")
def suppliers():
    """Asks many slow suppliers at once."""
    count = min(int(request.args.get("count", "50")), 500)
    began = time.monotonic()
    answers = list(pool.map(lambda i: (time.sleep(0.2), i)[1], range(count)))
    return {"answers": len(answers), "seconds": round(time.monotonic() - began, 3)}
