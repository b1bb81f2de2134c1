"""The model that both upstream servers can put behind themselves: it reads its prompt as a model would, and writes.

`::model SCRIPT key=value ...::` in a user's turn says how well; README.md beside this file lists the scripts. It knows
the protocol of tools only from what a prompt tells: the marker's number, the tools' names, results, and complaints.
As a program it answers lines of JSON, {"turns": [[role, text], ...]}, each with a line: the list of steps.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Step = dict[str, Any]  # {"text": ...} {"thought": ...} {"wait": milliseconds} {"error": message} {"stall": True}

_DIRECTIVE = re.compile(r"::model +(\w+)((?: +[a-z_]+=(?:(?!::).)*)?)::[ \n]?")
_OPTION = re.compile(r"([a-z_]+)=(.*?)(?=\s+[a-z_]+=|\s*$)")
_HEAD = re.compile(r"^\[#(\d+) (?:system|user|assistant|tool result [^\n]*)\]$", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+")
_HOW_TO_CALL = re.compile(r"\[#(\d+) call ")
_SEPARATOR = "¦"  # between pieces that shall arrive as they stand


@dataclass(frozen=True)
class Prompt:
    """What the model has understood: its orders, and what has happened since they were given."""

    script: str
    options: dict[str, str]
    text: str  # what follows the directive
    instructions: str  # the system's turns
    number: str | None  # of the marker, if the instructions tell how to call
    since: list[tuple[str, str]]  # the turns after the orders

    def amount(self, key: str, default: int = 0) -> int:
        return int(self.options.get(key, default))

    @property
    def results(self) -> list[str]:
        """The texts of the tools' results, in the order of the turns."""
        return [text.partition("\n")[2] for role, text in self.since if role == "tool"]

    @property
    def complaints(self) -> int:
        """How often the user has said that an answer was wrong."""
        return sum(role == "user" for role, _ in self.since)

    def calls(self) -> list[tuple[str, str]]:
        """The calls that the user's text dictates, a line each: NAME ARGUMENTS."""
        return [(name, rest) for name, _, rest in (line.partition(" ") for line in self.text.splitlines() if line)]


def read_text(text: str) -> list[tuple[str, str]]:
    """Return the turns of a folded conversation; a text that is none is the user's."""
    first = _HEAD.search(text)
    if not first:
        return [("user", text)]
    head = re.compile(rf"^\[#{first[1]} (system|user|assistant|tool result [^\n]*)\]\n?", re.MULTILINE)
    found = list(head.finditer(text))
    ends = [following.start() for following in found[1:]] + [len(text)]
    turns = [
        (turn[1], (turn[0] if turn[1].startswith("tool") else "") + text[turn.end() : end].removesuffix("\n\n"))
        for turn, end in zip(found, ends, strict=True)
    ]
    return [(role.partition(" ")[0], words) for role, words in turns]


def read(turns: list[tuple[str, str]]) -> Prompt:
    """Return what the turns say. Raises ValueError without a directive."""
    instructions = "\n\n".join(text for role, text in turns if role == "system")
    how = _HOW_TO_CALL.search(instructions)
    number = how[1] if how else None
    result = f"[#{number} tool result "
    turns = [("tool" if number and text.startswith(result) else role, text) for role, text in turns]
    for position in reversed(range(len(turns))):
        role, text = turns[position]
        if role == "user" and (found := _DIRECTIVE.search(text)):
            options = dict(_OPTION.findall(found[2]))
            rest = text[found.end() :]
            return Prompt(found[1], options, rest, instructions, number, turns[position + 1 :])
    raise ValueError("no ::model:: in the prompt")


# What it writes


def call_line(prompt: Prompt, name: str, arguments: str) -> str:
    """Return a call as the prompt says it must be written; what the prompt does not say, the model cannot do."""
    if prompt.number is None:
        return "Nobody has told me how to call a tool."
    if name not in prompt.instructions:
        return f"I know no tool {name}."
    for key in json.loads(arguments):
        if f'"{key}"' not in prompt.instructions:
            return f"I know no parameter {key}."
    return f"[#{prompt.number} call {name}] {arguments}"


def good_calls(prompt: Prompt) -> str:
    return "\n".join(call_line(prompt, name, arguments) for name, arguments in prompt.calls())


def call(prompt: Prompt) -> str:
    """Call as dictated; when there are results, tell them."""
    if prompt.results:
        return f"The tools say: {'; '.join(prompt.results)}."
    return prose(prompt) + good_calls(prompt)


def prose(prompt: Prompt) -> str:
    """Return what is to be said before a call."""
    words = prompt.options.get("say")
    return f"{words}\n\n" if words else ""


def mended(wrong: Any) -> Any:
    """Return a script that is wrong until somebody complains, or for ever with always=1."""

    def script(prompt: Prompt) -> str:
        if prompt.results or (prompt.complaints and prompt.options.get("always") != "1"):
            return call(prompt)
        return prose(prompt) + str(wrong(prompt))

    return script


