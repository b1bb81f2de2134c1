"""Foreign text (of a server, a library, a request) made fit for our messages and log lines."""

import re

_QUOTE_LENGTH = 200
_READ_LENGTH = 4 * _QUOTE_LENGTH
_SECRETS = re.compile(
    r"""[a-z][a-z0-9+.-]*://\S+                              # a URL
      | \b(?:sk|pk|key|hf|ghp|xox[a-z])[-_][\w-]{4,}         # a key, by its usual prefixes
      | \b(?:bearer|basic)\s+\S+
      | \b(?:pass(?:word|wd)?|pwd|secret|token|api[_-]?key)["']?\s*[=:]\s*\S+
      | \beyJ[\w-]+\.[\w.-]+                                 # a signed token (JWT)
      | \b(?=[a-z]*\d)[a-z0-9]{20,}\b                        # longer than a word or a part of a model's name
      | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b                 # an address
      | (?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b        # an IPv6 address, whole
      | (?<![\w:])(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?::[0-9a-f:]*\b   # and shortened, with a port that may follow
      | (?<![\w.])(?!body\.|(?:messages|tools|choices)\.\d+\.)  # not the path of a field
        (?:[\w-]+\.)+[a-z]{2,}(?::\d+)?\b                    # a host name
      | \blocalhost(?::\d+)?\b
      | (?:/[\w.-]+){2,}                                     # a file path
    """,
    re.IGNORECASE | re.VERBOSE,
)


def quote(text: str) -> str:
    """Return foreign text fit for an error message: one short line without URLs, hosts, paths or keys; '' if unfit."""
    if "Traceback (most recent call last)" in text or text.lstrip().startswith("<"):
        return ""
    if len(text) > _READ_LENGTH:
        text = text[:_READ_LENGTH]
        text = text.rpartition(" ")[0] or text  # half a host name would not be known as one
    line = _SECRETS.sub("[…]", " ".join(text.split()))
    line = line.encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= _QUOTE_LENGTH else line[:_QUOTE_LENGTH] + "…"
