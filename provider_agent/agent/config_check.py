"""What is wrong with plain values that should become a configuration, and the sentence for it; knows no key.

Errors name the place, the key, what is wrong and the remedy, in one sentence, and never show a value that
might be a secret.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import inspect

ENVIRONMENT_PREFIX = "PROVIDER_AGENT__"

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What the bytes of a variable become that are no UTF-8; no frame can hold it."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""A name that needs no quotes in TOML."""

_LAST_NAME = re.compile(r'"[^"]*"$|[^."]*$')


class ConfigError(Exception):
    """The configuration cannot be used as it is.

    Attributes:
        file: where it stands; None when it came from no file.
        line: its line there, when that can be told.
        variable: the environment variable that it came from, if it did.
        key: dotted, such as `limits.max_concurrent`; "" when the file as a whole is at fault.
        problem: what is wrong; reads after the key.
        remedy: what to do.
    """

    def __init__(
        self,
        problem: str,
        remedy: str,
        *,
        key: str = "",
        file: Path | None = None,
        line: int | None = None,
        variable: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.file = file
        self.line = line
        self.variable = variable
        self.key = key
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.file}" if self.file else ""
        where += f", line {self.line}" if self.file and self.line else ""
        place = f"environment variable {self.variable}" if self.variable else where
        return (
            f"{place}{': ' if place else ''}{self.key}{' ' if self.key else ''}{self.problem}; {self.remedy}"
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where each setting came from, so that a later complaint can say so.

    Attributes:
        file: the file that was read, if any.
        text: its content.
        variables: environment variables that were used, by key.
    """

    file: Path | None = None
    text: str = field(default="", repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)

    def error(self, key: str, problem: str, remedy: str) -> ConfigError:
        for known, variable in self.variables.items():
            if key == known or key.startswith((f"{known}.", f"{known}[")):
                return ConfigError(problem, remedy, key=key, variable=variable)
        return ConfigError(problem, remedy, key=key, file=self.file, line=line_of(self.text, key))


def line_of(text: str, key: str) -> int | None:
    """The line of a TOML text on which this key, or the table or list around it, is set."""
    key = key.replace('"', "")
    section, counts = "", dict[str, int]()
    best, best_length = None, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            section = header[2].replace('"', "")
            if header[1] == "[[":
                counts[section] = counts.get(section, -1) + 1
                section += f"[{counts[section]}]"
            here = section
        elif setting := re.match(r"\s*((?:[\w.-]|\"[^\"]*\")+)\s*=", line):
            name = setting[1].replace('"', "")
            here = f"{section}.{name}" if section else name
        else:
            continue
        covers = key == here or key.startswith((f"{here}.", f"{here}["))
        if covers and len(here) > best_length:
            best, best_length = number, len(here)
    return best


def known_keys(root: inspect.Type, prefix: str = "") -> Iterator[str]:
    """Every key of a shape, dotted; a member of a list is written `backends[].url`."""
    kind = required(root)
    if isinstance(kind, inspect.StructType):
        for member in kind.fields:
            yield from known_keys(member.type, f"{prefix}.{member.name}".removeprefix("."))
    elif isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType):
        yield from known_keys(kind.item_type, f"{prefix}[]")
    else:
        yield prefix


# --- the checks --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checker:
    """Judges a tree of plain values by a shape, before it becomes a struct.

    Attributes:
        root: the whole shape, to look for what an unknown name may have meant.
        origin: where the values came from.
        is_complete: whether what is required must be there.
    """

    root: inspect.Type
    origin: Origin
    is_complete: bool

    def check(self, shape: inspect.Type, value: Any, key: str = "") -> None:
        kind = required(shape)
        if value is None and kind is not shape:
            return
        if not _fits(kind, value):
            problem = f"must be {describe(kind)}, not {_name_of(kind, value)}"
            raise self.origin.error(key, problem, _remedy(key, kind, value))
        if _SURROGATE.search(_text_in(kind, value)):
            raise self.origin.error(key, "holds what is no UTF-8", "write it as UTF-8 text")
        if isinstance(value, str) and "\0" in value:  # no name of a file may, nor a header
            raise self.origin.error(key, "holds a NUL character", "remove it")
        if isinstance(kind, inspect.StructType):
            self._check_names(kind, value, key)
        for step, below, inner in _members(kind, value):
            self.check(below, inner, (key + step).removeprefix("."))

    def _check_names(self, kind: inspect.StructType, value: Mapping[str, Any], key: str) -> None:
        known = {member.name for member in kind.fields}
        for name in value:
            if name not in known:
                place = f"{key}.{name}".removeprefix(".")
                raise self.origin.error(
                    place, "is no known key", self._did_you_mean(sorted(known), key, name)
                )
        for member in kind.fields:
            if self.is_complete and member.required and value.get(member.name) in (None, ""):
                raise self._missing(member, f"{key}.{member.name}".removeprefix("."))

    def _did_you_mean(self, siblings: list[str], key: str, name: str) -> str:
        """1. A key beside it that is spelled alike; 2. the same key elsewhere; 3. all that may stand here."""
        if alike := difflib.get_close_matches(name, siblings, n=1, cutoff=0.6):  # 1
            return f"did you mean {key}{'.' if key else ''}{alike[0]}?"
        everywhere = sorted(known_keys(self.root), key=lambda other: "[]" in other)
        if same := [other for other in everywhere if other.rpartition(".")[2] == name]:  # 2
            return f"did you mean {same[0]}?"
        return f"known keys here are {', '.join(siblings)}"  # 3

    def _missing(self, member: inspect.Field, key: str) -> ConfigError:
        if isinstance(member.type, inspect.StructType):
            first = next(inner for inner in member.type.fields if inner.required)
            return self._missing(first, f"{key}.{first.name}")
        variable = ENVIRONMENT_PREFIX + re.sub(r"\[(\d+)\]", r"__\1", key).replace(".", "__").upper()
        if self.origin.file is None:
            problem = "is missing, as there is no agent.toml here"
            return self.origin.error(key, problem, f"write one, name yours with --config, or set {variable}")
        return self.origin.error(key, "is missing", f"set it in {self.origin.file} or as {variable}")


def required(shape: inspect.Type) -> inspect.Type:
    """The type without `| None`."""
    if isinstance(shape, inspect.UnionType):
        return next(kind for kind in shape.types if not isinstance(kind, inspect.NoneType))
    return shape


def _members(kind: inspect.Type, value: Any) -> Iterator[tuple[str, inspect.Type, Any]]:
    """Each member that is there: the step to it (`.name` or `[0]`), its type, its value."""
    if isinstance(kind, inspect.StructType):
        yield from (
            (f".{member.name}", member.type, value[member.name])
            for member in kind.fields
            if member.name in value
        )
    elif isinstance(kind, inspect.DictType):
        yield from ((f".{_quoted(name)}", kind.value_type, inner) for name, inner in value.items())
    elif isinstance(kind, inspect.VarTupleType):
        yield from ((f"[{index}]", kind.item_type, inner) for index, inner in enumerate(value))


def _quoted(name: str) -> str:
    """A name that an operator chose, as TOML wants it."""
    return name if _BARE.fullmatch(name) else f'"{name}"'


def _text_in(kind: inspect.Type, value: Any) -> str:
    """The text of this value itself: it, or the names in a table. A path may be any bytes."""
    if isinstance(kind, inspect.DictType):
        return "".join(value)
    return value if isinstance(kind, inspect.StrType) else ""


def _fits(kind: inspect.Type, value: Any) -> bool:
    match kind:
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case inspect.VarTupleType():
            return isinstance(value, list)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType() | inspect.FloatType():
            return _is_number(kind, value) and _in_range(kind, value)
        case inspect.LiteralType():
            return value in kind.values
        case _:
            return isinstance(value, str)


def _is_number(kind: inspect.Type, value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (
        isinstance(kind, inspect.FloatType) and isinstance(value, float) and math.isfinite(value)
    )


def _in_range(kind: inspect.IntType | inspect.FloatType, value: float) -> bool:
    return (kind.ge is None or value >= kind.ge) and (kind.le is None or value <= kind.le)


# --- the sentences -----------------------------------------------------------------------


def describe(kind: inspect.Type) -> str:
    """What a value of this kind must be; reads after "must be"."""
    match kind:
        case inspect.StructType() | inspect.DictType():
            return "a table"
        case inspect.VarTupleType():
            return (
                "a list of tables" if isinstance(kind.item_type, inspect.StructType) else "a list of strings"
            )
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            return _describe_number(kind)
        case inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in kind.values)
        case _:
            return "a string"


def _describe_number(kind: inspect.IntType | inspect.FloatType) -> str:
    number = "an integer" if isinstance(kind, inspect.IntType) else "a number"
    if kind.ge is not None and kind.le is not None:
        return f"{number} from {kind.ge} to {kind.le}"
    return number if kind.ge is None else f"{number} of at least {kind.ge}"


def _name_of(kind: inspect.Type, value: Any) -> str:
    """How to call a wrong value: by its kind, and as it stands only where it cannot be a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and isinstance(kind, inspect.IntType | inspect.FloatType):
        return str(value)
    if isinstance(value, str) and isinstance(kind, inspect.LiteralType):
        return f'"{value[:40]}"'
    names = {
        type(None): "null",
        str: "a string",
        int: "an integer",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def _remedy(key: str, kind: inspect.Type, value: Any) -> str:
    known = [str(one) for one in kind.values] if isinstance(kind, inspect.LiteralType) else []
    if alike := difflib.get_close_matches(str(value), known, n=1):
        return f'did you mean "{alike[0]}"?'
    return f"write for example {_example(key, kind)}"


def _example(key: str, kind: inspect.Type) -> str:
    whole = re.sub(r"\[\d+\]$", "", key)
    found = _LAST_NAME.search(whole)
    name = found[0] if found else whole
    match kind:
        case inspect.StructType() | inspect.DictType():
            return f"[{key}]" if whole == key else f"[[{whole}]]"
        case inspect.VarTupleType():
            return f"[[{key}]]" if isinstance(kind.item_type, inspect.StructType) else f'{name} = ["*"]'
        case inspect.BoolType():
            return f"{name} = true"
        case inspect.IntType() | inspect.FloatType():
            return f"{name} = {kind.ge or 1}"
        case inspect.LiteralType():
            return f'{name} = "{kind.values[0]}"'
        case _:
            return f'{name} = ["text"]' if key.endswith("]") else f'{name} = "text"'
