"""The WSGI application, for `gunicorn -c gunicorn.conf.py wsgi:app`."""

import sys

from gpt_oss_proxy.app import create_app
from gpt_oss_proxy.config.settings import SettingsError
from gpt_oss_proxy.gateway.observe.access_log import log_to_stdout

try:
    app = create_app()
except SettingsError as error:
    sys.exit(f"gpt_oss_proxy cannot start: {error}")
log_to_stdout()
