"""Tools for an upstream that takes one text or a list of texts: which may be called, and how the model is instructed.

A call is a frame in the model's text (see frames).
"""

import json
import re
from collections.abc import Mapping

import msgspec

from gpt_oss_proxy.chat.request import ChatRequest, Passthrough, Tool, ToolChoice
from gpt_oss_proxy.emulation.json_schema import Schema, SchemaError
from gpt_oss_proxy.errors import InvalidField

_MOST_TOOLS = 128
_LONGEST_NAME = 128
# What would end a tool's name in a frame, or be taken out of it with harmony's markup.
_UNCALLABLE = re.compile(r"[\s\[\]{}:]|<\|")
_NO_ARGUMENTS: Mapping[str, object] = {"type": "object", "properties": {}}


class OfferedTool(msgspec.Struct, frozen=True):
    """A function that the model may call. `parameters` is the schema of its arguments, an object."""

    name: str
    parameters: Schema
    written: str  # all of it, as JSON text


class Tools(msgspec.Struct, frozen=True):
    """What may be called, and whether something must be: without a call an answer is none then."""

    tools: Mapping[str, OfferedTool]
    must_call: bool = False
    parallel: bool = True


def offered_tools(request: ChatRequest) -> Tools | None:
    """Return the tools that a request offers, None if the model must not call any. Raises InvalidField."""
    if len(request.tools) > _MOST_TOOLS:
        raise InvalidField(("tools",), f"there may be {_MOST_TOOLS} at most.")
    tools = [_tool(tool, index) for index, tool in enumerate(request.tools)]
    choice = request.tool_choice or ToolChoice("auto")
    if not tools:
        if isinstance(choice, Passthrough) or choice.mode == "required" or choice.names is not None:
            raise InvalidField(("tool_choice",), "there are no tools to choose from.")
        return None
    if isinstance(choice, ToolChoice) and choice.mode == "none":
        return None
    found: dict[str, OfferedTool] = {}
    for index, tool in enumerate(tools):
        if found.setdefault(tool.name, tool) is not tool:
            raise InvalidField(("tools", index, "name"), f"there are two tools named {tool.name!r}.")
    if isinstance(choice, Passthrough):
        raise InvalidField(("tool_choice",), choice.fault)
    names = list(found) if choice.names is None else choice.names
    for name in names:
        if name not in found:
            raise InvalidField(("tool_choice",), f"there is no tool named {name!r}.")
    return Tools({name: found[name] for name in names}, choice.mode == "required", request.parallel_calls is not False)


def instruct(tools: Tools, number: int) -> str:
    """Return the instructions: the tools, and how they are called."""
    names = list(tools.tools)
    unknown = next(name for name in map("example_{}".format, range(len(names) + 1)) if name not in tools.tools)
    lines = [
        "You can call tools. Each of the following lines describes one, with the JSON schema of its arguments:",
        *(tool.written for tool in tools.tools.values()),
        "To call a tool, write exactly this on a line of its own, without any markup around it, with the tool's name "
        "and its arguments as one JSON object that fits the schema:",
        form(number),
        f'(If there were a tool named {unknown}, a call could be: [#{number} call {unknown}] {{"size": 2}})',
    ]
    if tools.parallel:
        lines.append("You may write several such lines, one for each call. Then end your turn.")
    else:
        lines.append("Call at most one tool in a turn, then end your turn.")
    lines.append("The results will be in the next turns. Write no such line for anything but a call.")
    if not tools.must_call:
        lines.append("Call a tool if you need it; otherwise answer in plain text.")
    elif len(names) == 1:
        lines.append(f"In this turn you must call the tool {names[0]}.")
    else:
        lines.append("In this turn you must call at least one tool.")
    return "\n".join(lines)


def form(number: int) -> str:
    """Return how a call is written."""
    return f"[#{number} call NAME] ARGUMENTS"


def _tool(tool: Tool | Passthrough, index: int) -> OfferedTool:
    if isinstance(tool, Passthrough):
        raise InvalidField(("tools", index, *tool.path), tool.fault)
    if len(tool.name) > _LONGEST_NAME:
        raise InvalidField(("tools", index, "name"), f"a tool's name has {_LONGEST_NAME} characters at most.")
    if not tool.name or _UNCALLABLE.search(tool.name):
        text = "a tool's name has no spaces, brackets, braces or colons, and no <|."
        raise InvalidField(("tools", index, "name"), text)
    parameters = _NO_ARGUMENTS if tool.parameters is None else tool.parameters
    try:
        schema = Schema(parameters)
    except SchemaError as error:
        raise InvalidField(("tools", index, "parameters"), f"{error}.") from error
    described = {"name": tool.name, "description": tool.description or "", "parameters": parameters}
    return OfferedTool(tool.name, schema, json.dumps(described, ensure_ascii=False))
