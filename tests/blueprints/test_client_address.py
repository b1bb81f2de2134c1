"""Whose request it is, behind proxies that are trusted to tell it."""

import pytest

from gpt_oss_proxy.blueprints.client_address import ClientAddresses

TRUSTED = ["127.0.0.0/8", "::1/128", "10.0.0.0/8"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # it is no proxy of ours
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.7", "198.51.100.7"),  # the first one is the client's own word
        ("127.0.0.1", "198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7,10.1.2.3 , 10.9.9.9", "198.51.100.7"),
        ("127.0.0.1", "10.1.2.3, 10.9.9.9", "10.1.2.3"),
        ("127.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "2001:DB8::7", "2001:db8::7"),
        ("::ffff:127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7, unknown", "127.0.0.1"),
        ("127.0.0.1", "unknown, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "<script>", "127.0.0.1"),
        ("127.0.0.1", "fe80::1%evil", "127.0.0.1"),
        ("", "198.51.100.7", "198.51.100.7"),  # a Unix socket
        ("", "", ""),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_trusted_proxy_s(peer: str, forwarded: str, client: str) -> None:
    environ = {"REMOTE_ADDR": peer, **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
    assert ClientAddresses(TRUSTED).find(environ) == client


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert ClientAddresses([]).find({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "6.6.6.6"}) == "127.0.0.1"
