"""docs/deployment.md and the files in deploy/ agree with each other and with the settings' defaults."""

import configparser
import re
from pathlib import Path

import pytest

from gpt_oss_proxy.config.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/deployment.md").read_text()
NGINX = (ROOT / "deploy/nginx.conf").read_text()
DEFAULTS = Settings()
OUTER = DEFAULTS.graceful_timeout_seconds + 10  # what waits for the gateway waits longer


def unit(kind: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment, method-assign] # the documented way to keep capitals
    parsed.read(ROOT / f"deploy/gpt-oss-proxy.{kind}")
    return parsed


@pytest.mark.parametrize(
    "words",
    [
        f"`GRACEFUL_TIMEOUT_SECONDS={DEFAULTS.graceful_timeout_seconds}`",
        f"`docker stop -t {OUTER}`",
        f"`docker run --stop-timeout {OUTER}`",
        f"`stop_grace_period: {OUTER}s`",
        f"`terminationGracePeriodSeconds: {OUTER}`",
        f"`TimeoutStopSec={OUTER}`",
        f"`GRACEFUL_TIMEOUT_SECONDS={DEFAULTS.total_timeout_seconds:g}` and {DEFAULTS.total_timeout_seconds + 10:g} in",
    ],
)
def test_the_grace_periods_follow_from_the_settings_defaults(words: str) -> None:
    assert words in PAGE


def test_what_is_around_the_gateway_waits_longer_than_the_gateway() -> None:
    assert int(unit("service")["Service"]["TimeoutStopSec"]) == OUTER
    assert f"docker stop -t {OUTER}" in (ROOT / "Dockerfile").read_text()
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", NGINX)
    assert int(seconds) > DEFAULTS.total_timeout_seconds


def test_the_service_is_reached_from_this_machine_only_and_does_not_start_without_its_settings() -> None:
    service = unit("service")["Service"]
    assert (service["Environment"], service["EnvironmentFile"]) == ("HOST=127.0.0.1", "/etc/gpt-oss-proxy.env")
    assert unit("socket")["Socket"]["ListenStream"] == f"127.0.0.1:{DEFAULTS.port}"
    assert f"server 127.0.0.1:{DEFAULTS.port};" in NGINX


def test_a_start_is_over_when_gunicorn_listens_and_a_killed_worker_does_not_end_the_service() -> None:
    service = unit("service")["Service"]
    assert (service["Type"], service["OOMPolicy"], service["Sockets"]) == ("notify", "continue", "gpt-oss-proxy.socket")


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").iterdir()), ids=lambda path: path.name)
def test_the_page_names_each_file(path: Path) -> None:
    assert f"(../deploy/{path.name})" in PAGE


def test_the_page_shows_the_answer_of_nginx_limits_as_it_is() -> None:
    (said,) = re.findall(r"return 429 '(.*)';", NGINX)
    assert said in PAGE


def test_the_readme_leads_to_it() -> None:
    assert "(docs/deployment.md)" in (ROOT / "README.md").read_text()
