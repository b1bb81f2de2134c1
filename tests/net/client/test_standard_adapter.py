"""requests' own adapter, as we use it. What it must do is in test_transport.py, for both adapters."""

import certifi
import pytest
import requests

from gpt_oss_proxy.net.client.standard_adapter import POOLED_CONNECTIONS, StandardAdapter
from gpt_oss_proxy.net.client.tls import client_context


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_each_upstream_has_room_for_many_idle_connections(scheme):
    adapter = StandardAdapter(5)
    request = requests.Request("GET", f"{scheme}://localhost/").prepare()
    pool = adapter.get_connection_with_tls_context(request, verify=True)
    assert (pool.pool.maxsize, pool.ConnectionCls.limit_seconds) == (POOLED_CONNECTIONS, 5)
    adapter.close()


@pytest.mark.parametrize("options", [{"verify": False}, {"verify": certifi.where()}, {"cert": "a.pem", "verify": True}])
def test_what_asks_for_other_rules_of_tls_leaves_those_of_all_others_alone(options):
    adapter = StandardAdapter(5, ours := client_context())
    request = requests.Request("GET", "https://localhost/").prepare()
    pools = [adapter.get_connection_with_tls_context(request, **asked) for asked in ({"verify": True}, options)]
    assert [pool.conn_kw.get("ssl_context") for pool in pools] == [ours, None]
    adapter.close()
