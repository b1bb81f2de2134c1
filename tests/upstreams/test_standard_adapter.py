"""requests' own adapter, as we use it. What it must do is in test_transport.py, for both adapters."""

import pytest
import requests

from gpt_oss_proxy.upstreams.standard_adapter import POOLED_CONNECTIONS, StandardAdapter


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_each_upstream_has_room_for_many_idle_connections(scheme):
    adapter = StandardAdapter(5)
    request = requests.Request("GET", f"{scheme}://localhost/").prepare()
    pool = adapter.get_connection_with_tls_context(request, verify=True)
    assert (pool.pool.maxsize, pool.ConnectionCls.limit_seconds) == (POOLED_CONNECTIONS, 5)
    adapter.close()
