"""The gateway's worker, which also says which greenlets it has: nothing else shows them from without.

It listens on a Unix socket with the name `greenlets_address(pid)`, and answers a connection with JSON: {STACK: number}
of the living greenlets, a stack being FILE:FUNCTION of the innermost functions.
"""

import gc
import json
import socket
from collections import Counter
from pathlib import Path
from traceback import walk_stack
from typing import Any

import greenlet
from gevent.server import StreamServer
from gevent.socket import socket as gevent_socket

from gpt_oss_proxy.net.server.worker import Worker
from tests.live.leaving.address import greenlets_address

# They wait for the next function to run: 256 at most, and as many as gevent's resolver has threads.
_KEPT = ("run.py:_serve", "threadpool.py:_begin")
_DEPTH = 5  # functions, the innermost first


def greenlets() -> dict[str, int]:
    """Return where this process's greenlets stand, the asking one excepted."""
    me = greenlet.getcurrent()
    found: Counter[str] = Counter()
    for one in gc.get_objects():
        if isinstance(one, greenlet.greenlet) and one.gr_frame and one is not me:
            functions = [(frame.f_code, line) for frame, line in walk_stack(one.gr_frame)][:_DEPTH]
            found[" < ".join(f"{Path(code.co_filename).name}:{code.co_name}" for code, _ in functions)] += 1
    return {stack: number for stack, number in found.items() if not stack.startswith(_KEPT)}


class CountingWorker(Worker):
    def run(self) -> None:
        listener = gevent_socket(socket.AF_UNIX)
        listener.bind(greenlets_address(self.pid))
        listener.listen()
        StreamServer(listener, self._say).start()
        super().run()

    @staticmethod
    def _say(connection: Any, _address: Any) -> None:
        with connection:
            connection.sendall(json.dumps(greenlets()).encode())
