"""From a TOML file and the environment to one frozen struct; knows no key, only the shape it is given."""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from provider_agent.agent.config_check import (
    ENVIRONMENT_PREFIX,
    Checker,
    ConfigError,
    Origin,
    known_keys,
    required,
)

T = TypeVar("T", bound=msgspec.Struct)

MOST_BYTES = 1024 * 1024
"""Of a file of settings. To read one of 50 MB would hold up the jobs of a running agent for seconds."""

_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def read(shape: type[T], file: Path | None, environ: Mapping[str, str]) -> tuple[T, Origin]:
    """The file, overlaid by the environment, as `shape`. Relative paths start at the file's directory.

    Raises:
        ConfigError: the file cannot be read, a name is unknown, or a value is missing or wrong.
    """
    root = inspect.type_info(shape)
    text, tree = _read_file(file) if file else ("", {})
    Checker(root, Origin(file, text), is_complete=False).check(root, tree)
    tree, origin = _overlay(root, tree, Origin(file, text), environ)
    Checker(root, origin, is_complete=True).check(root, tree)
    return _convert(shape, tree, file), origin


def _convert(shape: type[T], tree: dict[str, Any], file: Path | None) -> T:
    base = file.parent if file else Path()

    def path(_kind: type, value: Any) -> Path:
        try:
            return base / Path(value).expanduser()
        except RuntimeError as error:
            problem = f"cannot be used: the home directory in {value} is not known"
            raise ConfigError(problem, "write the whole path", file=file) from error

    return msgspec.convert(tree, shape, dec_hook=path)


# --- the file ----------------------------------------------------------------------------


def _read_file(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError("is larger than 1 MiB", "name a file of settings", file=file)
        text = content.decode()
        return text, tomllib.loads(text)
    except RecursionError:
        raise ConfigError("is nested too deeply", "name a file of settings", file=file) from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError(
            f"cannot be read ({reason})", "check the path given with --config and its permissions", file=file
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", "save it as UTF-8", file=file) from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = int(place[1]) if place and place[1] else text.count("\n") + 1
        what = re.sub(r"\s*\(at .*\)$", "", str(error))
        what = what[:1].lower() + what[1:]
        raise ConfigError(f"is no TOML there: {what}", "correct that line", file=file, line=line) from error


# --- the environment ---------------------------------------------------------------------


def _overlay(
    root: inspect.Type, tree: dict[str, Any], origin: Origin, environ: Mapping[str, str]
) -> tuple[dict[str, Any], Origin]:
    """The tree with every variable of ours put in its place, and the origin that knows of them."""
    variables: dict[str, str] = {}
    for variable in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
        names = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        try:
            tree = _place(root, tree, names, environ[variable], variable)
        except LookupError as error:
            raise ConfigError("is no known setting", _hint(root, variable), variable=variable) from error
        variables[re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(names))] = variable
        origin = Origin(origin.file, origin.text, dict(variables))
        Checker(root, origin, is_complete=False).check(root, tree)
    return tree, origin


def _hint(root: inspect.Type, variable: str) -> str:
    names = [key.replace("[]", "__0").replace(".", "__").upper() for key in known_keys(root)]
    alike = difflib.get_close_matches(variable.removeprefix(ENVIRONMENT_PREFIX), names, n=1, cutoff=0.6)
    return f"did you mean {ENVIRONMENT_PREFIX}{alike[0]}?" if alike else "unset it"


def _place(shape: inspect.Type, value: Any, names: list[str], text: str, variable: str) -> Any:
    """The value, with the text of a variable put where its names say.

    1. No name is left: this is the place.
    2. In a table, the name is a key.
    3. In a list, the name is the index of a member, or of the next one.

    Raises:
        LookupError: there is no such place.
    """
    kind = required(shape)
    if not names:  # 1
        return _parse(shape, text, variable)
    name, *rest = names
    if isinstance(kind, inspect.StructType | inspect.DictType):  # 2
        members = dict(value or {})
        return members | {name: _place(_below(kind, name), members.get(name), rest, text, variable)}
    if isinstance(kind, inspect.VarTupleType) and name.isdecimal() and int(name) <= len(value or ()):  # 3
        items = [*(value or ()), None]
        items[int(name)] = _place(kind.item_type, items[int(name)], rest, text, variable)
        return [item for item in items if item is not None]
    raise LookupError(name)


def _below(kind: inspect.StructType | inspect.DictType, name: str) -> inspect.Type:
    if isinstance(kind, inspect.DictType):
        return kind.value_type
    return {member.name: member.type for member in kind.fields}[name]


def _parse(shape: inspect.Type, text: str, variable: str) -> Any:
    """Text of a variable, by the type that it is for; text that does not fit is left for the checker."""
    kind = required(shape)
    if kind is not shape and not text:
        return None
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _number(text)
    if isinstance(kind, inspect.BoolType):
        return _BOOLEANS.get(text.strip().lower(), text)
    if isinstance(kind, inspect.VarTupleType | inspect.DictType | inspect.StructType):
        return _collection(kind, text, variable)
    return text


def _number(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _collection(kind: inspect.Type, text: str, variable: str) -> Any:
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"is no valid JSON ({error.msg})", "correct it", variable=variable) from error
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(kind, inspect.VarTupleType):
        return parts
    of = required(kind.value_type) if isinstance(kind, inspect.DictType) else None
    read_value = _number if isinstance(of, inspect.IntType | inspect.FloatType) else str
    pairs = (part.partition("=") for part in parts)
    return {name.strip(): read_value(value.strip()) for name, _, value in pairs}
