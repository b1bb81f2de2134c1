"""The house's own rules, where a program can check them."""

import dataclasses
import re
from pathlib import Path

import pytest

from gpt_oss_proxy.config.settings import Settings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gpt_oss_proxy"
SOURCES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" and "demo" not in path.relative_to(ROOT).parts
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_every_source_file_has_its_test_file(source: Path) -> None:
    folder = ROOT / "tests" / source.relative_to(PACKAGE).parent
    assert (folder / f"test_{source.name}").is_file()


@pytest.mark.parametrize("source", [*SOURCES, ROOT / "wsgi.py", ROOT / "gunicorn.conf.py"], ids=name)
def test_the_environment_is_read_in_one_place(source: Path) -> None:
    reads = re.search(r"\bos\.environ|\bgetenv\b|import environ", source.read_text())
    assert bool(reads) == (name(source) in ("gpt_oss_proxy/app.py", "gunicorn.conf.py"))


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_every_file_can_be_read_in_one_sitting_and_says_what_it_is(source: Path) -> None:
    text = source.read_text()
    assert len(text.splitlines()) <= 400
    assert re.match(r'"""\w.+', text)


def rows() -> list[str]:
    """README's rows of the settings, as they must be."""
    found = []
    for field in dataclasses.fields(Settings):
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default or "")
        shown = f"`{default}`" if default else "(empty)"
        unit = f", in {field.metadata['unit']}" if field.metadata["unit"] else ""
        what, allowed = field.metadata["help"] + unit, field.metadata["kind"].allowed
        found.append(f"| `{field.name.upper()}` | {shown} | {what} | {allowed} |")
    return found


def test_the_readme_tells_every_setting_and_no_other() -> None:
    table = (ROOT / "README.md").read_text().split("| variable | default | what | allowed |\n|---|---|---|---|\n")[1]
    assert table.split("\n\n")[0].splitlines() == rows()
