"""Finds variables of the environment that are probably misspelt settings."""

import difflib
import re
from collections.abc import Collection, Iterable

_SIMILARITY = 0.85  # difflib's ratio: `OPENAI_BASEURL` is at 0.97, OPENAI_API_TYPE beside OPENAI_API_KEY at 0.83
_OTHERS = {"OPENAI_ADMIN_KEY", "SSL_CERT", "VERCEL_URL"}  # in use elsewhere, though similar


def near_misses(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return each name that is probably misspelt, with the name of `known` that is probably meant.

    A known name that is set itself is never suggested. Names with another first letter belong to other programs:
    NIX_SSL_CERT_FILE, AZURE_OPENAI_API_KEY.
    """
    names = set(names)
    missed = sorted(set(known) - names)
    found = {}
    for name in sorted(names - set(known) - _OTHERS):
        if re.fullmatch(r"[A-Z0-9]+|\w+_\w+", name, re.ASCII) and (meant := _meant(name.upper(), missed)):
            found[name] = meant
    return found


def _meant(name: str, missed: Collection[str]) -> str:
    candidates = [other for other in missed if other[0] == name[0]]
    similar = difflib.get_close_matches(name, candidates, n=1, cutoff=_SIMILARITY)
    return next(iter(similar or (other for other in candidates if _lacks_words(name, other))), "")


def _lacks_words(name: str, other: str) -> bool:
    """Return whether `name` is `other` without some of its words, such as REQUEST_TIMEOUT for …_SECONDS."""
    first, *words = name.split("_")
    others = iter(other.split("_"))
    return bool(words) and next(others) == first and all(word in others for word in words)
