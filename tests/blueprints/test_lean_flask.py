"""Flask without what nobody uses is still Flask to whoever writes a view."""

import gc
import weakref
from typing import Any

import pytest
from flask import Blueprint, Flask, Request, g, has_request_context, request, session
from flask.testing import FlaskClient
from werkzeug.exceptions import NotFound
from werkzeug.test import EnvironBuilder

from gpt_oss_proxy.blueprints.lean_flask import LeanFlask, without_context
from gpt_oss_proxy.blueprints.reply import Chat


def views(app: Flask) -> Flask:
    """Register what a view may want: variable parts, hooks of the app and of a blueprint, error handlers."""
    told: list[str] = []
    routes = Blueprint("routes", __name__, url_prefix="/v1")

    @routes.get("/items/<path:name>")
    def item(name: str) -> dict[str, Any]:
        return {"name": name, "method": request.method, "told": list(told)}

    @routes.get("/plain")
    def plain() -> tuple[str, int]:
        return f"{g.get('before')}", 201

    @routes.get("/bug")
    def bug() -> str:
        raise LookupError("bug")

    routes.before_request(lambda: told.append("before"))
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
    paths = ["/v1/plain", "/v1/items/a/b", "/v1/items/c", "/v1/bug", "/nope", "/v1/plain"]
    found = [client.get(path) for path in paths for _ in range(2)]
    found += [client.post("/v1/plain"), client.head("/v1/plain"), client.options("/v1/plain")]
    return [(response.status_code, response.data, response.headers.get("After")) for response in found]


def test_hooks_errors_and_variable_parts_work_as_in_flask() -> None:
    assert asked(views(LeanFlask("a")).test_client()) == asked(views(Flask("b")).test_client())


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


@pytest.mark.parametrize("hook", ["before_request", "after_request", "teardown_request"])
def test_where_there_are_hooks_it_is_called_as_flask_would(hook: str) -> None:
    bare = Bare()
    called: list[object] = []
    getattr(bare.app, hook)(lambda *told: called.append(told) or (told[0] if hook == "after_request" else None))
    assert [bare.post() for _ in range(2)] == [(200, b"Hi!", "POST")] * 2
    assert (bare.contexts, len(called)) == ([True, True], 2)


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
