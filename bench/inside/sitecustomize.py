"""What Python does first in a measured worker, whatever tree it runs: trust the benchmark's upstream, count calls.

Trees differ in how they are given a certificate, and old ones know certifi's alone; so certifi itself is given another.
"""

import os
import sys
from types import FrameType

if TRUSTED := os.environ.get("BENCH_TRUSTS"):
    import certifi

    certifi.where = lambda: TRUSTED

if COUNTED := os.environ.get("BENCH_CALLS"):
    import mmap

    _OURS = os.path.join(os.getcwd(), "gpt_oss_proxy", "")

    def _count_calls() -> None:
        """Count the calls of the tree's own functions in this process, in all greenlets, in the file's 8 bytes."""
        with open(COUNTED, "r+b") as file:
            number = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")

        def on_event(frame: FrameType, event: str, _argument: object) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(_OURS):
                number[0] += 1

        sys.setprofile(on_event)  # greenlets of a thread share it

    os.register_at_fork(after_in_child=_count_calls)
