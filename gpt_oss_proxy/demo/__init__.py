"""The demonstration: a small real model behind the two wire protocols of the product's upstreams, all on this machine.

    gateway (gunicorn) ──/chatkit──► upstream.py ──/v1/chat/completions──► model.py (llama.cpp, SmolLM2-135M-Instruct)
                       ──/api/chat─►

It is a program of its own: it knows the wire, and nothing of the gateway's code. `python -m gpt_oss_proxy.demo` starts
all three; `python -m gpt_oss_proxy.demo.upstream --echo` is the same upstream without a model, for tests and load.
"""
