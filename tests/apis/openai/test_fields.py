"""What both APIs ask for by the same names."""

from gpt_oss_proxy.apis.json_body import convert
from gpt_oss_proxy.apis.openai.fields import Asked, StreamOptions, chat_request, options_of
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.config.settings import EFFORTS

HELLO = (Message("user", (Text("Hello!"),)),)


def test_what_is_not_said_is_the_default() -> None:
    assert chat_request(Asked(), HELLO, {}, default_model="d") == ChatRequest("d", HELLO)


def test_what_is_said_finds_its_place() -> None:
    asked = Asked(model="m", n=2, stream=True, stream_options=StreamOptions(include_usage=True), reasoning_effort="low")
    request = chat_request(asked, HELLO, {"seed": 1}, default_model="d", further=(HELLO,), spelling=frozenset({"echo"}))
    assert request == ChatRequest(
        model="m",
        messages=HELLO,
        stream=True,
        include_usage=True,
        reasoning_effort="low",
        n=2,
        further=(HELLO,),
        options={"seed": 1},
        spelling=frozenset({"echo"}),
    )


def test_options_are_all_other_fields_that_are_set() -> None:
    value = {"model": "m", "n": 1, "stop": "", "seed": None, "new": 0}
    assert options_of(value, Asked()) == {"stop": "", "new": 0}


def test_every_effort_of_the_settings_can_be_asked_for() -> None:
    assert [convert({"reasoning_effort": effort}, Asked).reasoning_effort for effort in EFFORTS] == list(EFFORTS)
