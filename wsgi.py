"""The WSGI application, for `gunicorn -c gunicorn.conf.py wsgi:app`."""

import sys

from gpt_oss_proxy.app import create_app
from gpt_oss_proxy.gateway.access_log import log_to_stdout
from gpt_oss_proxy.settings import SettingsError

try:
    app = create_app()
except SettingsError as error:
    sys.exit(f"gpt_oss_proxy cannot start: {error}")
log_to_stdout()
