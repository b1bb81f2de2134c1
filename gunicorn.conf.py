"""How gunicorn runs the gateway. Everything that an operator may want to change is in Settings, see README."""

from gevent import monkey

monkey.patch_all()  # before anything imports ssl, or every https call is a RecursionError

import os  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from gpt_oss_proxy.gateway.board import ROWS  # noqa: E402
from gpt_oss_proxy.settings import Settings, SettingsError  # noqa: E402

try:
    settings = Settings.from_environ(os.environ)
except SettingsError as error:
    sys.exit(f"gpt_oss_proxy cannot start: {error}")

bind = f"{settings.host}:{settings.port}"
workers = settings.web_concurrency
worker_class = "gpt_oss_proxy.worker.Worker"
worker_connections = 4096  # a connection above it would hang without a word; idle ones count
preload_app = True  # the token vocabulary (70 MB) is loaded once, and shared by all workers
timeout = 60  # a worker that does not even beat its heart is replaced
graceful_timeout = settings.graceful_timeout_seconds
keepalive = 75  # longer than nginx keeps its connections to us (60), or it would now and then send into a closed one
max_requests = 0  # a worker that retires would cut its streams
control_socket_disable = True
accesslog = None  # the gateway writes its own line for each request
errorlog = "-"
loglevel = "warning"


# Where the workers' metrics meet, also after a reload, which runs this file again. The name is prometheus_client's.
FOLDER, OURS = "PROMETHEUS_MULTIPROC_DIR", "gpt_oss_proxy-"
if FOLDER not in os.environ:
    os.environ[FOLDER] = tempfile.mkdtemp(prefix=OURS)
os.makedirs(os.environ[FOLDER], exist_ok=True)

# A chat needs two descriptors, and many systems begin with 1,024 for a process.
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
if soft != resource.RLIM_INFINITY and soft < wanted:
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Give the worker a row of its own on the board."""
    worker.app.wsgi().board.row = row_of(worker)


def post_worker_init(worker: Any) -> None:
    """Let the other workers' clients join this one's calls."""
    worker.wsgi.dispatcher.listen()


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Forget what a worker that has ended, by whatever death, had counted as running."""
    worker.app.wsgi().board.clear(row_of(worker))


def row_of(worker: Any) -> int:
    """Return the worker's row: gunicorn numbers all that it ever starts."""
    return int(worker.age) % ROWS


def on_exit(server: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Leave nothing behind."""
    if Path(os.environ[FOLDER]).name.startswith(OURS):
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def when_ready(_server: object) -> None:
    """Tell the person who started it what to try; the demo tells more itself."""
    if settings.demonstration:
        return
    base = f"http://localhost:{settings.port}"
    print(
        f"gpt_oss_proxy answers on {base} with {settings.web_concurrency} worker(s). Try:\n"
        f"""  curl {base}/v1/chat/completions -d '{{"messages": [{{"role": "user", "content": "Hello!"}}]}}'""",
        flush=True,
    )
