"""The house's own rules, where a program can check them."""

import ast
import re
from pathlib import Path

import pytest

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


def test_the_listing_names_every_folder_and_every_name_in_it_is_there() -> None:
    listing = (ROOT / "ARCHITECTURE.md").read_text().split("```")[3]
    named = set(re.findall(r"^ {2}(\w[\w./ ]*?)(?: {2,}| *$)", listing, re.MULTILINE))
    names = {name for group in named for name in group.split()}
    folders = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= names
    assert [name for name in names if not (PACKAGE / name).exists()] == []


def parts_in(listing: str) -> dict[str, list[str]]:
    """Return folder → the parts of it that the listing names: `a, b: what they do · c/: what it does`, on any line."""
    found: dict[str, list[str]] = {}
    for folder, block in re.findall(r"^ {2}(\w+)/ +(.*(?:\n {6,}.*)*)", listing, re.MULTILINE):
        heads = (piece.strip().partition(":")[0] for piece in re.split(r"[·\n]", block))
        found[folder] = [
            name
            for head in heads
            if re.fullmatch(r"\w+/?(,? \w+/)*(, \w+/?)*", head)
            for name in re.findall(r"\w+", head)
        ]
    return found


def test_the_parts_that_the_listing_names_in_folders_are_there() -> None:
    parts = parts_in((ROOT / "ARCHITECTURE.md").read_text().split("```")[3])
    assert {"base", "family", "document", "openai"} == set(parts["apis"])
    assert {"relay", "output", "server", "client"} < set(parts["net"])
    missing = [
        f"{folder}/{name}"
        for folder, names in parts.items()
        for name in names
        if not ((PACKAGE / folder / name).is_dir() or (PACKAGE / folder / f"{name}.py").is_file())
    ]
    assert missing == []


# OpenAI's field names that are not also the field's common words: they stand where its formats are spoken.
OPENAI_FIELDS = frozenset(
    {
        *("parallel_tool_calls", "max_tokens", "max_completion_tokens", "stream_options", "include_usage"),
        *("reasoning_effort", "reasoning_content", "function_call", "finish_reason", "image_url", "input_audio"),
        *("logit_bias", "logprobs", "top_logprobs", "service_tier", "modalities", "total_tokens"),
    }
)
# Names that another format has, too, and the values of settings that are about OpenAI's servers and clients.
ALLOWED_FIELDS = {
    "gpt_oss_proxy/upstreams/ai_sdk/request.py": {"image_url"},
    "gpt_oss_proxy/config/settings.py": {"image_url", "stream_options", "reasoning_content"},
}


def words_of(source: Path) -> set[str]:
    """Return the names of the code, and the words of its strings, docstrings left out."""
    tree = ast.parse(source.read_text())
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    words: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in documents:
                words.update(re.findall(r"\w+", text))
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                words.add(name)
            case _:
                pass
    return words


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_openai_s_field_names_stand_only_where_its_formats_are_spoken(source: Path) -> None:
    if {"apis", "upstreams"} & set(source.parts) and "openai" in source.parts:
        return
    assert words_of(source) & OPENAI_FIELDS == ALLOWED_FIELDS.get(name(source), set())


def test_a_field_of_openai_s_would_be_seen(tmp_path: Path) -> None:
    """The names themselves are found, wherever they stand in code."""
    written = tmp_path / "a.py"
    written.write_text('"""max_tokens"""\nx.include_usage = f(logprobs=1)\ny = {"a.modalities": 1}\n')
    assert words_of(written) & OPENAI_FIELDS == {"include_usage", "logprobs", "modalities"}


def test_the_product_speaks_plainly() -> None:
    """Words that hide who does what. A few lines may need them."""
    hiding = re.compile(r"\b(?:nobody|whoever|for ever|told|taker)\b", re.IGNORECASE)
    lines = [
        line for source in PACKAGE.rglob("*.py") for line in source.read_text().splitlines() if hiding.search(line)
    ]
    assert len(lines) <= 10, lines
