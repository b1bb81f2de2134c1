"""What a failure to connect means, by its class and never by its text."""

import errno
import http.client
import os
import socket
import ssl

import gevent
import pytest
import urllib3.exceptions

from gpt_oss_proxy.errors import (
    GatewayError,
    Overloaded,
    UpstreamConnectTimeout,
    UpstreamTls,
    UpstreamUnreachable,
)
from gpt_oss_proxy.net.client.connecting import connecting


def wrapped(cause: Exception | None) -> urllib3.exceptions.NewConnectionError:
    """Return urllib3's error for that, whose class says that it is a time-out."""
    error = urllib3.exceptions.NewConnectionError(None, "Failed to establish a new connection")  # type: ignore[arg-type]
    error.__cause__ = cause
    return error


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def failed(error: Exception) -> GatewayError:
    with pytest.raises(GatewayError) as raised, connecting(5):
        raise error
    assert raised.value.__cause__ is error
    return raised.value


@pytest.mark.parametrize("error", [TimeoutError(), wrapped(TimeoutError()), TimeoutError(errno.ETIMEDOUT, "x")])
def test_a_connection_that_is_not_accepted_in_time_is_a_connect_timeout(error: Exception) -> None:
    assert type(failed(error)) is UpstreamConnectTimeout


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_having_no_descriptor_left_is_ours(number: int) -> None:
    assert type(failed(OSError(number, "x"))) is type(failed(wrapped(OSError(number, "x")))) is Overloaded


def test_a_failed_check_of_a_certificate_is_named() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"
    found = failed(error)
    assert (type(found), found.reason) == (UpstreamTls, "certificate has expired")


def test_a_failed_handshake_is_named_if_openssl_names_it() -> None:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    assert (type(failed(error)), failed(error).reason) == (UpstreamTls, str(error))  # raised by Python's own code
    error.reason = "WRONG_VERSION_NUMBER"
    assert failed(error).reason == "WRONG_VERSION_NUMBER"


# The number of an error of OpenSSL's library is no errno.
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_an_error_of_tls_is_no_lack_of_descriptors(number: int) -> None:
    assert type(failed(ssl.SSLError(number, "x"))) is UpstreamTls


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (REFUSED, "Connection refused"),
        (wrapped(REFUSED), "Connection refused"),
        (UNKNOWN, "Name or service not known"),
        (wrapped(UNKNOWN), "Name or service not known"),
        (wrapped(None), str(wrapped(None))),
        (UnicodeError("label too long"), "label too long"),
        (http.client.BadStatusLine("SSH-2.0"), "SSH-2.0"),
        (OSError("Tunnel connection failed: 407 No"), "Tunnel connection failed: 407 No"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "EOF occurred in violation of protocol"),
        (
            ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"),
            "TLS/SSL connection has been closed (EOF)",
        ),
    ],
)
def test_all_else_is_unreachable_for_a_reason(error: Exception, reason: str) -> None:
    found = failed(error)
    assert (type(found), found.reason) == (UpstreamUnreachable, reason)


def test_the_time_is_limited_and_a_limit_of_the_caller_stays_its_own() -> None:
    with pytest.raises(UpstreamConnectTimeout), connecting(0.001):
        gevent.sleep(5)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.001), connecting(5):
        gevent.sleep(5)


def test_what_is_a_bug_stays_one() -> None:
    with pytest.raises(ZeroDivisionError), connecting(5):
        _ = 1 / 0
