"""Connecting to an upstream: one time limit for all steps, and the mapping of failures to our errors."""

import contextlib
import errno
import http.client
import ssl
from collections.abc import Iterator

import gevent
import urllib3.exceptions

from gpt_oss_proxy.errors import GatewayError, Overloaded, UpstreamConnectTimeout, UpstreamTls, UpstreamUnreachable

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


@contextlib.contextmanager
def connecting(seconds: float) -> Iterator[None]:
    """Map the failures of the block to our errors. Name look-up, TCP, proxy and TLS share `seconds`.

    Raises UpstreamConnectTimeout, UpstreamTls, UpstreamUnreachable, or Overloaded when no file descriptor is left.
    """
    timeout = gevent.Timeout(seconds)
    try:
        with timeout:
            yield
    except gevent.Timeout as error:
        if error is not timeout:
            raise
        raise UpstreamConnectTimeout from error
    # ValueError: a name that cannot be looked up. HTTPException: the proxy does not speak HTTP.
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise _meaning(error) from error


def _meaning(error: Exception) -> GatewayError:
    # urllib3's classes say less than the error they wrap: a refused connection is a time-out, too. An end of file
    # during the handshake means that the server hung up; it refused neither a certificate nor a version.
    cause = error.__cause__ if isinstance(error, urllib3.exceptions.HTTPError) else error
    match cause:
        case TimeoutError():
            return UpstreamConnectTimeout()
        case ssl.SSLError() if not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return UpstreamTls(reason=_first_of(cause, "verify_message", "reason"))  # OpenSSL's words for it
        case OSError() if cause.errno in _NO_DESCRIPTORS:
            return Overloaded()
    return UpstreamUnreachable(reason=_first_of(cause or error, "strerror"))


def _first_of(error: BaseException, *names: str) -> str:
    """Return the first of these attributes that is set and not empty, else the error's text."""
    return next((text for name in names if (text := getattr(error, name, None))), str(error))
