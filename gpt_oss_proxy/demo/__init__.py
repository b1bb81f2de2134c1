"""The demonstration: a small real model behind both wire protocols of the product's upstreams, all on this machine.

    gateway (gunicorn) ──/chatkit──► upstream.py ──/v1/chat/completions──► model.py (llama.cpp, SmolLM2-135M-Instruct)
                       ──/api/chat─►

It is a separate program: it knows the wire protocols, and imports nothing of the gateway. `python -m
gpt_oss_proxy.demo` starts all three; `python -m gpt_oss_proxy.demo.upstream --echo` is the same upstream without a
model, for tests and load.
"""
