"""docs/faults.md says what the table of faults says."""

from pathlib import Path

from tests.live.faults.page import page


def test_the_page_is_up_to_date() -> None:
    written = (Path(__file__).parents[1] / "docs/faults.md").read_text()
    assert written == page(), "python -m tests.live.faults.page > docs/faults.md"
