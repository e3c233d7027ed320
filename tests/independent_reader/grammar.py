"""Shapes of JSON values: what is allowed, what is left out, and the canonical text that ids are made of (section 7)."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from .errors import UnsupportedError, require

REQUIRED = object()


def parse_json(data: bytes) -> Any:
    """JSON as section 0 and 11 want it: UTF-8, no field twice, no NaN, not nested without end."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        require(len(names) == len(set(names)), "an object has two fields of one name")
        return dict(pairs)

    def refuse(name: str) -> Any:
        raise UnsupportedError(f"{name} is not JSON")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UnsupportedError(f"no JSON: {error}") from None


@dataclass
class Integer:
    low: int
    high: int

    def check(self, value: Any, where: str) -> None:
        require(type(value) is int and self.low <= value <= self.high, f"{where}: not in {self.low} .. {self.high}")

    def canonical(self, value: Any) -> Any:
        return value


@dataclass
class Number:
    """`above`: low itself is not allowed. Canonical as the 16 digits of its double."""

    low: float
    high: float
    above: bool = False

    def check(self, value: Any, where: str) -> None:
        require(type(value) in (int, float) and self.low <= value <= self.high, f"{where}: no number in its range")
        require(not (self.above and value == self.low), f"{where}: must be above {self.low}")

    def canonical(self, value: Any) -> Any:
        return struct.pack(">d", value).hex()


@dataclass
class Text:
    pattern: str = r"(?s:.*)"

    def check(self, value: Any, where: str) -> None:
        require(isinstance(value, str) and re.fullmatch(self.pattern, value, re.ASCII), f"{where}: not {self.pattern}")

    def canonical(self, value: Any) -> Any:
        return value


@dataclass
class Flag:
    def check(self, value: Any, where: str) -> None:
        require(isinstance(value, bool), f"{where}: neither true nor false")

    def canonical(self, value: Any) -> Any:
        return value


@dataclass
class Array:
    item: Any
    low: int = 0
    high: int = 1 << 20

    def check(self, value: Any, where: str) -> None:
        require(isinstance(value, list) and self.low <= len(value) <= self.high, f"{where}: no list of a right length")
        for i, item in enumerate(value):
            self.item.check(item, f"{where}[{i}]")

    def canonical(self, value: Any) -> Any:
        return [self.item.canonical(item) for item in value]


@dataclass
class Map:
    key: str
    item: Any
    low: int = 0
    high: int = 1 << 20

    def check(self, value: Any, where: str) -> None:
        require(isinstance(value, dict) and self.low <= len(value) <= self.high, f"{where}: no object of a right size")
        for name, item in value.items():
            require(re.fullmatch(self.key, name, re.ASCII), f"{where}: {name!r} is no name for it")
            self.item.check(item, f"{where}.{name}")

    def canonical(self, value: Any) -> Any:
        return {name: self.item.canonical(item) for name, item in value.items()}


@dataclass
class Record:
    """fields: name → (shape, default or REQUIRED). Checking puts defaults in; canonical takes them out."""

    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def check(self, value: Any, where: str) -> None:
        require(isinstance(value, dict), f"{where}: no object")
        for name in value:
            require(name in self.fields, f"{where}: unknown field {name!r}")
        for name, (shape, default) in self.fields.items():
            if name in value and not (value[name] is None and default is None):
                shape.check(value[name], f"{where}.{name}")
            else:
                require(default is not REQUIRED, f"{where}: {name} is missing")
                value[name] = default

    def canonical(self, value: Any) -> Any:
        return {
            name: shape.canonical(value[name])
            for name, (shape, default) in self.fields.items()
            if default is REQUIRED or value[name] != default
        }


@dataclass
class Tagged:
    """One of several records, named by a field."""

    tag: str
    records: dict[str, Record]

    def check(self, value: Any, where: str) -> None:
        require(isinstance(value, dict) and isinstance(value.get(self.tag), str), f"{where}: has no {self.tag}")
        require(value[self.tag] in self.records, f"{where}: unknown {self.tag} {value[self.tag]!r}")
        self.records[value[self.tag]].check(value, where)

    def canonical(self, value: Any) -> Any:
        return self.records[value[self.tag]].canonical(value)


@dataclass
class Either:
    """By the JSON type: int, str, list or dict → shape."""

    shapes: dict[type, Any]

    def check(self, value: Any, where: str) -> None:
        require(type(value) in self.shapes, f"{where}: of a wrong type")
        self.shapes[type(value)].check(value, where)

    def canonical(self, value: Any) -> Any:
        return self.shapes[type(value)].canonical(value)


@dataclass
class Anything:
    """An object of whatever, at most `depth` levels."""

    depth: int

    def check(self, value: Any, where: str) -> None:
        require(isinstance(value, dict), f"{where}: no object")
        level = [value]
        for _ in range(self.depth):
            level = [
                item
                for outer in level
                for item in (outer.values() if isinstance(outer, dict) else outer)
                if isinstance(item, dict | list)
            ]
        require(not level, f"{where}: nested too deeply")

    def canonical(self, value: Any) -> Any:
        raise AssertionError("no id covers it")


def canonical_text(value: Any) -> bytes:
    """Canonical JSON of what the shapes' `canonical` gave."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