def malformed(prompt: Prompt) -> str:
    return good_calls(prompt).removesuffix("}")


def half(prompt: Prompt) -> str:
    """Stop within the last string."""
    return good_calls(prompt)[:-3]


def wrong_type(prompt: Prompt) -> str:
    """Every argument is a list of nothing."""
    calls = [(name, json.dumps({key: [] for key in json.loads(arguments)})) for name, arguments in prompt.calls()]
    return "\n".join(call_line(prompt, name, arguments) for name, arguments in calls)


def unknown_tool(prompt: Prompt) -> str:
    return "\n".join(f"[#{prompt.number} call no_such_tool] {arguments}" for _, arguments in prompt.calls())


def no_call(prompt: Prompt) -> str:
    return "I would rather talk."


def harmony(prompt: Prompt) -> str:
    """Slip into gpt-oss's own format."""
    if prompt.results:
        thought = "<|channel|>analysis<|message|>It is there.<|end|>"
        return f"{thought}<|start|>assistant<|channel|>final<|message|>{call(prompt)}"
    thought = "<|channel|>analysis<|message|>I must call.<|end|>"
    calls = [
        f"<|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}<|call|>"
        for name, arguments in prompt.calls()
    ]
    return thought + "".join(calls)


def harmony_text(prompt: Prompt) -> str:
    thought = "<|channel|>analysis<|message|>The user wants an answer.<|end|>"
    return f"{thought}<|start|>assistant<|channel|>final<|message|>{prompt.text}"


def knows_schema(prompt: Prompt, answer: str) -> str:
    """Return the answer, if the prompt has told the names in it."""
    value = json.loads(answer)
    unknown = [key for key in value if f'"{key}"' not in prompt.instructions] if prompt.options.get("schema") else []
    return f"Nobody has told me of {unknown}." if unknown else answer


def fenced(prompt: Prompt) -> str:
    answer = knows_schema(prompt, prompt.text)
    return f"Sure, here you are:\n\n```json\n{answer}\n```\n\nI hope that it helps."


def bare_json(prompt: Prompt) -> str:
    return knows_schema(prompt, prompt.text)


def bad_json(prompt: Prompt) -> str:
    """An object that has none of what was asked; the right one after a complaint."""
    if prompt.complaints and prompt.options.get("always") != "1":
        return prompt.text
    return '{"wrong": true' if prompt.options.get("cut") else '{"wrong": true}'


def agent(prompt: Prompt) -> str:
    """Look up each city, add the two numbers that were given, and tell the sum that was given."""
    cities = [city.strip() for city in prompt.text.split(",")]
    numbers = [match[0] if (match := _NUMBER.search(result)) else "0" for result in prompt.results]
    if len(numbers) < len(cities):
        return call_line(prompt, "population", json.dumps({"city": cities[len(numbers)]}))
    if len(numbers) == len(cities):
        return call_line(prompt, "add", json.dumps({"a": int(numbers[0]), "b": int(numbers[1])}))
    return f"Together {numbers[-1]} people."


_asked: Counter[str] = Counter()  # how often each `id` has been asked, by all choices of one request


def choice(prompt: Prompt) -> Iterator[Step]:
    """Each answer to the same `id` is another one; number `fail` fails after its text."""
    _asked[prompt.options["id"]] += 1
    count = _asked[prompt.options["id"]]
    yield from pieces(prompt, f"choice {count} of them")
    if count == prompt.amount("fail"):
        yield {"error": "one choice has failed"}


def said(prompt: Prompt) -> str:
    return prompt.text


SCRIPTS = {
    "say": said,
    "call": call,
    "half": half,
    "malformed": mended(malformed),
    "wrongtype": mended(wrong_type),
    "unknown": mended(unknown_tool),
    "nocall": mended(no_call),
    "harmony": harmony,
    "harmonytext": harmony_text,
    "fenced": fenced,
    "json": bare_json,
    "badjson": bad_json,
    "agent": agent,
}


def pieces(prompt: Prompt, text: str) -> Iterator[Step]:
    """Cut the answer: at each ¦, else every `piece` characters, else before each space; `gap` between the pieces."""
    if _SEPARATOR in text:
        cut = text.split(_SEPARATOR)
    elif size := prompt.amount("piece"):
        cut = [text[start : start + size] for start in range(0, len(text), size)]
    else:
        cut = re.findall(r"\s*\S+|\s+", text)
    for piece in cut:
        yield {"text": piece}
        if gap := prompt.amount("gap"):
            yield {"wait": gap}
    if prompt.options.get("then") == "stall":
        yield {"stall": True}


def answer(turns: list[tuple[str, str]]) -> Iterator[Step]:
    """Yield the steps of the model's answer to these turns."""
    prompt = read(turns)
    if thought := prompt.options.get("think"):
        yield {"thought": thought}
    yield from choice(prompt) if prompt.script == "choice" else pieces(prompt, SCRIPTS[prompt.script](prompt))


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(list(answer([(role, text) for role, text in asked["turns"]]))), flush=True)


if __name__ == "__main__":
    main()
