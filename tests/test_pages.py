"""The pages say what the code does, and their links lead somewhere."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.emulation import tools
from gpt_oss_proxy.emulation.prepare import EMULATED
from gpt_oss_proxy.gateway.observe import access_log
from tests.doubles import record
from tests.pages import DOCS, PAGES, errors_table, kinds, page, settings_table

ROOT = DOCS.parent
ALL = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "bench").glob("*.md")])


@pytest.mark.parametrize("name", PAGES)
def test_what_is_generated_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == page(name), "make docs"


def test_every_setting_and_every_error_has_its_row() -> None:
    assert {f"`{field.name.upper()}`" for field in dataclasses.fields(Settings)} <= set(
        settings_table().split(" | ")
    ) | {row.split(" | ")[0].removeprefix("| ") for row in settings_table().splitlines()}
    assert all(f"`{kind.code}`" in errors_table() for kind in kinds())


def test_a_setting_is_one_field_and_its_row_is_generated() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class More(Settings):
        greeting_seconds: float = dataclasses.field(
            default=2.5, metadata={**Settings.__dataclass_fields__["breaker_seconds"].metadata, "help": "how long"}
        )

    assert More.from_environ({"GREETING_SECONDS": "7"}).greeting_seconds == 7.0
    assert "GREETING_SECONDS" in More.variables()
    assert "| `GREETING_SECONDS` | `2.5` | how long, in s | a number from 0.1 to 3600 |" in settings_table(More)


def test_every_member_of_the_access_log_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[bytes] = []
    monkeypatch.setattr(access_log, "_output", SimpleNamespace(write=lines.append))
    record().write()
    explained = section("operations.md", "The access log")
    assert [name for name in json.loads(lines[0]) if f"`{name}`" not in explained] == []


def test_the_page_of_emulation_names_what_is_emulated_and_its_limits() -> None:
    text = (DOCS / "emulation.md").read_text()
    names = {"parallel_calls": "parallel_tool_calls", "limits": "max_completion_tokens", "tools": "tool_choice"}
    assert [name for name in EMULATED if f"`{names.get(name, name)}" not in text] == []
    assert f"{tools._MOST_TOOLS} tools at most" in text
    assert f"above {tools._LONGEST_NAME}\n  characters" in text


def section(name: str, heading: str) -> str:
    return (DOCS / name).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        file, _, heading = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        headings = {
            re.sub(r"[^\w -]", "", found.lower()).strip().replace(" ", "-")
            for found in re.findall(r"^#+ (.*)$", there.read_text() if there.suffix == ".md" else "", re.MULTILINE)
        }
        assert not heading or heading in headings, target


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"(docs/{path.name})" in readme for path in DOCS.glob("*.md") if path.name != "performance.md")
