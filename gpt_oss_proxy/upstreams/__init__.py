"""One file a wire protocol: what is asked of an upstream, and what its answer means."""
