"""Flask without what is not used here: sessions, hosts, and the search for hooks and signals that are not there.

Flask stays what it is for the authors of views: routes, contexts, error handlers, hooks and signals work as its
documentation has it. Only what it does for each request in case somebody might want it is left out: sessions are not
opened or saved, and a request's host and subdomain choose no route. A view that wants nothing of Flask but its request
may be called without a context, too: see `without_context`.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import (
    Flask,
    Request,
    Response,
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request,
    request_finished,
    request_started,
    request_tearing_down,
)
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface
from flask.typing import ResponseReturnValue
from werkzeug.routing import Map, MapAdapter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

BareView = Callable[["WSGIEnvironment"], "WSGIApplication"]


class _WithoutContext:
    """A view that LeanFlask knows by its class: an attribute would be copied to what is wrapped around it."""

    def __init__(self, bare: BareView) -> None:
        self.bare = bare

    def __call__(self) -> "WSGIApplication":
        return self.bare(request.environ)


def without_context(bare: BareView) -> Callable[[], "WSGIApplication"]:
    """Return a view for Flask that hands the request's WSGI environment to `bare`, which needs nothing else of Flask.

    Where no hook or signal wants to know of each request, `bare` is called directly, once its path is known. Error
    handlers have a context either way.
    """
    return _WithoutContext(bare)


class _NoSessions(SessionInterface):
    """Nothing is kept for a client between its requests."""

    _none = NullSession()

    def open_session(self, _app: Flask, _request: Request) -> NullSession:
        """Return no session, the same to all."""
        return self._none


class _Routes(MapAdapter):
    """Finds the view of a path and method, those that it has found before by a look-up."""

    def __init__(self, routes: Map, asked: Request, known: dict[tuple[str, str], Any]) -> None:
        super().__init__(routes, "", "", "", "http", asked.path, asked.method)
        self._known = known

    def match(self, *arguments: Any, **options: Any) -> Any:
        """See MapAdapter."""
        if arguments or options != {"return_rule": True}:
            return super().match(*arguments, **options)
        key = self.default_method, self.path_info
        found = self._known.get(key)
        if found is None:
            found = super().match(return_rule=True)
            if not found[1]:  # a path without variable parts: of these there are as many as rules
                self._known[key] = found
        return found


class LeanFlask(Flask):
    """See the module."""

    session_interface = _NoSessions()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known_routes: dict[tuple[str, str], Any] = {}

    def wsgi_app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        known = self._known_routes.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        view = self.view_functions[known[0].endpoint] if known else None
        if not isinstance(view, _WithoutContext) or self._is_watched():
            return super().wsgi_app(environ, start_response)
        try:
            response = view.bare(environ)
        except Exception as error:  # noqa: BLE001 - the error handlers have one for each
            with self.request_context(environ):
                try:
                    response = self._finished(self.handle_user_exception(error))
                except Exception as unhandled:  # noqa: BLE001 - there was none for it
                    response = self.handle_exception(unhandled)
        return response(environ, start_response)

    def _is_watched(self) -> bool:
        """Return whether anything of Flask's is to be called for each request."""
        return bool(
            self.url_value_preprocessors
            or self.before_request_funcs
            or self.after_request_funcs
            or self.teardown_request_funcs
            or self.teardown_appcontext_funcs
            or appcontext_pushed.receivers
            or request_started.receivers
            or request_finished.receivers
            or request_tearing_down.receivers
            or appcontext_tearing_down.receivers
            or appcontext_popped.receivers
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take every function for what it is: nothing here is async, and Flask would look at each request."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds a view by the path alone."""
        return _Routes(self.url_map, request, self._known_routes) if request else super().create_url_adapter(None)

    def full_dispatch_request(self) -> Response:
        """Answer a request, without signals that have no receiver."""
        if request_started.receivers or request_finished.receivers:
            return super().full_dispatch_request()
        try:
            returned = self.preprocess_request()
            if returned is None:
                returned = self.dispatch_request()
        except Exception as error:  # noqa: BLE001 - the error handlers have one for each
            returned = self.handle_user_exception(error)
        return self._finished(returned)

    def _finished(self, returned: Any) -> Response:
        if callable(returned) and not (self.after_request_funcs or request_ctx._after_request_functions):
            return cast(Response, returned)  # no after_request hook looks at it, so any WSGI callable may be returned
        return self.process_response(self.make_response(returned))

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Run what comes before a request."""
        return super().preprocess_request() if self.before_request_funcs or self.url_value_preprocessors else None

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Run what ends a request."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(exc)

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """Run what ends a context."""
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            super().do_teardown_appcontext(exc)
