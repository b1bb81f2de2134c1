"""What operators, probes and the curious ask: /, /healthz, /readyz, /metrics."""

from flask import Blueprint, Response, jsonify, request

from gpt_oss_proxy import __version__
from gpt_oss_proxy.blueprints.reply import Reply
from gpt_oss_proxy.errors import ShuttingDown
from gpt_oss_proxy.gateway.dispatch import Dispatcher
from gpt_oss_proxy.gateway.observe.metrics import Metrics
from gpt_oss_proxy.gateway.router import Router

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>gpt_oss_proxy</title>
<body style="font: 1rem/1.5 system-ui; max-width: 40rem; margin: 4rem auto; padding: 0 1rem">
<h1>gpt_oss_proxy</h1>
<p>An OpenAI-compatible API. Point any OpenAI client at <code>{base}v1</code>; no key is needed by default.</p>
<pre>curl {base}v1/chat/completions -d '{{"messages": [{{"role": "user", "content": "Hello!"}}]}}'</pre>
<p><a href="/v1/models">models</a> · <a href="/healthz">healthz</a> · <a href="/readyz">readyz</a></p>
"""
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


def blueprint(dispatcher: Dispatcher, router: Router, metrics: Metrics, commit: str) -> Blueprint:
    """Return the routes. `commit` is what was built, or ''."""
    routes = Blueprint("operations", __name__)

    @routes.get("/")
    def root() -> Response:
        # curl and probes say */* or nothing; only a browser names HTML.
        if "text/html" in list(request.accept_mimetypes.values()):
            response = Reply(_PAGE.format(base=_base()), mimetype="text/html", headers=_PAGE_HEADERS)
        else:
            response = Reply("ok\n", mimetype="text/plain")
        response.vary.add("Accept")
        return response

    @routes.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok", "version": __version__, **({"commit": commit} if commit else {})})

    @routes.get("/readyz")
    def readyz() -> Response:
        if dispatcher.draining:
            raise ShuttingDown
        # A circuit that is open makes no process unready: the other upstreams' models are still served.
        circuits = {gate.upstream.name: gate.breaker.state for gate in router.gates}
        return jsonify({"status": "ready", "circuits": circuits})

    @routes.get("/metrics")
    def show_metrics() -> Response:
        return Reply(metrics.text(), content_type=metrics.content_type)

    return routes


def _base() -> str:
    """Return this server's URL as the browser sees it; the Host header is the client's own, so it is escaped."""
    host = request.host if all(character.isalnum() or character in ".-:[]" for character in request.host) else ""
    return f"{request.scheme}://{host}/" if host else "/"
