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
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILT = HERE / "build"
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
    """`start` takes (port, the upstream's port, folder, workers); None = the upstream itself is asked."""

    name: str
    start: Callable[[int, int, Path, int], Start] | None
    path: str = "/v1/chat/completions"
    model: str = "m"
    headers: Callable[[int], Mapping[str, str]] = lambda _upstream: {}


@dataclass(frozen=True)
class Running:
    """A system that answers at `port`; `group` is its process group, 0 if it has none."""

    system: System
    port: int
    upstream: int
    group: int


def _nginx(port: int, upstream: int, folder: Path, workers: int) -> Start:
    configuration = f"""daemon off; worker_processes {workers}; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 10000000;
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 10000000; }}
    server {{
        listen 127.0.0.1:{port};
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


def _product(python: str = sys.executable, **environment: str) -> Callable[[int, int, Path, int], Start]:
    def start(port: int, upstream: int, _folder: Path, workers: int) -> Start:
        command = [python, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
        own = {"HOST": "127.0.0.1", "PORT": str(port), "WEB_CONCURRENCY": str(workers)}
        return Start(
            command, ROOT, own | {name: value.format(upstream=upstream) for name, value in environment.items()}
        )

    return start


DIRECT = System("direct", None)
NGINX = System("nginx raw", _nginx)
LITELLM = System("LiteLLM", _litellm)
PORTKEY = System("Portkey", _portkey, headers=_portkey_headers)
NAIVE = System("naive", _naive)
CHATKIT = System("ChatKit", _product(BASE_URL="http://127.0.0.1:{upstream}"), model="gpt-oss-20b")
PRODUCT: tuple[System, ...] = (
    CHATKIT,
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


@contextmanager
def running_upstream(cores: set[int]) -> Iterator[int]:
    """Run the mock upstream, and give its port."""
    port = _free_port()
    with _process(Start([str(BUILT / "upstream"), str(port)], ROOT), cores) as upstream:
        _wait_for(port, upstream)
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
