"""The curl commands of README and docs/fields.md as they stand there, and curl's own habits."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.conftest import REPOSITORY, needs
from tests.live.talk import Upstream
from tests.live.test_conversations import LARGE_TEXT

Curl = Callable[..., subprocess.CompletedProcess[str]]
PAGES = "".join((REPOSITORY / name).read_text() for name in ("README.md", "docs/fields.md"))
COMMANDS = re.findall(r"^```\n(curl .*?)\n```$", PAGES, re.MULTILINE | re.DOTALL)
IN_README = "http://localhost:3000"


def command_with(*words: str) -> str:
    """Return the README's curl command that holds all these words."""
    found = [command for command in COMMANDS if all(word in command for word in words)]
    assert found, f"README has no curl command with {words}"
    return found[0]


@pytest.fixture
def shell(base: str) -> Curl:
    """Run a shell command of the README against the gateway under test."""
    needs("curl")

    def run(command: str) -> subprocess.CompletedProcess[str]:
        assert IN_README in command
        quiet = command.replace("curl ", "curl -sS --max-time 30 ", 1).replace(IN_README, base)
        return subprocess.run(["/bin/sh", "-c", quiet], capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def curl(base: str) -> Curl:
    """Run curl on the gateway's chat completions."""
    program = needs("curl")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "-sS", "--max-time", "30", f"{base}/v1/chat/completions", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def body(text: str, **fields: object) -> str:
    return json.dumps({"model": "gpt-oss-120b", "messages": [{"role": "user", "content": text}], **fields})


def test_the_readmes_text_command_answers(shell: Curl) -> None:
    done = shell(command_with("Content-Type", "gpt-oss-120b"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "What is the capital of France?"


def test_the_readmes_streaming_command_streams(shell: Curl) -> None:
    command = command_with('"stream": true', "Content-Type")
    assert "-N" in command
    done = shell(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('data: {"id":"chatcmpl-')
    assert done.stdout.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "What is the capital of France?"


def test_the_readmes_image_command_sends_an_image(shell: Curl, ai_sdk: Upstream) -> None:
    done = shell(command_with("image_url", "gpt-4o"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "What do you see?"
    text, image = ai_sdk.last()["body"]["messages"][-1]["content"]
    assert text == {"type": "text", "text": "What do you see?"}
    assert image["image"].startswith("data:image/png;base64,iVBORw0KGgo")


def test_the_readmes_plain_text_command_gives_the_bare_text(shell: Curl) -> None:
    done = shell(command_with("Accept: text/plain"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Tell me a story.", "")


def test_no_content_type_is_needed(curl: Curl) -> None:
    done = curl("-d", body("hello"))  # curl says application/x-www-form-urlencoded
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "hello"


def test_a_foreign_web_page_needs_the_json_content_type(curl: Curl) -> None:
    done = curl("-d", body("hello"), "-H", "Origin: https://evil.example")
    assert json.loads(done.stdout)["error"]["code"] == "unsupported_content_type"
    done = curl("-d", body("hello"), "-H", "Origin: https://page.example", "-H", "Content-Type: application/json")
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize(
    "text", ["::error after=2 message=It broke.::", "::drop after=2::", "::drop after=2 clean=1::"]
)
def test_plain_text_that_fails_ends_with_an_error_line_and_curl_fails(curl: Curl, text: str) -> None:
    done = curl("-N", "-H", "Accept: text/plain", "-d", body(text, stream=True))
    assert done.returncode == 18  # transfer closed with outstanding read data remaining
    said, error = done.stdout.removesuffix("\n").rsplit("\n", 1)
    assert said == "w0 w1"
    assert error.startswith("error: ")


def test_plain_text_that_fails_before_it_begins_keeps_its_status(curl: Curl) -> None:
    done = curl("--fail", "-H", "Accept: text/plain", "-d", body("::error after=0::", stream=True))
    assert done.returncode == 22  # HTTP error
    assert "502" in done.stderr


def test_an_image_of_one_and_a_half_megabytes_is_sent_after_100_continue(
    curl: Curl, ai_sdk: Upstream, tmp_path: Path
) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{LARGE_TEXT}"}}
    file = tmp_path / "body.json"
    file.write_text(
        json.dumps(
            {
                "model": "gpt-4o",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}],
            }
        )
    )
    done = curl("-v", "-H", "Expect: 100-continue", "-d", f"@{file}")
    assert "HTTP/1.1 100 Continue" in done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "What is this?"
    assert ai_sdk.last()["body"]["messages"][0]["content"][1]["image"] == image["image_url"]["url"]
