# SPDX-License-Identifier: MIT
"""Django's threaded development server (what runserver calls), a view with the ORM on SQLite, and a crowd."""
import os
import sys
import tempfile
import threading
import time

import django
from django.conf import settings
from django.core.servers import basehttp
from django.http import JsonResponse
from django.urls import path
import urllib3

from common import count, crowd

folder = tempfile.mkdtemp(dir=os.environ.get("TMPDIR"))
settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="s", USE_TZ=True,
                   LOGGING_CONFIG=None,
                   DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 60},
                                          "NAME": os.path.join(folder, "db.sqlite3")}},
                   MIDDLEWARE=["django.middleware.common.CommonMiddleware"])
django.setup()
from django.db import connection  # noqa: E402


def view(request, number):
    time.sleep(0.2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s * 2", [number])
        return JsonResponse({"twice": cursor.fetchone()[0], "path": request.path})


urlpatterns = [path("<int:number>/", view)]


class Server(basehttp.ThreadedWSGIServer):
    request_queue_size = 4096
    daemon_threads = True


from django.core.wsgi import get_wsgi_application  # noqa: E402
import logging  # noqa: E402

logging.getLogger("django.server").setLevel(logging.ERROR)
server = Server(("127.0.0.1", 0), basehttp.WSGIRequestHandler)
server.set_app(get_wsgi_application())
thread = threading.Thread(target=server.serve_forever)
thread.start()
sys.stderr.flush()


def get(i):
    http = urllib3.PoolManager()
    r = http.request("GET", "http://127.0.0.1:%d/%d/" % (server.server_port, i), timeout=60)
    http.clear()
    return r.data.decode() == '{"twice": %d, "path": "/%d/"}' % (2 * i, i)


c = crowd(count(), get)
server.shutdown()
thread.join()
server.server_close()
c.report(right=sum(map(bool, c.results)))
