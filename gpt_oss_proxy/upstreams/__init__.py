"""One file per wire protocol: how a request is encoded for an upstream, and how its answer is decoded."""
