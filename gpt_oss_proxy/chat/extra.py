"""Fields of a message that come in pieces, as OpenAI-compatible servers stream them, put together.

Source: the delta accumulation of OpenAI's SDKs, and OpenRouter's rules for `reasoning_details`.
"""

from typing import Any

# Within an element that comes in pieces these grow; all others (ids, types, signatures) are replaced.
_GROWING = frozenset({"text", "summary", "content", "transcript", "arguments", "data"})


class _Pieces(list[str]):
    """A text that grows: to join it with each piece would take long."""


class _Elements(list[Any]):
    """A list that grows. `by_place` finds the elements that come in pieces."""

    def __init__(self, elements: list[Any]) -> None:
        super().__init__()
        self.by_place: dict[tuple[int, str], dict[str, Any]] = {}
        self.add(elements)

    def add(self, elements: list[Any]) -> None:
        for element in elements:
            place = _place(element)
            if place in self.by_place:
                _update(self.by_place[place], element)
                continue
            self.append(_opened(element))
            if place:
                self.by_place[place] = self[-1]


class ExtraFields:
    """Fields that grow: texts and lists by what is added, and elements of a list with the same `index` become one."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def add(self, more: dict[str, Any]) -> None:
        """Add the pieces that came next."""
        for name, value in more.items():
            before = self._fields.get(name)
            if isinstance(before, _Pieces) and isinstance(value, str):
                before.append(value)
            elif isinstance(before, _Elements) and isinstance(value, list):
                before.add(value)
            elif isinstance(before, dict) and isinstance(value, dict):
                _update(before, value)
            else:
                self._fields[name] = _Elements(value) if isinstance(value, list) else _opened(_pieces_of(value))

    def value(self) -> dict[str, Any]:
        """Return them as they are now."""
        return {name: _closed(value) for name, value in self._fields.items()}


def _place(element: Any) -> tuple[int, str] | None:
    """Return what makes two pieces one element, None if it is whole."""
    if not isinstance(element, dict) or not isinstance(element.get("index"), int):
        return None
    kind = element.get("type")
    return element["index"], kind if isinstance(kind, str) else ""


def _update(element: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        before = element.get(name)
        if isinstance(before, _Pieces) and isinstance(value, str):
            before.append(value)
        elif value is not None:
            element[name] = _pieces_of(value) if name in _GROWING else value


def _pieces_of(value: Any) -> Any:
    return _Pieces([value]) if isinstance(value, str) else value


def _opened(value: Any) -> Any:
    """Return a value that may grow without the event that brought it."""
    if not isinstance(value, dict):
        return value
    return {name: _pieces_of(item) if name in _GROWING else item for name, item in value.items()}


def _closed(value: Any) -> Any:
    match value:
        case _Pieces():
            return "".join(value)
        case _Elements():
            return [_closed(item) for item in value]
        case dict():
            return {name: "".join(item) if isinstance(item, _Pieces) else item for name, item in value.items()}
        case _:
            return value
