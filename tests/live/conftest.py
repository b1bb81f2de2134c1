"""What the live tests run: real upstream servers, and gateways as the README starts them, all on loopback.

A tool that is missing (node, npm, nginx, curl, systemd's) skips the tests that need it, by name; under CI=true it fails
them.

`make live` runs files side by side, each in one worker of pytest, where what is of the session is started once for each
worker. A test that measures time or load says so, `pytest.mark.alone`, and runs after them, with the machine to itself.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live.children import Child, free_port, wait_for
from tests.live.load.proc import workers
from tests.live.talk import Upstream
from tests.live.wire import Silent

REPOSITORY = Path(__file__).parents[2]
SERVERS = REPOSITORY / "tests/live/servers"
PYTHON = sys.executable

Start = Callable[..., Child]
StartUpstream = Callable[..., tuple[Child, Upstream]]
StartGateway = Callable[..., tuple[Child, str]]
Gateway = Callable[..., str]


def pytest_configure(config: pytest.Config) -> None:
    """Here, and not in pyproject.toml: no other tests may have the mark, for `make unit` would not heed it."""
    config.addinivalue_line("markers", "alone: measures time or load, so nothing else may run meanwhile")


def needs(tool: str) -> str:
    """Return the tool's path. Without it the test is skipped, and under CI=true it fails."""
    path = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path:
        return path
    reason = f"{tool} is missing on this machine"
    return pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@pytest.fixture(autouse=True, scope="session")
def direct() -> Iterator[None]:
    """Loopback is reached without the developer's proxy, by the SDKs and by curl too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session")
def children() -> Iterator[list[Child]]:
    running: list[Child] = []
    yield running
    for child in running:
        child.kill()  # how they end in good order is test_process.py's to show


@pytest.fixture(scope="session")
def start(children: list[Child], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a program: its output is kept, and it is ended with the session at the latest."""
    logs = tmp_path_factory.mktemp("logs")

    def start(
        name: str,
        *command: str,
        folder: Path = REPOSITORY,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        log = logs / f"{len(children)}.log"
        child = Child(name, command, folder, log, env or {}, pass_fds=pass_fds)
        children.append(child)
        return child

    return start


# The upstreams


@pytest.fixture(scope="session")
def start_chatkit(start: Start) -> StartUpstream:
    def run(port: int = 0) -> tuple[Child, Upstream]:
        child = start("ChatKit server", PYTHON, str(SERVERS / "chatkit_server.py"), "--port", str(port))
        return child, Upstream(f"http://127.0.0.1:{child.ready_port()}")

    return run


@pytest.fixture(scope="session")
def node_modules() -> None:
    """Node's packages, installed if they are missing or older than their lock file: by one of pytest's workers."""
    npm = needs("npm")
    lock, installed = SERVERS / "package-lock.json", SERVERS / "node_modules/.package-lock.json"
    with lock.open() as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            subprocess.run([npm, "ci"], cwd=SERVERS, check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="session")
def start_ai_sdk(start: Start, node_modules: None) -> StartUpstream:
    def run(port: int = 0) -> tuple[Child, Upstream]:
        child = start("AI SDK server", needs("node"), str(SERVERS / "ai_sdk_server.mjs"), "--port", str(port))
        return child, Upstream(f"http://127.0.0.1:{child.ready_port()}")

    return run


@pytest.fixture(scope="session")
def chatkit(start_chatkit: StartUpstream) -> Upstream:
    return start_chatkit()[1]


@pytest.fixture(scope="session")
def ai_sdk(start_ai_sdk: StartUpstream) -> Upstream:
    return start_ai_sdk()[1]


# The gateways


@pytest.fixture(scope="session")
def start_gateway(start: Start) -> StartGateway:
    """Start `gunicorn -c gunicorn.conf.py wsgi:app` with these settings; return it and its address."""
    gunicorn = str(Path(PYTHON).parent / "gunicorn")

    def run(**settings: str) -> tuple[Child, str]:
        port = free_port()
        env = {"WEB_CONCURRENCY": "1", "HOST": "127.0.0.1", "PORT": str(port), **settings}
        told = " ".join(f"{name}={value}" for name, value in settings.items())
        child = start(f"gateway {told}", gunicorn, "-c", "gunicorn.conf.py", "wsgi:app", env=env)
        address = f"http://127.0.0.1:{port}"
        child.wait_until_ready(lambda: answers(f"{address}/readyz"))
        # gunicorn starts them one after the other, and the first one answers already.
        wait_for("all workers", lambda: len(workers(child.process.pid)) == int(env["WEB_CONCURRENCY"]))
        return child, address

    return run


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="session")
def gateway(start_gateway: StartGateway, chatkit: Upstream, ai_sdk: Upstream) -> Gateway:
    """Return the address of a gateway with these settings, started if there is none yet.

    Unless told otherwise it stands in front of the published ChatKit dialect and of the bare data stream.
    """
    running: dict[frozenset[tuple[str, str]], str] = {}

    def find(**settings: Any) -> str:
        defaults = {
            "BASE_URL": chatkit.address,
            "CHATKIT_DIALECT": "published",
            "VERCEL_MINIMAL_API_URL": f"{ai_sdk.address}/plain/api/chat",
        }
        wanted = {**defaults, **{name: str(value) for name, value in settings.items()}}
        key = frozenset(wanted.items())
        if key not in running:
            # The one that most tests talk to has as many workers as by default.
            workers = {"WEB_CONCURRENCY": "2"} if wanted == defaults else {}
            running[key] = start_gateway(**wanted, **workers)[1]
        return running[key]

    return find


@pytest.fixture(scope="session")
def base(gateway: Gateway) -> str:
    """The address of the gateway that most tests talk to."""
    return gateway()


@pytest.fixture(scope="session")
def silent() -> Iterator[Silent]:
    """A server that takes connections and never answers."""
    with contextlib.closing(Silent()) as server:
        yield server


# What goes wrong


@pytest.fixture(autouse=True)
def no_bugs(children: list[Child]) -> Iterator[None]:
    """Whatever a test does to a gateway, the gateway itself must not stumble."""
    for child in children:
        child.shown = child.log.stat().st_size
    yield
    for child in children:
        if child.name.startswith("gateway"):
            said = child.news()
            assert "Traceback" not in said, said
            assert "internal_error" not in said, said


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show what the programs said while a failed test ran."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for child in item.funcargs.get("children", ()):
            if news := child.news():
                report.sections.append((f"log of {child.name}", news))
    return report


@pytest.fixture
def settled(chatkit: Upstream, ai_sdk: Upstream) -> None:
    """No chat of an earlier test is still running at the upstreams."""
    for upstream in (chatkit, ai_sdk):
        wait_for("the upstream to be idle", lambda upstream=upstream: upstream.connections()["open"] == 0)
