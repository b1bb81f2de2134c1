"""What deploy/ and the Dockerfile say, played with the tools that will read it: systemd's own checks, and a gateway."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.children import free_port
from tests.live.conftest import PYTHON, REPOSITORY, StartGateway, needs
from tests.upstreams.raw_server import RawServer, with_length

SERVICE, SOCKET = (REPOSITORY / f"deploy/gpt-oss-proxy.{kind}" for kind in ("service", "socket"))
MOST_EXPOSED = 20  # tenths, of 100; it is 17, and a service without any of it has 96


@pytest.fixture
def unit(tmp_path: Path) -> Callable[..., list[str]]:
    """Write the units as they are installed, but for the folder: this one, with its Python. Return their paths."""

    def write(old: str = "", new: str = "") -> list[str]:
        text = SERVICE.read_text().replace("/opt/gpt_oss_proxy/.venv/bin/gunicorn", f"{Path(PYTHON).parent}/gunicorn")
        assert old in text
        for path, words in ((SERVICE, text.replace(old, new)), (SOCKET, SOCKET.read_text())):
            (tmp_path / path.name).write_text(words)
        return [str(tmp_path / path.name) for path in (SERVICE, SOCKET)]

    return write


def analyze(*arguments: str) -> tuple[int, str]:
    """Return the exit status of systemd-analyze, and what it says."""
    command = [needs("systemd-analyze"), "--no-pager", *arguments]
    checked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return checked.returncode, checked.stdout


def test_systemd_has_nothing_to_say_against_the_units(unit: Callable[..., list[str]]) -> None:
    assert analyze("--man=no", "verify", *unit()) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("OOMPolicy=continue", "OOMPolicy=carry-on", "carry-on"),
        ("SystemCallFilter=", "SystemCalFilter=", "SystemCalFilter"),
        ("/gunicorn -c", "/gunicorm -c", "gunicorm"),
    ],
)
def test_what_is_wrong_in_a_unit_is_seen(unit: Callable[..., list[str]], old: str, new: str, says: str) -> None:
    assert says in analyze("--man=no", "verify", *unit(old, new))[1]


def test_the_service_is_as_little_exposed_as_it_can_be(unit: Callable[..., list[str]]) -> None:
    service, _ = unit()
    status, says = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", service)
    assert status == 0, says


def test_a_service_without_the_system_call_filter_would_be_more_exposed(unit: Callable[..., list[str]]) -> None:
    service, _ = unit("SystemCallFilter=@system-service", "")
    assert analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", service)[0] != 0


def healthy(port: int) -> bool:
    """Run the Dockerfile's HEALTHCHECK."""
    (line,) = (line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if line.startswith("HEALTHCHECK"))
    python, *arguments = json.loads(line.partition(" CMD ")[2])
    assert python == "python"
    env = {"PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, check=False).returncode == 0


def test_the_images_health_check_is_passed_only_by_a_gateway_that_is_well(
    start_gateway: StartGateway,
) -> None:
    _, base = start_gateway()
    assert healthy(int(base.rpartition(":")[2]))
    assert not healthy(free_port())
    ill = RawServer([with_length(b"", status=b"503 Service Unavailable")])
    assert not healthy(ill.port)
    ill.stop()
