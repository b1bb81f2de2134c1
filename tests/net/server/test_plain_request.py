"""Plain heads, and that gunicorn's own parser would understand each of them alike."""

from typing import Any, NamedTuple

import pytest
from gunicorn import http
from gunicorn.config import Config
from gunicorn.http import wsgi
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.net.server.connection import Connection
from gpt_oss_proxy.net.server.plain_request import PlainRequest, read_plain
from tests.net.server.served import SERVER

GET = b"GET / HTTP/1.1\r\n\r\n"
LINE = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "RAW_URI": "/"}


def get(*lines: bytes) -> bytes:
    """Return a request with these header lines."""
    return b"".join([b"GET / HTTP/1.1\r\n", *(line + b"\r\n" for line in lines), b"\r\n"])


def target(text: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\n\r\n" % text


CHAT = (
    b"POST /v1/chat/completions?a=%20&b=/?:@ HTTP/1.1\r\nHost: api.example:8000\r\nContent-Type: application/json\r\n"
    b"content-length: 13\r\nX-Request-ID:\t caf\xe9\t1 \t\r\nConnection: Keep-Alive\r\nEmpty:\r\n\r\n"
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GET, PlainRequest(LINE, len(GET), 0, True)),
        (GET + GET, PlainRequest(LINE, len(GET), 0, True)),
        (
            CHAT + b'{"a": "bcde"}and more\r\n\r\n',
            PlainRequest(
                {
                    "REQUEST_METHOD": "POST",
                    "PATH_INFO": "/v1/chat/completions",
                    "QUERY_STRING": "a=%20&b=/?:@",
                    "RAW_URI": "/v1/chat/completions?a=%20&b=/?:@",
                    "HTTP_HOST": "api.example:8000",
                    "CONTENT_TYPE": "application/json",
                    "CONTENT_LENGTH": "13",
                    "HTTP_X_REQUEST_ID": "caf\xe9\t1",
                    "HTTP_CONNECTION": "Keep-Alive",
                    "HTTP_EMPTY": "",
                },
                len(CHAT),
                13,
                True,
            ),
        ),
    ],
)
def test_a_plain_head_is_understood(data: bytes, expected: PlainRequest) -> None:
    assert read_plain(data) == expected


@pytest.mark.parametrize(
    ("line", "length", "keep_alive"),
    [
        (b"Connection: close", 0, False),
        (b"connection:CLOSE", 0, False),
        (b"Connection: keep-alive", 0, True),
        (b"Connection:", 0, True),
        (b"Content-Length: 0", 0, True),
        (b"Content-Length: 007", 7, True),
        (b"Content-Length: \t7 ", 7, True),
        (b"Content-Length: 999999999999999", 999_999_999_999_999, True),
    ],
)
def test_what_says_how_the_connection_goes_on_is_understood(line: bytes, length: int, keep_alive: bool) -> None:
    plain = read_plain(get(line))
    assert plain is not None
    assert (plain.length, plain.keep_alive) == (length, keep_alive)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
def test_the_methods_of_an_api_are_plain(method: bytes) -> None:
    plain = read_plain(method + b" / HTTP/1.1\r\n\r\n")
    assert plain is not None
    assert plain.environ == {**LINE, "REQUEST_METHOD": method.decode()}


def test_a_request_does_not_see_what_was_put_into_the_environment_of_the_one_before() -> None:
    first = read_plain(GET)
    assert first is not None
    first.environ["PATH_INFO"] = "/elsewhere"
    assert read_plain(GET) == PlainRequest(LINE, len(GET), 0, True)


def test_a_hundred_headers_are_plain_and_so_is_a_head_of_eight_thousand_bytes() -> None:
    assert read_plain(get(*(b"a%d: b" % number for number in range(100)))) is not None
    longest = get(b"a: " + b"x" * (8190 - len(get(b"a: "))))
    assert (len(longest), read_plain(longest) is not None) == (8190, True)


