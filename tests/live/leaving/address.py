"""Where a CountingWorker says which greenlets it has; the test need not import gevent to know."""


def greenlets_address(pid: int) -> str:
    return f"\0gpt_oss_proxy-greenlets-{pid}"
