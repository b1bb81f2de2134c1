"""The demo upstream as a program: the application on gevent's server, on loopback.

    python -m gpt_oss_proxy.demo.upstream --port 0 --model-url http://127.0.0.1:8080
    python -m gpt_oss_proxy.demo.upstream --port 0 --echo [--delay-ms 20] [--words 500]

It prints one line, `ready PORT`, as soon as it answers.
"""

from gevent import monkey

monkey.patch_all()  # before anything imports socket or ssl

import argparse  # noqa: E402  (gevent wants to patch first)
import socket  # noqa: E402
from types import TracebackType  # noqa: E402
from wsgiref.types import WSGIEnvironment  # noqa: E402

import gevent  # noqa: E402
from gevent.pywsgi import WSGIHandler, WSGIServer  # noqa: E402

from .application import CLIENT_SOCKET, ClientGone, application  # noqa: E402
from .conversation import Answer, ConnectionCut  # noqa: E402
from .echo import echo  # noqa: E402
from .model_client import ask_model  # noqa: E402


class _Handler(WSGIHandler):
    def get_environ(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environ()
        environ[CLIENT_SOCKET] = self.socket
        return environ

    def handle_error(self, t: type[BaseException] | None, v: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(v, ConnectionCut) and not self.headers_sent:
            self.write(b"")
        if isinstance(v, ConnectionCut | ClientGone):
            self.close_connection = True  # without the last chunk, like the real server
        else:
            super().handle_error(t, v, tb)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gpt_oss_proxy.demo.upstream", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    answers = parser.add_mutually_exclusive_group(required=True)
    answers.add_argument("--model-url", help="an OpenAI-compatible server's root, without /v1")
    answers.add_argument("--echo", action="store_true", help="no model: the last user text comes back word by word")
    parser.add_argument("--delay-ms", type=float, default=0, help="with --echo: milliseconds between two words")
    parser.add_argument("--words", type=int, help="with --echo: that many words, whatever is asked")
    return parser.parse_args()


def _answer(arguments: argparse.Namespace) -> Answer:
    if arguments.echo:
        return echo(arguments.delay_ms / 1000, arguments.words, gevent.sleep)
    return ask_model(arguments.model_url)


def main() -> None:
    """Serve until the process is ended."""
    arguments = _arguments()
    listener = socket.create_server(("127.0.0.1", arguments.port), backlog=1024)
    server = WSGIServer(listener, application(_answer(arguments)), handler_class=_Handler, log=None)
    server.start()
    print("ready", server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
