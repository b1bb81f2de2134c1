"""Functions that run in pooled greenlets, which are reused one function after the other.

A new greenlet costs as much as thirty function calls: the system allocates memory for its frames, and frees it at its
end. Reusing a greenlet after a kill is no more than gevent's own time-outs do.
"""

import sys
from collections.abc import Callable
from typing import Any

import gevent
import greenlet

from gpt_oss_proxy.errors import GatewayError, InternalError

_MOST_IDLE = 256  # greenlets per hub
_idle: dict[Any, list[greenlet.greenlet]] = {}  # by hub


class Run:
    """A function that runs from the hub's next iteration on, until it returns or is killed."""

    def __init__(self, function: Callable[[], None], over: Callable[[GatewayError | None], None]) -> None:
        """`over` is called once at its end: with the error that it raised, InternalError for a bug, None otherwise.

        Called in the run's greenlet; if the run was killed before it started, in the killer's.
        """
        self._function = function
        self._over = over
        self._hub = gevent.get_hub()
        self._greenlet: greenlet.greenlet | None = None
        self._ended = False
        self._hub.loop.run_callback(self._begin)

    def switch(self) -> None:
        """Resume it where it has switched away; do nothing if it has ended."""
        if self._greenlet:
            self._greenlet.switch()

    def kill(self, spare: Callable[[], bool] = lambda: False) -> None:
        """End it soon, whatever it waits for, unless `spare` returns True by then. Callable anywhere, and twice."""
        if self._greenlet:
            self._hub.loop.run_callback(self._throw, spare)
        elif not self._ended:
            self._end(None)

    def _begin(self) -> None:
        if self._ended:
            return
        idle = _idle.setdefault(self._hub, [])
        while idle and idle[-1].dead:  # an exception was thrown into it
            idle.pop()
        if not idle:
            greenlet.greenlet(_serve, self._hub).switch()  # now it is idle
        self._greenlet = idle.pop()
        self._greenlet.switch(self)

    def _throw(self, spare: Callable[[], bool]) -> None:
        if self._greenlet and not spare():
            self._greenlet.throw(gevent.GreenletExit)

    def _end(self, error: GatewayError | None) -> None:
        self._ended, self._greenlet = True, None
        over = self._over
        # Break the cycle owner → Run → callbacks → owner, else only the garbage collector would free their sockets.
        del self._over, self._function
        over(error)

    def do(self) -> None:
        """Run the function, in a pooled greenlet."""
        function = self._function
        try:
            function()
        except GatewayError as error:  # not kept in this frame: error and frame would refer to each other
            self._end(error)
        except gevent.GreenletExit:  # killed
            self._end(None)
        except BaseException:  # noqa: BLE001 - any bug of ours
            self._hub.handle_error(self, *sys.exc_info())
            self._end(InternalError())
        else:
            self._end(None)


def _serve() -> None:
    hub = gevent.get_hub()
    idle = _idle[hub]
    me = greenlet.getcurrent()
    while len(idle) < _MOST_IDLE:
        idle.append(me)
        run: Run = hub.switch()
        run.do()
        del run  # it refers to all that it has used
        me.gr_context = None  # so do its context variables
