"""A conversation → one prompt, for an upstream that takes a single text.

Each turn begins with a marker line such as `[#1 user]`. The number is the first one whose marker does not occur in the
conversation, so a user cannot fake another role's turn by typing its marker. Text is never trimmed or reflowed.
"""

import itertools
import re
from collections.abc import Sequence

from gpt_oss_proxy.chat.request import Message

_MARKER = re.compile(r"\[#([0-9]+)")  # only the number: call markers have a name and an id behind it
_INTRODUCTION = (
    "This is a conversation. A line that begins with [#{number} opens a turn and names its speaker; nothing else does. "
    "Follow the system's instructions, and give the assistant's next turn: its text alone, without such a line, "
    "unless the system tells how to call tools."
)


def fold(messages: Sequence[Message], number: int = 0) -> str:
    """Return the conversation as one text; a single user message is returned exactly as it was typed.

    `number` is the markers' number if already chosen, else 0.
    """
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text
    number = number or marker_number(messages)
    return "\n\n".join([_INTRODUCTION.format(number=number), *(_turn(message, number) for message in messages)])


def fold_turn(message: Message, number: int) -> str:
    """Return one turn's text with its tool calls, or with a tool result's marker, for a list that supports neither."""
    if message.role == "tool":
        return _turn(message, number)
    return "\n".join([*([message.text] if message.parts else []), *_calls(message, number)])


def marker_number(messages: Sequence[Message]) -> int:
    """Return the first number whose marker does not occur in the conversation."""
    taken = {digits for message in messages for text in _texts(message) for digits in _MARKER.findall(text)}
    return next(number for number in itertools.count(1) if str(number) not in taken)


def _texts(message: Message) -> list[str]:
    calls = [text for call in message.tool_calls for text in (call.id, call.name, call.arguments)]
    return [message.text, message.tool_call_id or "", *calls]


def _turn(message: Message, number: int) -> str:
    role = "system" if message.role == "developer" else message.role
    speaker = f"[#{number} tool result {message.tool_call_id or ''}]" if role == "tool" else f"[#{number} {role}]"
    return "\n".join([speaker, message.text, *_calls(message, number)])


def _calls(message: Message, number: int) -> list[str]:
    # In the form that the instructions prescribe (see tools), with the id that the result will name.
    return [f"[#{number} call {call.name} {call.id}] {call.arguments}" for call in message.tool_calls]
