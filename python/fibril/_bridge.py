# SPDX-License-Identifier: MIT
"""Between fibrils and asyncio: wait_for and to_async.

asyncio's loop runs in a fibril like any other (its epoll_wait parks), so a coroutine can be waited for by a fibril
and a fibril by a coroutine. One loop, in a daemon thread that starts when it is first needed, runs the coroutines.
"""

import threading

from . import _fibril

_lock = threading.Lock()
_loop = None


def _background_loop():
    global _loop
    import asyncio

    with _lock:
        if _loop is None or _loop.is_closed():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="fibril.wait_for", daemon=True).start()
            _loop = loop
        return _loop


def wait_for(coroutine, timeout=None):
    """Run a coroutine from a fibril and return its result, parking the caller meanwhile.

    It runs on an asyncio loop of its own fibril, shared by all calls. timeout: seconds; when it passes, or the caller
    is cancelled, the coroutine is cancelled and TimeoutError or Cancelled is raised.
    """
    import asyncio

    future = asyncio.run_coroutine_threadsafe(coroutine, _background_loop())
    ended = _fibril.Event()
    future.add_done_callback(lambda _: ended.set())
    try:
        if not ended.wait(timeout):
            raise TimeoutError("timed out")
    except BaseException:
        future.cancel()
        raise
    return future.result()


def to_async(fibril):
    """Return an awaitable for the outcome of a Fibril: ``await fibril.to_async(fibril.spawn(f))``.

    Cancelling the awaitable cancels the fibril. Call it where an asyncio loop runs (RuntimeError otherwise).
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def copy():
        if future.cancelled():
            return
        exception = fibril.exception
        if isinstance(exception, _fibril.Cancelled):
            future.cancel()
        elif exception is not None:
            future.set_exception(exception)
        else:
            future.set_result(fibril.result)

    def ended(_):
        try:
            loop.call_soon_threadsafe(copy)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    fibril.add_done_callback(ended)
    future.add_done_callback(lambda f: f.cancelled() and fibril.cancel())
    return future
