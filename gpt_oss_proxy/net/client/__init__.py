"""HTTP towards upstreams: connections, names, TLS, proxies."""
