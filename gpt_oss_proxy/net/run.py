"""Functions that run in greenlets of their own, one after the other in the same ones.

A new greenlet costs as much as thirty calls of functions: the system gives it memory for its frames, and takes it back
at its end. To go on in a greenlet after a kill is no more than gevent's own time-outs do.
"""

import sys
from collections.abc import Callable
from typing import Any

import gevent
import greenlet

from gpt_oss_proxy.errors import GatewayError, InternalError

_MOST_IDLE = 256  # greenlets of a hub
_idle: dict[Any, list[greenlet.greenlet]] = {}  # of each hub


class Run:
    """A function that runs from the hub's next turn on, until it returns or is killed."""

    def __init__(self, function: Callable[[], None], over: Callable[[GatewayError | None], None]) -> None:
        """`over` is told once that it has ended: the error that it raised, InternalError for a bug, None otherwise.

        It is told in the greenlet that ran; of what is killed before it has begun, by whoever kills it.
        """
        self._function = function
        self._over = over
        self._hub = gevent.get_hub()
        self._greenlet: greenlet.greenlet | None = None
        self._ended = False
        self._hub.loop.run_callback(self._begin)

    def switch(self) -> None:
        """Let it go on, where it has switched away; nothing, if it has ended."""
        if self._greenlet:
            self._greenlet.switch()

    def kill(self, spare: Callable[[], bool] = lambda: False) -> None:
        """End it soon, whatever it waits for, unless `spare` says otherwise by then. From anywhere, and twice."""
        if self._greenlet:
            self._hub.loop.run_callback(self._throw, spare)
        elif not self._ended:
            self._end(None)

    def _begin(self) -> None:
        if self._ended:
            return
        idle = _idle.setdefault(self._hub, [])
        while idle and idle[-1].dead:  # somebody has thrown something into it
            idle.pop()
        if not idle:
            greenlet.greenlet(_serve, self._hub).switch()  # it is idle by now
        self._greenlet = idle.pop()
        self._greenlet.switch(self)

    def _throw(self, spare: Callable[[], bool]) -> None:
        if self._greenlet and not spare():
            self._greenlet.throw(gevent.GreenletExit)

    def _end(self, error: GatewayError | None) -> None:
        self._ended, self._greenlet = True, None
        over = self._over
        # Whose they are has us, too: together they would wait for the garbage collector.
        del self._over, self._function
        over(error)

    def do(self) -> None:
        """Run it, in one of the greenlets below."""
        function = self._function
        try:
            function()
        except GatewayError as error:  # not kept in this frame: they would keep each other
            self._end(error)
        except gevent.GreenletExit:  # killed
            self._end(None)
        except BaseException:  # noqa: BLE001 - a bug of ours, whatever it is
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
        del run  # it keeps all that it has used
        me.gr_context = None  # likewise its context variables
