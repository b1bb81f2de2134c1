import json
import re
import socket

import pytest

from gpt_oss_proxy.demo.__main__ import _check_free, _port, _welcome
from gpt_oss_proxy.demo.children import Ended


def test_a_port_that_is_taken_is_named_with_another_to_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Ended, match=rf"^Port {port} is already in use\. Try another one: PORT=\d+ make demo$"):
            _check_free(port)
    _check_free(port)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "3000.0", "²", "three", " "])
def test_a_port_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(Ended, match=r"^PORT is '.*', but it must be a number from 1 to 65535\.$"):
        _port(text)


def test_the_welcome_shows_a_curl_line_for_each_model_and_says_who_answers() -> None:
    welcome = _welcome("http://localhost:3000")
    bodies = [json.loads(body) for body in re.findall(r"-d '(.*)'", welcome)]
    asked = {body["model"]: body["stream"] for body in bodies}
    assert asked == {"gpt-oss-20b": True, "gpt-4o": True, "gpt-oss-120b": False, "gpt-4o-mini": True}
    assert "SmolLM2-135M-Instruct, a tiny demonstration model, answers in place of all four models." in welcome
    assert "curl -N -H 'Accept: text/plain' http://localhost:3000/v1/chat/completions" in welcome
