"""The page of quirks, written from their table: `python -m tests.quirks.page > docs/openai-upstreams.md`."""

from gpt_oss_proxy.upstreams.openai.finish_reasons import REASONS
from tests.quirks.table import QUIRKS

_HEAD = """\
# OpenAI-compatible servers as they are

What servers behind `OPENAI_BASE_URL` do otherwise than OpenAI, and what becomes of it here. The page is written from
the table that `tests/test_quirks.py` plays with real sockets, streamed and whole: `make docs`.

Whatever a server sends is read, or is an error with the server's own words; an empty or shortened answer never ends
well. An answer ends with `[DONE]`, or with a finish reason that no output follows for two seconds; output renews that
wait, and while only reasoning has come `stop` is no end.
"""
_REASONS = """
## Finish reasons

Capitals, hyphens and spaces make no difference. An unknown one is `stop` if `[DONE]` follows, is counted in
`gpt_oss_proxy_unknown_finish_reasons_total`, and named once in the log.

| told as | what servers say |
|---|---|
"""


def page() -> str:
    """Return the page."""
    sections = (
        f"\n## {title}\n\n| a server sends | what becomes of it |\n|---|---|\n"
        + "".join(f"| {quirk.does} | {quirk.becomes} |\n" for quirk in quirks)
        for title, quirks in QUIRKS.items()
    )
    reasons = (
        f"| {'an error' if ending == 'error' else f'`{ending}`'} | {', '.join(f'`{word}`' for word in words)} |\n"
        for ending, words in REASONS.items()
    )
    return f"{_HEAD}{''.join(sections)}{_REASONS}{''.join(reasons)}"


if __name__ == "__main__":
    print(page(), end="")
