"""A filter is one file and one row."""

import json

import pytest

from gpt_oss_proxy.chat.events import Finish, TextDelta
from gpt_oss_proxy.emulation import prepare
from gpt_oss_proxy.emulation.prepare import FILTERS, FilterRow
from tests.doubles import ask, client
from tests.examples.shout import Shout


@pytest.mark.parametrize("stop", [None, "never"])
def test_its_row_is_all_that_it_needs(stop: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "FILTERS", (*FILTERS, FilterRow(lambda _: True, lambda *_: Shout())))
    asking = client([TextDelta("Good ")], [TextDelta("morning!")], [Finish("stop")])
    answer = json.loads(ask(asking, stop=stop).data)
    assert answer["choices"][0]["message"]["content"] == "Good MORNING!"
