"""How gunicorn runs the gateway. What an operator may want to change is in Settings, see docs/configuration.md."""

from gevent import monkey

monkey.patch_all()  # before anything imports ssl, or every https call is a RecursionError

import atexit  # noqa: E402
import contextlib  # noqa: E402
import gc  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from gpt_oss_proxy.config.misspelt import near_misses  # noqa: E402
from gpt_oss_proxy.config.settings import Settings, SettingsError  # noqa: E402
from gpt_oss_proxy.net.output import STDERR, STDOUT, text_of  # noqa: E402

# Before gunicorn takes them for its log: a reader that stalls, or a full disk, must not stop the master or a worker.
sys.stdout, sys.stderr = sys.stdout and text_of(STDOUT), sys.stderr and text_of(STDERR)

gevent.config.track_greenlet_tree = False  # else each greenlet keeps the stack that it was spawned from, for debuggers

# First: it may be the cause of the error that follows.
for name, meant in near_misses(os.environ, Settings.variables()).items():
    print(f"gpt_oss_proxy does not read {name}. Is {meant} meant?", file=sys.stderr or sys.stdout, flush=True)
try:
    settings = Settings.from_environ(os.environ)
except SettingsError as error:
    sys.exit(f"gpt_oss_proxy cannot start: {error}")

bind = f"{settings.host}:{settings.port}"
workers = settings.web_concurrency
worker_class = "gpt_oss_proxy.net.server.worker.Worker"
# A connection above it would hang without a word; idle ones count, and all requests may meet in one worker.
worker_connections = settings.max_requests + 4096
preload_app = True  # the token vocabulary (70 MB) is loaded once, and shared by all workers
timeout = 60  # a worker that does not even beat its heart is replaced
graceful_timeout = settings.graceful_timeout_seconds
keepalive = 75  # longer than nginx keeps its connections to us (60), or it would now and then send into a closed one
max_requests = 0  # a worker that retires would cut its streams
control_socket_disable = True
accesslog = None  # the gateway writes its own line for each request
errorlog = "-"
loglevel = "warning"


# Where the workers meet: counts, and answers that other workers may get. The name is prometheus_client's. A reload runs
# this file again and keeps the folder; the master of an upgrade (USR2) inherits the variable, and makes its own folder.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
OURS = f"gpt_oss_proxy-{os.getpid()}-"
if not Path(os.environ.get(FOLDER, "")).name.startswith(OURS):
    os.environ[FOLDER] = tempfile.mkdtemp(prefix=OURS)

# Only now: what it imports decides by the variable whether counts are those of all workers.
from gpt_oss_proxy.banner import banner  # noqa: E402


@atexit.register
def leave_nothing_behind() -> None:
    """Remove the folder, when its maker ends; workers and other masters come here, too."""
    folder = Path(os.environ[FOLDER])
    if folder.name.startswith(f"gpt_oss_proxy-{os.getpid()}-"):
        shutil.rmtree(folder, ignore_errors=True)


# A chat needs two descriptors, and many systems begin with 1,024 for a process.
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
if soft != resource.RLIM_INFINITY and soft < wanted:
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pre_fork(server: Any, worker: Any) -> None:
    """Choose a row of the board that no living worker has."""
    # What was loaded lives as long as the process: the garbage collector need not look at it again and again.
    gc.freeze()
    worker.row = worker.app.wsgi().board.choose({other.row for other in server.WORKERS.values()})


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Give the worker its row."""
    worker.app.wsgi().board.row = worker.row


def post_worker_init(worker: Any) -> None:
    """Make room for the worker's counts, and let the other workers' clients get its answers."""
    try:
        worker.wsgi.metrics.reserve()
    except OSError as error:
        worker.log.error("No metrics of this worker: %s", error)
    worker.wsgi.dispatcher.listen()


def worker_exit(server: Any, worker: Any) -> None:
    """Do the same for a worker that the master found gone: gunicorn calls this one then, as it does in each worker."""
    if worker.pid != os.getpid():
        child_exit(server, worker)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Forget what a worker that has ended, by whatever death, had counted as running, and remove what it has left."""
    app = worker.app.wsgi()
    with contextlib.ExitStack() as leaving:  # each runs, whatever the others do
        leaving.callback(app.metrics.forget, worker.pid)
        leaving.callback(app.dispatcher.bury, worker.pid)
        leaving.callback(app.board.clear, worker.row)


def _reached_by(listener: Any) -> tuple[str, str]:
    """Return a listener's address for people, and as curl takes it: an inherited one is not where Settings say."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}", f"--unix-socket {name} http://localhost"
    host, port = name[:2]
    if host in ("0.0.0.0", "::", "127.0.0.1", "::1"):  # noqa: S104 - compared, not bound
        host = "localhost"
    base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return base, base


def when_ready(server: Any) -> None:
    """Tell the person who started it what to try; the demo tells more itself."""
    if settings.demonstration:
        return
    base, curl = _reached_by(server.LISTENERS[0])
    print(banner(settings, server.app.wsgi().upstreams, base, curl), flush=True)
