"""Flask without what nobody uses is still Flask to whoever writes a view."""

import functools
import gc
import weakref
from contextlib import ExitStack
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask, Request, after_this_request, g, has_request_context, request, session
from flask.testing import FlaskClient
from werkzeug.exceptions import NotFound
from werkzeug.test import EnvironBuilder

from gpt_oss_proxy.blueprints.lean_flask import LeanFlask, without_context
from gpt_oss_proxy.blueprints.reply import Chat


def views(app: Flask, *, hooks: bool) -> Flask:
    """Register what a view may want: variable parts, hooks of the app and of a blueprint, error handlers."""
    told: list[str] = []
    routes = Blueprint("routes", __name__, url_prefix="/v1")

    @routes.get("/items/<path:name>")
    def item(name: str) -> dict[str, Any]:
        return {"name": name, "method": request.method, "told": list(told)}

    @routes.get("/plain")
    def plain() -> tuple[str, int]:
        return f"{g.get('before')}", 201

    @routes.get("/once")
    def once() -> Any:
        @after_this_request
        def after(response: Any) -> Any:
            response.headers["After"] = "this one"
            return response

        return app.response_class("once")

    @routes.get("/bug")
    def bug() -> str:
        raise LookupError("bug")

    if hooks:
        routes.before_request(lambda: told.append("before"))
        routes.url_value_preprocessor(lambda endpoint, values: told.append(f"{endpoint} {values}"))
        app.teardown_request(lambda _error: told.append("request over"))
        app.teardown_appcontext(lambda _error: told.append("context over"))

        @app.after_request
        def after(response: Any) -> Any:
            response.headers["After"] = "yes"
            return response

        @app.before_request
        def before() -> None:
            g.before = "begun"

    @app.errorhandler(LookupError)
    def lookup(error: LookupError) -> tuple[str, int]:
        return str(error), 418

    @app.errorhandler(NotFound)
    def nothing(_error: NotFound) -> tuple[str, int]:
        return "nothing", 404

    app.register_blueprint(routes)
    return app


def asked(client: FlaskClient) -> list[tuple[int, bytes, str | None]]:
    """What both kinds answer to a few requests, each asked twice."""
    paths = ["/v1/plain", "/v1/items/a/b", "/v1/items/c", "/v1/once", "/v1/bug", "/nope", "/v1/plain", "/v1/items/d"]
    found = [client.get(path) for path in paths for _ in range(2)]
    found += [client.post("/v1/plain"), client.head("/v1/plain"), client.options("/v1/plain")]
    return [(response.status_code, response.data, response.headers.get("After")) for response in found]


@pytest.mark.parametrize("hooks", [False, True])
def test_hooks_errors_and_variable_parts_work_as_in_flask(hooks: bool) -> None:
    lean, plain = (asked(views(kind("a"), hooks=hooks).test_client()) for kind in (LeanFlask, Flask))
    assert lean == plain


SIGNALS = [
    "appcontext_pushed",
    "request_started",
    "request_finished",
    "request_tearing_down",
    "appcontext_tearing_down",
    "appcontext_popped",
]


@pytest.mark.parametrize("names", [*([name] for name in SIGNALS), SIGNALS], ids=" ".join)
def test_signals_are_sent_as_by_flask(names: list[str]) -> None:
    def heard(app: Flask) -> list[str]:
        told: list[str] = []
        with ExitStack() as stack:
            for name in names:
                signal = getattr(flask, name)
                stack.enter_context(signal.connected_to(lambda _app, name=name, **_told: told.append(name), app))
            asked(app.test_client())
        return told

    lean, plain = (heard(views(kind("a"), hooks=False)) for kind in (LeanFlask, Flask))
    assert lean == plain
    assert set(lean) == set(names)


def test_without_hooks_it_answers_too() -> None:
    app = LeanFlask("a")
    app.add_url_rule("/", "root", lambda: "ok")
    assert (app.test_client().get("/").data, app.test_client().get("/").status_code) == (b"ok", 200)


def test_a_client_s_cookie_is_no_session() -> None:
    app = LeanFlask("a")
    app.add_url_rule("/", "root", lambda: str(dict(session)))
    response = app.test_client().get("/", headers={"Cookie": "session=eyJhIjoxfQ.x.y"})
    assert (response.data, response.headers.get("Set-Cookie")) == (b"{}", None)


def test_what_is_known_of_paths_does_not_grow_without_end() -> None:
    app = LeanFlask("a")
    app.url_map.merge_slashes = False
    app.add_url_rule("/x", "x", lambda: "x")
    app.add_url_rule("/items/<name>", "item", lambda name: name)
    client = app.test_client()
    for number in range(10):
        assert client.get(f"/items/{number}").data == str(number).encode()
        assert client.open("/", environ_overrides={"PATH_INFO": "/" * (number + 1) + "x"}).data == b"x"
        assert client.open("/x", method=f"BREW-{number}").status_code == 405
    assert list(app._known_routes) == [("GET", "/x")]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_method_is_found_for_itself(method: str) -> None:
    app = LeanFlask("a")
    app.add_url_rule("/", "get", lambda: "get", methods=["GET"])
    app.add_url_rule("/", "post", lambda: "post", methods=["POST"])
    client = app.test_client()
    assert client.post("/").data == b"post"
    assert client.open("/", method=method).data == (b"get" if method == "GET" else b"")
    assert client.put("/").status_code == 405


