"""Which addresses of images pass."""

import time

import pytest

from gpt_oss_proxy.apis.image_url import check_image_url
from gpt_oss_proxy.errors import InvalidRequest

PARAM = "messages[0].content[1].image_url.url"


def refusal(url: str) -> str:
    with pytest.raises(InvalidRequest) as raised:
        check_image_url(url, param=PARAM)
    assert (raised.value.code, raised.value.param) == ("invalid_image", PARAM)
    return raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "http://localhost:8000/a?b=c#d",
        "HTTPS://example.com",
        "https://bücher.example/größe.png",
        "https://[::1]/a.png",
        "data:image/png;base64,iVBORw0KGgo=",
        "DATA:IMAGE/PNG;BASE64,AA==",
        "data:image/svg+xml;charset=utf-8;base64,PHN2Zz4",
        "data:image/webp;base64," + "A" * 20 * 1024 * 1024,
    ],
    ids=lambda url: url[:40],
)
def test_urls_and_data_uris_pass(url: str) -> None:
    check_image_url(url, param=PARAM)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.png",
        "/a.png",
        "//example.com/a.png",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "javascript:alert(1)",
        "https:///a.png",
        "https://",
        "https://[::1/a.png",
        "https://example.com/a\r\nHost: x",
        "https://example.com/a b",
        " https://example.com/a.png",
        "https://example.com/" + "a" * 10_000,
        "iVBORw0KGgo=",
    ],
    ids=lambda url: url[:40],
)
def test_other_addresses_do_not(url: str) -> None:
    assert refusal(url) == f"{PARAM} is no image: it must be an http(s) URL or a data URI."


@pytest.mark.parametrize(
    "uri",
    [
        "data:",
        "data:,x",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/svg+xml,%3Csvg",
        "data:image/png;base64",
    ],
)
def test_a_data_uri_is_that_of_an_image_in_base64(uri: str) -> None:
    assert refusal(uri) == f"{PARAM} is no image: a data URI must begin with data:image/…;base64,."


@pytest.mark.parametrize(
    "data", ["", "=", "AA=A", "A A", "AA\n", "A_-A", "%41", "AAAA===", "AAAAA", "A===", "A" * 1_000_000 + "!", "ÄÄÄÄ"]
)
def test_its_data_are_base64(data: str) -> None:
    began = time.process_time()
    assert refusal(f"data:image/png;base64,{data}") == f"{PARAM} is no image: its data are not base64."
    assert time.process_time() - began < 0.5


def test_an_image_is_bounded() -> None:
    assert "larger than 20971520 bytes" in refusal("data:image/png;base64," + "A" * 28_000_000)
