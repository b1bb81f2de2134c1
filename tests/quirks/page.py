"""The page of quirks, written from their table: `python -m tests.quirks.page > docs/openai-upstreams.md`."""

from gpt_oss_proxy.upstreams.openai.finish_reasons import REASONS
from tests.quirks.table import QUIRKS

_HEAD = """\
# OpenAI-compatible servers as they are

Where servers behind `OPENAI_BASE_URL` deviate from OpenAI, and what the gateway does then. The page is written from the
table that `tests/test_quirks.py` plays with real sockets, streamed and whole: `make docs`.

The gateway reads what a server sends, or reports an error with the server's own words; an empty or cut answer is never
reported as complete. An answer ends with `[DONE]`, or with a finish reason that no output follows for two seconds;
output renews that wait, and while only reasoning has come, `stop` does not end the answer.
"""
_REASONS = """
## Finish reasons

Capitals, hyphens and spaces make no difference. An unknown one is `stop` if `[DONE]` follows, is counted in
`gpt_oss_proxy_unknown_finish_reasons_total`, and named once in the log.

| finish reason | what servers send |
|---|---|
"""


def page() -> str:
    """Return the page."""
    sections = (
        f"\n## {title}\n\n| a server sends | what the gateway does |\n|---|---|\n"
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