# Views without a context


class Bare:
    """An application with a view that needs no context, and what it was called with."""

    def __init__(self) -> None:
        self.app = LeanFlask("a")
        self.contexts: list[bool] = []
        self.app.add_url_rule("/say", "say", without_context(self.say), methods=["POST"])

        @self.app.errorhandler(LookupError)
        def lookup(_error: LookupError) -> tuple[str, int]:
            return f"none at {request.path}", 404

    def say(self, environ: dict[str, Any]) -> Chat:
        asked = Request(environ, populate_request=False)
        self.contexts.append(has_request_context())
        if asked.args.get("fail"):
            raise LookupError
        return Chat((asked.get_data(), b"!"), "text/plain", ("Method", asked.method))

    def post(self, query: str = "") -> tuple[int, bytes, str | None]:
        response = self.app.test_client().post(f"/say{query}", data=b"Hi")
        return response.status_code, response.data, response.headers.get("Method")


def test_a_view_without_a_context_is_called_directly_once_its_path_is_known() -> None:
    bare = Bare()
    assert [bare.post() for _ in range(3)] == [(200, b"Hi!", "POST")] * 3
    assert bare.contexts == [True, False, False]


def test_its_errors_have_a_context() -> None:
    bare = Bare()
    bare.post()
    assert bare.post("?fail=1") == (404, b"none at /say", None)
    assert bare.contexts == [True, False]


def test_an_error_that_no_handler_is_for_is_told_to_those_who_listen_and_is_a_500() -> None:
    def fail(_environ: dict[str, Any]) -> Chat:
        raise ValueError("a bug")

    bare = Bare()
    bare.app.add_url_rule("/fail", "fail", without_context(fail))
    told: list[str] = []
    with flask.got_request_exception.connected_to(lambda _app, exception: told.append(str(exception)), bare.app):
        assert [bare.app.test_client().get("/fail").status_code for _ in range(2)] == [500, 500]
    assert told == ["a bug", "a bug"]


HOOKS = ["url_value_preprocessor", "before_request", "after_request", "teardown_request", "teardown_appcontext"]


@pytest.mark.parametrize(
    ("hook", "of_a_blueprint"), [*((hook, False) for hook in HOOKS), *((hook, True) for hook in HOOKS[:-1])]
)
def test_where_there_are_hooks_it_is_called_as_flask_would(hook: str, of_a_blueprint: bool) -> None:
    bare = Bare()
    called: list[object] = []
    routes = Blueprint("routes", __name__)
    owner: Any = routes if of_a_blueprint else bare.app
    getattr(owner, hook)(lambda *told: called.append(told) or (told[0] if hook == "after_request" else None))
    routes.add_url_rule("/say", "say", without_context(bare.say), methods=["PUT"])
    bare.app.register_blueprint(routes)
    for _ in range(2):
        assert bare.app.test_client().put("/say", data=b"Hi").data == b"Hi!"
    assert (bare.contexts, len(called)) == ([True, True], 2)


@pytest.mark.parametrize("name", SIGNALS)
def test_where_a_signal_is_waited_for_it_is_called_as_flask_would(name: str) -> None:
    bare = Bare()
    called: list[object] = []
    with getattr(flask, name).connected_to(lambda *told, **_told: called.append(told), bare.app):
        assert [bare.post() for _ in range(2)] == [(200, b"Hi!", "POST")] * 2
    assert (bare.contexts, len(called)) == ([True, True], 2)
    bare.post()
    assert bare.contexts == [True, True, False]


def test_what_is_wrapped_around_it_is_called_too() -> None:
    bare = Bare()
    inner = bare.app.view_functions["say"]

    @functools.wraps(inner)
    def guarded() -> Any:
        return inner() if request.headers.get("Key") else ("no key", 401)

    bare.app.view_functions["say"] = guarded
    client = bare.app.test_client()
    for _ in range(2):
        assert client.post("/say", data=b"Hi").status_code == 401
        assert client.post("/say", data=b"Hi", headers={"Key": "x"}).status_code == 200


def test_another_method_of_a_known_path_is_refused() -> None:
    bare = Bare()
    bare.post()
    assert bare.app.test_client().get("/say").status_code == 405


def test_a_request_without_a_context_leaves_nothing_to_the_garbage_collector() -> None:
    class Thing:
        pass

    bare = Bare()
    bare.post()
    environ = EnvironBuilder("/say", method="POST", data=b"Hi").get_environ()
    thing = environ["thing"] = Thing()
    alive = weakref.ref(thing)
    gc.disable()
    try:
        bare.app(environ, lambda *_: lambda _: None)
        del thing, environ
        assert alive() is None
    finally:
        gc.enable()
