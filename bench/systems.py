"""The systems that are measured: how each is started, and how it is asked. All speak chat completions."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILT = HERE / "build"
CERTIFICATE = BUILT / "upstream.pem"  # with its key; of 127.0.0.1, signed by itself
_INSIDE = HERE / "inside"  # in a measured worker's PYTHONPATH
_START_SECONDS = 120
_END_SECONDS = 15


@dataclass(frozen=True)
class Start:
    """A program to run in `folder`, with what it needs in its environment and in files there: name → text."""

    command: list[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """`start` takes (port, the upstream's port, folder, workers); None = the upstream itself is asked.

    `fields` are further ones of each request; `tls` says that the upstream's port must speak TLS.
    """

    name: str
    start: Callable[[int, int, Path, int], Start] | None
    path: str = "/v1/chat/completions"
    model: str = "m"
    headers: Callable[[int], Mapping[str, str]] = lambda _upstream: {}
    fields: Mapping[str, Any] = field(default_factory=dict)
    tls: bool = False


@dataclass(frozen=True)
class Running:
    """A system that answers at `port`; `group` is its process group, 0 if it has none."""

    system: System
    port: int
    upstream: int
    group: int


def _nginx(port: int, upstream: int, folder: Path, workers: int, tls: str = "") -> Start:
    configuration = f"""daemon off; worker_processes {workers}; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 10000000;
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 10000000; }}
    server {{
        listen 127.0.0.1:{port} {tls};
        location / {{
            proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        }}
    }}
}}
"""
    return Start(
        ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, {}, {"nginx.conf": configuration}
    )


def _litellm(port: int, upstream: int, folder: Path, workers: int) -> Start:
    model = {"model": "openai/m", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    listed = json.dumps({"model_list": [{"model_name": "m", "litellm_params": model}]})  # JSON is YAML
    command = [str(HERE / ".litellm/bin/litellm"), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", str(workers), "--telemetry", "False"]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    quiet["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # none of the systems asks for a key
    return Start(command, folder, quiet, {"config.yaml": listed})


def _portkey(port: int, _upstream: int, folder: Path, _workers: int) -> Start:
    # package.json holds @hono/node-server at 1.3.3: with later ones each of its streams is a 500 ("immutable" headers).
    server = HERE / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return Start(["node", str(server), "--headless", f"--port={port}"], folder, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1"})


def _portkey_headers(upstream: int) -> Mapping[str, str]:
    host = f"http://127.0.0.1:{upstream}/v1"
    return {"Authorization": "Bearer none", "x-portkey-provider": "openai", "x-portkey-custom-host": host}


def _naive(port: int, upstream: int, folder: Path, workers: int) -> Start:
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gevent", "--workers", str(workers), "--bind"]
    command += [f"127.0.0.1:{port}", "--worker-connections", "4000", "--timeout", "600", "--no-control-socket"]
    # In a folder of its own, where gunicorn does not find the product's configuration.
    environment = {"BASE_URL": f"http://127.0.0.1:{upstream}", "PYTHONPATH": str(ROOT)}
    return Start([*command, "bench.naive:app"], folder, environment)


def _product(
    python: str = sys.executable, tree: Path = ROOT, **environment: str
) -> Callable[[int, int, Path, int], Start]:
    def start(port: int, upstream: int, _folder: Path, workers: int) -> Start:
        command = [python, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
        own = {"HOST": "127.0.0.1", "PORT": str(port), "WEB_CONCURRENCY": str(workers)}
        return Start(
            command, tree, own | {name: value.format(upstream=upstream) for name, value in environment.items()}
        )

    return start


# What openai-python 3.54 says of itself with each request.
_SDK_HEADERS = {
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "false",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
# A tool is offered and a stop word is set, and the answer is plain text all the same: what most turns of an agent cost.
TOOLS_AND_STOP: Mapping[str, Any] = {
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Return the weather of a city.",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
                    "required": ["city"],
                },
            },
        }
    ],
    "stop": ["\nUser:"],
}
_KEY = "a-key-of-the-benchmark"
# What the product is run with, beside nothing at all.
CONFIGURATIONS: Mapping[str, frozenset[str]] = {
    "plain": frozenset(),
    "sdk": frozenset({"sdk"}),
    "keys": frozenset({"keys"}),
    "tls": frozenset({"tls"}),
    "all": frozenset({"sdk", "keys", "tls"}),
    "tools": frozenset({"tools"}),
}


def chatkit(name: str, configuration: str = "plain", tree: Path = ROOT, **environment: str) -> System:
    """Return the product over ChatKit in a configuration. `environment` is added to its own; see `Start`."""
    having = CONFIGURATIONS[configuration]
    headers = dict(_SDK_HEADERS) if "sdk" in having else {}
    environment = {"BASE_URL": "http://127.0.0.1:{upstream}", "PYTHONPATH": str(_INSIDE), **environment}
    if "keys" in having:
        environment["API_KEYS"] = _KEY
        headers["Authorization"] = f"Bearer {_KEY}"
    if "tls" in having:
        environment["BASE_URL"] = "https://127.0.0.1:{upstream}"
        environment["BENCH_TRUSTS"] = str(CERTIFICATE)
    return System(
        name,
        _product(tree=tree, **environment),
        model="gpt-oss-20b",
        headers=lambda _: headers,
        fields=TOOLS_AND_STOP if "tools" in having else {},
        tls="tls" in having,
    )


DIRECT = System("direct", None)
NGINX = System("nginx raw", _nginx)
LITELLM = System("LiteLLM", _litellm)
PORTKEY = System("Portkey", _portkey, headers=_portkey_headers)
NAIVE = System("naive", _naive)
CHATKIT = chatkit("ChatKit")
PRODUCT: tuple[System, ...] = (
    CHATKIT,
    chatkit("ChatKit, SDK headers", "sdk"),
    chatkit("ChatKit, API keys", "keys"),
    chatkit("ChatKit, TLS", "tls"),
    chatkit("ChatKit, all three", "all"),
    System(
        "AI SDK 4",
        _product(VERCEL_MINIMAL_API_URL="http://127.0.0.1:{upstream}/data-stream"),
        model="gpt-4o-mini",
    ),
    System(
        "AI SDK 5",
        _product(VERCEL_MINIMAL_API_URL="http://127.0.0.1:{upstream}/ui-stream", AI_SDK_MESSAGE_FORMAT="parts"),
        model="gpt-4o-mini",
    ),
    System("openai", _product(OPENAI_BASE_URL="http://127.0.0.1:{upstream}/v1", OPENAI_MODELS="m")),
)
# The same on the system's own Python, if that is another one than ours; see Makefile.
_SYSTEM_PYTHON = HERE / ".python/bin/python"
if _SYSTEM_PYTHON.exists():
    PRODUCT += (
        System(
            "ChatKit, /usr/bin/python3",
            _product(str(_SYSTEM_PYTHON), BASE_URL="http://127.0.0.1:{upstream}"),
            model="gpt-oss-20b",
        ),
    )
PEERS = (NGINX, LITELLM, PORTKEY, NAIVE)
_TLS = f"ssl; ssl_protocols TLSv1.3; ssl_certificate {CERTIFICATE}; ssl_certificate_key {CERTIFICATE}"
_TLS_FRONT = System("nginx with TLS", partial(_nginx, tls=_TLS))


@contextmanager
def running_upstream(cores: set[int], *, tls: bool = False) -> Iterator[int]:
    """Run the mock upstream, if asked for behind an nginx that speaks TLS, and give its port."""
    port = _free_port()
    with _process(Start([str(BUILT / "upstream"), str(port)], ROOT), cores) as upstream:
        _wait_for(port, upstream)
        if tls:
            with running(_TLS_FRONT, port, cores) as front:
                yield front.port
        else:
            yield port


@contextmanager
def running(system: System, upstream: int, cores: set[int], workers: int = 1) -> Iterator[Running]:
    """Run a system on these cores until its port is open. Raises RuntimeError with its log if it never is."""
    if system.start is None:
        yield Running(system, upstream, upstream, 0)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        port, folder = _free_port(), Path(name)
        start = system.start(port, upstream, folder, workers)
        for file, text in start.files.items():
            (folder / file).write_text(text)
        with _process(start, cores) as process:
            _wait_for(port, process)
            yield Running(system, port, upstream, process.pid)


@contextmanager
def _process(start: Start, cores: set[int]) -> "Iterator[subprocess.Popen[bytes]]":
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    kept["PATH"] = kept.get("PATH", "") + ":/usr/sbin"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            start.command,
            cwd=start.folder,
            env={**kept, **start.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            yield process
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    due = time.monotonic() + _START_SECONDS
    while time.monotonic() < due and process.poll() is None:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def _free_port() -> int:
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        return int(attempt.getsockname()[1])
