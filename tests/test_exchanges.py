"""Recorded exchanges of twenty kinds: the same bytes go to the upstreams, and the same bytes come to the client.

Where they are meant to change: python -m tests.exchanges, and look at the difference.
"""

import pytest

from tests.exchanges.exchange import RECORDED, Exchange, load, play

ALL = [
    pytest.param(exchange, id=f"{path.stem}: {exchange.name}")
    for path in sorted(RECORDED.glob("*.json"))
    for exchange in load(path)
]


@pytest.mark.parametrize("exchange", ALL)
def test_the_bytes_are_those_that_were_recorded(exchange: Exchange) -> None:
    assert play(exchange) == (exchange.sent, exchange.answered)


def test_there_are_ten_of_each_kind() -> None:
    assert len(ALL) == 10 * len(list(RECORDED.glob("*.json"))) >= 200
