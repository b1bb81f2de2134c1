"""Where an image is: an http(s) URL, which is passed on and never fetched here, or a data URI that holds it.

Source: RFC 2397 for data URIs; OpenAI's API takes only those with base64, and images of at most 20 MB.
"""

import re
from urllib.parse import urlsplit

from gpt_oss_proxy.errors import InvalidRequest

_LONGEST_URL = 8192
_LARGEST_IMAGE_BYTES = 20 * 1024 * 1024
_DATA_HEAD = re.compile(r"data:image/[a-z0-9.+-]+(?:;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]++={0,2}")


def check_image_url(url: str, *, param: str) -> None:
    """Let an image's address pass. Raises InvalidRequest with code invalid_image."""
    if url[:5].lower() == "data:":
        _check_data(url, param)
    elif not _is_http(url):
        raise _invalid("it must be an http(s) URL or a data URI", param)


def _check_data(uri: str, param: str) -> None:
    head = _DATA_HEAD.match(uri)
    if not head:
        raise _invalid("a data URI must begin with data:image/…;base64,", param)
    start = head.end()
    if (len(uri) - start) * 3 // 4 > _LARGEST_IMAGE_BYTES:
        raise _invalid(f"it is larger than {_LARGEST_IMAGE_BYTES} bytes", param)
    letters = len(uri.rstrip("=")) - start
    if letters % 4 == 1 or not _BASE64.fullmatch(uri, start):
        raise _invalid("its data are not base64", param)


def _is_http(url: str) -> bool:
    if len(url) > _LONGEST_URL or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _invalid(reason: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is no image: {reason}.", code="invalid_image", param=param)
