"""Counting tokens with the o200k vocabulary, for upstreams that report no usage."""

from collections.abc import Callable, Iterator

from rs_bpe.bpe import openai

from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, TextDelta, TextReplaced, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest

Count = Callable[[str], int]

# What OpenAI's own chat format adds to a message's text: its frame and role. Source: OpenAI cookbook,
# "How to count tokens with tiktoken".
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_ANSWER = 3


def load_o200k() -> Count:
    """Return the counter. It costs about 0.2 s and 70 MB, so it is loaded once, before the workers fork."""
    encoding = openai.o200k_base()

    def count(text: str) -> int:
        # A lone surrogate has no UTF-8 form; it counts as the replacement character that will be sent.
        return int(encoding.count(text.encode("utf-8", "replace").decode("utf-8")))

    return count


def count_prompt(request: ChatRequest, count: Count) -> int:
    """Return the prompt's tokens: all text of all turns and the frame of each. Images count as nothing."""
    texts = [message.text for message in request.messages]
    texts += [call.name + call.arguments for message in request.messages for call in message.tool_calls]
    return sum(map(count, texts)) + _TOKENS_PER_MESSAGE * len(request.messages) + _TOKENS_PER_ANSWER


def with_usage(lists: Iterator[list[Event]], request: ChatRequest, count: Count) -> Iterator[list[Event]]:
    """Yield the same lists, with a counted Usage before Finish where the upstream has reported none."""
    text: list[str] = []
    reasoning: list[str] = []
    reported = False
    for events in lists:
        for event in events:
            match event:
                case TextDelta():
                    text.append(event.text)
                case ToolCallDelta():
                    text.append(event.name + event.arguments)
                case ReasoningDelta():
                    reasoning.append(event.text)
                case TextReplaced():
                    text = [event.text]
                case Usage():
                    reported = True
                case _:
                    pass
        if not reported and events and isinstance(events[-1], Finish):
            thought = count("".join(reasoning))
            answer = count("".join(text))
            usage = Usage(count_prompt(request, count), thought + answer, reasoning_tokens=thought)
            events = [*events[:-1], usage, events[-1]]
        yield events
