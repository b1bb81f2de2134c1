"""The authorities trusted to certify upstreams: one TLS context for both adapters."""

import os
import ssl
from functools import lru_cache

from requests.utils import DEFAULT_CA_BUNDLE_PATH


@lru_cache(1)
def client_context(*, bundle: str = "", file: str = "", folders: str = "", added: str = "") -> ssl.SSLContext:
    """Return a context that trusts the authorities of `bundle`, else those of `file` and `folders`, else certifi's.

    `bundle` is a file or a folder, `folders` are separated by colons. Those of the file `added` are trusted, too.
    Raises OSError for files that cannot be read; the settings have checked them before.
    """
    if bundle:
        file, folders = ("", bundle) if os.path.isdir(bundle) else (bundle, "")
    elif not folders:
        file = file or DEFAULT_CA_BUNDLE_PATH
    context = ssl.create_default_context(cafile=file or None, capath=folders or None)
    if added:
        context.load_verify_locations(added)
    # Like requests (RFC 9525, 2): do not take a certificate's common name for a host name.
    context.hostname_checks_common_name = False
    # Like curl, and Python from 3.13 on: an intermediate authority can be trusted without its root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
