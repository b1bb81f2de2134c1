"""The one choice of a chunk: in `choices`, or in the chunk itself, as Ollama's own API has it."""

from typing import Any

from gpt_oss_proxy.errors import UpstreamProtocolError

Wire = dict[str, Any]


def choices_of(chunk: Wire) -> list[Wire] | None:
    """Return the parts of the requested choice, [] if there are none, None if the chunk belongs to no answer.

    A single choice is taken whatever its index is: some servers count their chunks. Raises UpstreamProtocolError.
    """
    choices = chunk.get("choices")
    if choices is None:
        return _without_choices(chunk)
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise UpstreamProtocolError
    ours = choices if len(choices) == 1 else [choice for choice in choices if not choice.get("index")]
    if (reason := chunk.get("finish_reason")) and ours and not ours[-1].get("finish_reason"):
        ours = [*ours[:-1], {**ours[-1], "finish_reason": reason}]
    return ours


def _without_choices(chunk: Wire) -> list[Wire] | None:
    delta = next((chunk[name] for name in ("delta", "message") if isinstance(chunk.get(name), dict)), None)
    if delta is None:
        return [] if chunk.get("usage") else None
    reason = chunk.get("finish_reason") or chunk.get("done_reason") or ("stop" if chunk.get("done") is True else None)
    return [{"delta": delta, "finish_reason": reason}]
