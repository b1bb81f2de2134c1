"""README's code for Python runs as it stands there, over an upstream that takes and gives text only."""

import functools
import re
from collections.abc import Generator
from pathlib import Path

import httpx2
import openai
import pytest

from gpt_oss_proxy.app import create_app
from gpt_oss_proxy.chat.events import Event, Finish, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.net.lists import Shortcut
from tests.doubles import Characters, Scripted

README = (Path(__file__).parents[1] / "README.md").read_text()


class Obedient(Scripted):
    """A model that does what its instructions ask for: it calls the tool, or writes the JSON."""

    def stream(self, request: ChatRequest, _shortcut: Shortcut | None = None) -> Generator[list[Event], None, None]:
        written = '{"city": "Paris"}' if request.instructions else "Hello!"
        call = f"[#{request.marker} call get_weather] " if "get_weather" in request.messages[0].text else ""
        yield [TextDelta(call + written), Finish("stop")]


PRINTED = ["Hello!\n", '{"city": "Paris"}\ncity=\'Paris\'\n']
CODE = list(zip(re.findall(r"```python\n(.*?)```", README, re.DOTALL), PRINTED, strict=True))


@pytest.mark.parametrize(("code", "said"), CODE, ids=["hello", "tools and structured output"])
def test_the_code_prints_what_the_page_says(
    code: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = Obedient(models=["gpt-4o-mini"])
    app = create_app(Settings(default_model="gpt-4o-mini"), upstreams=[upstream], vocabulary=Characters())
    with httpx2.Client(transport=httpx2.WSGITransport(app)) as http:
        monkeypatch.setattr(openai, "OpenAI", functools.partial(openai.OpenAI, http_client=http))
        exec(code, {"__name__": "readme"})
    assert capsys.readouterr().out == said
