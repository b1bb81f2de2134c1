"""What the benchmark says of its figures: intervals, verdicts, calls that are counted in a worker."""

import os
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from bench import compare
from bench.compare import Interval, interval_of

INSIDE = Path(compare.__file__).parent / "inside"


@pytest.mark.parametrize(
    ("number", "lowest", "coverage"),
    [(5, 1, 0.9375), (8, 2, 0.9297), (9, 2, 0.9609), (13, 4, 0.9077), (21, 7, 0.9216)],
)
def test_an_interval_is_the_narrowest_that_the_sign_test_allows(number: int, lowest: int, coverage: float) -> None:
    ratios = [place / 100 for place in reversed(range(1, number + 1))]
    interval = interval_of(ratios)
    assert (interval.low, interval.high) == (lowest / 100, (number + 1 - lowest) / 100)
    assert interval.coverage == pytest.approx(coverage, abs=5e-5)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_few_ratios_are_given_whole_with_what_that_covers(number: int) -> None:
    ratios = [place / 100 for place in range(1, number + 1)]
    assert interval_of(ratios) == Interval(0.01, number / 100, 1 - 2 / 2**number)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.06, 1.2, "missed"), (1.05, 1.2, "open"), (0.9, 1.06, "open"), (0.9, 1.05, "kept")],
)
def test_a_limit_is_missed_only_by_a_whole_interval(low: float, high: float, verdict: str) -> None:
    assert Interval(low, high, 0.9).verdict(1.05) == verdict


def test_a_side_is_a_tree_and_a_configuration() -> None:
    sides = [compare._tree_and_configuration(text) for text in ("HEAD~1", ".:all", "/a/tree:tls")]
    assert sides == [("HEAD~1", "plain"), (".", "all"), ("/a/tree", "tls")]
    with pytest.raises(ArgumentTypeError, match="plain, sdk, keys, tls, all"):
        compare._tree_and_configuration("HEAD:fast")


COUNTED = """
def call(times):
    for _ in range(times):
        inner()

def inner():
    pass

def resume():
    yield
    yield
"""
WORKER = """
import os
import gevent
import greenlet
from gpt_oss_proxy.counted import call, resume

call(1000)  # of the master: not counted
older = greenlet.greenlet(lambda: (greenlet.getcurrent().parent.switch(), call(6)))
older.switch()
if not os.fork():
    call(1)  # 2
    greenlet.greenlet(call).switch(2)  # 3
    older.switch()  # 7
    gevent.get_hub().loop.run_callback(call, 3)  # 4
    gevent.joinall([gevent.spawn(call, 4), gevent.spawn(lambda: (gevent.sleep(0), call(5)))])  # 5, 6
    list(resume())  # 3: its beginning, and it is resumed twice
    sorted(map(len, [[]]))  # not ours
    os._exit(0)
assert not os.wait()[1]
"""


def test_calls_of_our_own_functions_are_counted_in_each_greenlet_of_a_forked_worker(tmp_path: Path) -> None:
    (tmp_path / "gpt_oss_proxy").mkdir()
    (tmp_path / "gpt_oss_proxy/counted.py").write_text(COUNTED)
    counter = tmp_path / "counter"
    counter.write_bytes(bytes(8))
    environment = {**os.environ, "PYTHONPATH": f"{INSIDE}:{tmp_path}", "BENCH_CALLS": str(counter)}
    subprocess.run([sys.executable, "-c", WORKER], cwd=tmp_path, env=environment, check=True)
    assert int.from_bytes(counter.read_bytes(), sys.byteorder) == 2 + 3 + 7 + 4 + 5 + 6 + 3