NOT_PLAIN: dict[str, bytes] = {
    "nothing": b"",
    "not whole": GET[:-1],
    "not whole, with a header": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "only a line": b"GET / HTTP/1.1\r\n",
    "only its end": b"\r\n\r\n",
    "an empty line before it": b"\r\n" + GET,
    "too long": get(b"a: " + b"x" * 8190),
    "a byte too long": get(b"a: " + b"x" * (8191 - len(get(b"a: ")))),
    "a head that ends too late": get(*[b"a%d: %b" % (number, b"x" * 1000) for number in range(9)]),
    "too many headers": get(*[b"a%d: b" % number for number in range(101)]),
    # The line
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n\r\n",
    "http/1.1": b"GET / http/1.1\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "PROXY": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET,
    "a method in small letters": b"get / HTTP/1.1\r\n\r\n",
    "a short method": b"GO / HTTP/1.1\r\n\r\n",
    "a long method": b"PROPFIND / HTTP/1.1\r\n\r\n",
    "CONNECT, after which nothing is HTTP": b"CONNECT / HTTP/1.1\r\n\r\n",
    "a line longer than gunicorn takes": target(b"/?" + b"q" * 4080),
    "a method that is none": b"G(T / HTTP/1.1\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\n\r\n",
    "a space before it": b" GET / HTTP/1.1\r\n\r\n",
    "a space behind it": b"GET / HTTP/1.1 \r\n\r\n",
    "absolute-form": target(b"http://a/b"),
    "authority-form": b"CONNECT a:443 HTTP/1.1\r\n\r\n",
    "asterisk-form": b"OPTIONS * HTTP/1.1\r\n\r\n",
    "no target": target(b""),
    "a relative target": target(b"a"),
    "two slashes": target(b"//x"),
    "a percent-encoded path": target(b"/%76"),
    "a fragment": target(b"/a#b"),
    "a fragment of the query": target(b"/a?b#c"),
    "a semicolon": target(b"/a;b"),
    "a backslash": target(b"/a\\b"),
    "a colon": target(b"/a:b"),
    "a space in the target": target(b"/a b"),
    "a control in the target": target(b"/a\x01"),
    "a tab in the target": target(b"/a?\t"),
    "DEL in the target": target(b"/a?\x7f"),
    "Latin-1 in the path": target(b"/\xe9"),
    "Latin-1 in the query": target(b"/?\xe9"),
    # Line ends
    "bare LF": GET.replace(b"\r\n", b"\n"),
    "bare LF behind the line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF behind a header": get(b"a: b\nc: d"),
    "bare CR behind a header": get(b"a: b\rc: d"),
    "CR CR LF": get(b"a: b\r"),
    "LF at the beginning": b"\n" + GET,
    # Headers
    "folded by a space": get(b"a: b", b" c"),
    "folded by a tab": get(b"a: b", b"\tc: d"),
    "a space before the first": get(b" a: b"),
    "no colon": get(b"a"),
    "no name": get(b": b"),
    "a space before the colon": get(b"a : b"),
    "a tab before the colon": get(b"a\t: b"),
    "a space in a name": get(b"a b: c"),
    "an underscore": get(b"X_Request_Id: a"),
    "an underscore in Content_Length": get(b"Content_Length: 5"),
    "Latin-1 in a name": get(b"a\xe9: b"),
    "\xdf, whose capital is SS": get(b"\xdf: b"),
    "a long name": get(b"a" * 65 + b": b"),
    "brackets in a name": get(b"a[]: b"),
    "NUL in a name": get(b"a\x00: b"),
    "NUL in a value": get(b"a: b\x00"),
    "ESC in a value": get(b"a: \x1b[2J"),
    "VT around a value": get(b"a: \x0bb\x0c"),
    "DEL in a value": get(b"a: b\x7f"),
    "twice": get(b"a: b", b"a: b"),
    "twice, in other letters": get(b"X-A: b", b"x-a: c"),
    "Host twice": get(b"Host: a", b"Host: a"),
    # What says how to read on
    "Content-Length twice": get(b"Content-Length: 5", b"Content-Length: 5"),
    "Transfer-Encoding": get(b"Transfer-Encoding: chunked"),
    "transfer-encoding": get(b"transfer-encoding: identity"),
    "both": get(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "Expect": get(b"Expect: 100-continue"),
    "Upgrade": get(b"Upgrade: h2c"),
    "HTTP2-Settings": get(b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    "Script-Name": get(b"Script-Name: /a"),
    "Path-Info": get(b"Path-Info: /a"),
    **{f"Connection: {value.decode()}": get(b"Connection: " + value) for value in [b"upgrade", b"close, TE"]},
    **{f"Connection: {value.decode()}": get(b"Connection: " + value) for value in [b"keep-alive, close", b"close,"]},
    "Connection twice": get(b"Connection: close", b"Connection: keep-alive"),
    **{
        f"Content-Length: {value!r}": get(b"Content-Length: " + value)
        for value in (b"", b"+5", b"-1", b"-0", b"5 5", b"5,5", b"5, 5", b"0x5", b"5.0", b"1e3", b"1_0", b"\xb2")
    },
    **{f"Content-Length: {value!r}": get(b"Content-Length: " + value) for value in (b"\xbc", b"five", b"1" * 16)},
    "Content-Length: a no-break space": get(b"Content-Length: \xa05"),
}


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_odd_is_not_plain(data: bytes) -> None:
    assert read_plain(data) is None


# The same as gunicorn's parser

CONFIG = Config()
PEERS = [("127.0.0.1", 50000), ("192.0.2.1", 50000)]  # gunicorn believes the first, as a proxy, and no other


class Understood(NamedTuple):
    """What a parser has found in the first request of some bytes."""

    environ: dict[str, Any]
    version: tuple[int, int]
    keep_alive: bool
    length: int
    rest: bytes


def by_gunicorn(data: bytes, peer: tuple[str, int]) -> Understood:
    """Raises what gunicorn says of a request that it refuses."""
    parser = http.get_parser(CONFIG, iter([data]), peer)
    found = next(parser)
    _, environ = wsgi.create(found, None, peer, SERVER, CONFIG)
    rest = parser.unreader.take_buffered()
    return Understood(told(environ), found.version, not found.should_close(), found.body.reader.length, rest)


def by_us(data: bytes, peer: tuple[str, int]) -> Understood | None:
    """Return what a connection makes of a plain request, None if it is not plain."""
    common = {"wsgi.url_scheme": "http"}
    sock: Any = None  # only what is there already is looked at
    connection = Connection(sock, list, cfg=CONFIG, peer=peer, server=SERVER, environ=common, waits={})
    request = connection._plain(data)
    plain = read_plain(data)
    if not request or not plain:
        return None
    assert request.keep_alive == plain.keep_alive
    assert {key: request.environ[key] for key in plain.environ} == plain.environ
    return Understood(told(request.environ), request.version, request.keep_alive, plain.length, data[plain.size :])


def told(environ: dict[str, Any]) -> dict[str, Any]:
    """Return what an environment has from the request's head."""
    names = {*LINE, "CONTENT_TYPE", "CONTENT_LENGTH", "wsgi.url_scheme"}
    return {key: value for key, value in environ.items() if key in names or key.startswith("HTTP_")}


METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"get", b"GO", b"PRI", b"PROPFIND"]
TARGETS = [b"/", b"/v1/models", b"/v1/chat/completions", b"/a/../b", b"/a//b", b"/~x._-", b"/?a=b&c=%20", b"/?", b"/a?"]
TARGETS += [b"/?//", b"/?a?b", b"/?a:b@[c]", b"/?#", b"/#", b"//a", b"*", b"http://a/b", b"a:443", b"/%2f", b"/:80"]
TARGETS += [b"/;a", b"", b"/?" + b"q" * 4096, b"/" + b"p" * 4096]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""]
NAMES = [b"Cookie", b"X-A", b"X-Forwarded-Proto", b"Connection", b"Content-Length", b"Content-Type", b"Host", b"Accept"]
NAMES += [b"Transfer-Encoding", b"Expect", b"Upgrade", b"TE", b"Trailer", b"Keep-Alive", b"Proxy-Connection"]
NAMES += [
    b"x-a",
    b"X_A",
    b"Authorization",
    b"X-Forwarded-Protocol",
    b"X-Forwarded-Ssl",
    b"X-Forwarded-For",
    b"Forwarded",
    b"A" * 65,
]
NAMES += [
    b"Content_Length",
    b"HTTP-Host",
    b"Script-Name",
    b"Path-Info",
    b"Request-Method",
    b"Remote-Addr",
    b"Server-Name",
]
VALUES = [b"5", b"a", b"", b"0", b"007", b"+5", b"-1", b"5 5", b"5,5", b"1" * 15, b"1" * 16, b"\xb2", b"\xa05", b"1_0"]
VALUES += [b"close", b"keep-alive", b"Close", b"KEEP-ALIVE", b"close, keep-alive", b"upgrade", b"h2c", b"100-continue"]
VALUES += [b"chunked", b"identity", b"gzip, chunked", b"https", b"http", b"ssl", b"on", b"HTTPS", b"caf\xe9", b"a\tb"]
SCRAPS = [b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\x00", b"\x7f", b"\x0b", b"\xa0", b"\x85", b"_", b"-", b"/", b"?"]
SCRAPS += [
    b"\r\n\r\n",
    b"\r\n ",
    b"#",
    b"%",
    b",",
    b"HTTP/1.1",
    b"a: b\r\n",
    b"Content-Length: 3\r\n",
    b"\xdf",
    b"\xff",
]
USUAL = [
    b"Host: a.example",
    b"Content-Type: application/json",
    b"Content-Length: 5",
    b"Accept: */*",
    b"X-Request-Id: 1",
]


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A request, of parts of which each may be odd, then damaged in some places."""

    def choose(values: list[bytes], usual: int) -> bytes:
        return draw(st.sampled_from(values[:usual] * 20 + values))

    line = b" ".join([choose(METHODS, 3), choose(TARGETS, 7), choose(VERSIONS, 1)])
    lines = draw(st.lists(st.sampled_from(USUAL), max_size=2, unique=True))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        lines.append(choose(NAMES, 5) + choose([b": ", b":", b":\t", b" : ", b"\t:", b""], 3) + choose(VALUES, 1))
    data = bytearray(b"\r\n".join([line, *lines, b"", draw(st.sampled_from([b"", b"Hello", GET]))]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 4]))):
        at = draw(st.integers(0, len(data)))
        scrap = draw(st.sampled_from([b"", *SCRAPS]) | st.binary(min_size=1, max_size=2))
        data[at : at + draw(st.sampled_from([0, 0, 1, 2]))] = scrap
    return bytes(data)


@settings(max_examples=1000, deadline=None)
@given(heads(), st.sampled_from(PEERS))
@example(CHAT, PEERS[0])
@example(target(b"/?" + b"q" * 4079), PEERS[0])
@example(target(b"/?" + b"q" * 4080), PEERS[0])
@example(target(b"/?"), PEERS[0])
@example(b"CONNECT / HTTP/1.1\r\n\r\n", PEERS[0])
@example(get(b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"), PEERS[0])
def test_what_is_plain_means_the_same_to_gunicorn(data: bytes, peer: tuple[str, int]) -> None:
    ours = by_us(data, peer)
    event("plain" if ours else "odd")
    if ours:
        assert ours == by_gunicorn(data, peer)


USUAL_LINES = [*USUAL, b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http", b"X-Forwarded-Ssl: on", b"TE: trailers"]


@pytest.mark.parametrize("peer", PEERS, ids=["a proxy", "anybody"])
@pytest.mark.parametrize("line", USUAL_LINES)
def test_what_is_usual_is_plain(line: bytes, peer: tuple[str, int]) -> None:
    assert by_us(get(line), peer) == by_gunicorn(get(line), peer)


@given(st.binary() | st.binary().map(lambda data: b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n") | heads())
def test_nothing_makes_it_fail(data: bytes) -> None:
    found = read_plain(data)
    assert found is None or (0 < found.size <= len(data) and found.length >= 0)
