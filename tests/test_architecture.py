"""The rules of the house, read from the sources: layers, doors to libraries, purity, sizes, mirror."""

import ast
import importlib
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "provider_agent"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

LAYERS = {
    "__main__": 5,
    "cli": 4,
    "agent": 3, "coordinator": 3, "simulator": 3,
    "backends": 2, "transport": 2,
    "telemetry": 1,
    "protocol": 0, "__init__": 0,
}  # fmt: skip

DOORS = {
    "websockets": ("transport/websocket", "transport/framing", "transport/dialled", "transport/accepted"),
    "aiohttp": (
        "transport/accepted", "backends/http", "coordinator/http/", "coordinator/app",
        "simulator/", "cli/demo_chat", "cli/bench_client",
    ),
    "httptools": ("agent/pages", "backends/framing"),
    "msgspec": (  # frames and settings are its structs: whoever holds one may replace a field
        "protocol/", "transport/", "agent/", "coordinator/", "backends/", "simulator/",
    ),
    "orjson": ("protocol/codec", "telemetry/logs", "coordinator/http/", "backends/stream", "simulator/"),
    "pybase64": ("protocol/codec",),
    "structlog": ("telemetry/logs",),
    "prometheus_client": ("telemetry/metrics",),
    "psutil": ("telemetry/hardware",),
    "pynvml": ("telemetry/hardware",),
    "cryptography": ("agent/identity", "coordinator/enrollment"),
    "sqlalchemy": ("coordinator/store/",),
    "alembic": ("coordinator/store/",),
    "aiosqlite": ("coordinator/store/",),
    "platformdirs": ("agent/config*", "agent/identity", "coordinator/config", "cli/"),
    "tomli_w": ("agent/config", "cli/"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "uvloop": ("cli/",),
}  # fmt: skip
"""Where each third-party library may be imported: one module, or one folder; any other library is unknown."""

IMPURE = {"asyncio", "time", "socket", "threading", "random", "os", "pathlib", "logging", "datetime"}
"""What the protocol must not import: it has no loop, no clock, no network, no files."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40

WITHOUT_OWN_TESTS = {
    "backends/base": "interfaces and errors; proved by tests/contracts and by every adapter's tests",
    "coordinator/store/base": "an interface; proved by the tests of its implementations",
    "__main__": "one call; proved by tests/e2e",
}
TESTS_OF_NO_MODULE = {
    "e2e", "faults", "contracts", "engines", "fakes", "simulation",
    "test_architecture.py", "test_field_notes.py",
}  # fmt: skip
"""What proves more than one module, and so mirrors none."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def folder_of(name: str) -> str:
    return name.partition("/")[0]


def is_in(name: str, place: str) -> bool:
    return fnmatchcase(name, f"{place}*" if place.endswith("/") else place)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports_of(path: Path) -> Iterator[str]:
    """Every name that is imported anywhere in the file, dotted."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def own_imports_of(path: Path) -> set[str]:
    """The modules of this package that the file imports, named as by `name_of`."""
    known = {name_of(source).removesuffix("/__init__"): name_of(source) for source in SOURCES}
    found = set()
    for dotted in imports_of(path):
        if folder_of(dotted.replace(".", "/")) == "provider_agent":
            name = dotted.replace(".", "/").removeprefix("provider_agent").strip("/")
            found.add(known.get(name) or known.get(name.rpartition("/")[0], "__init__"))
    return found


def test_imports_go_down() -> None:
    """The folder is the layer; two folders of one layer do not know each other."""
    upwards = {
        f"{name} imports {imported}"
        for name, imported in ((name_of(path), each) for path in SOURCES for each in own_imports_of(path))
        if folder_of(imported) != folder_of(name) and LAYERS[folder_of(imported)] >= LAYERS[folder_of(name)]
    }

    assert upwards == set()


def test_no_modules_import_each_other() -> None:
    """Sources can be read in one order, each after those that it rests on."""
    waiting = {name_of(path): own_imports_of(path) - {name_of(path)} for path in SOURCES}
    while ready := [name for name, needed in waiting.items() if not needed & waiting.keys()]:
        for name in ready:
            del waiting[name]

    assert waiting == {}


def test_a_library_enters_by_its_door() -> None:
    """A change of library is a change of one module or folder."""
    elsewhere = {
        f"{name_of(path)} imports {library}"
        for path in SOURCES
        for library in {dotted.split(".", maxsplit=1)[0] for dotted in imports_of(path)}
        if library != "provider_agent"
        and library not in sys.stdlib_module_names
        and not any(is_in(name_of(path), door) for door in DOORS.get(library, ()))
    }

    assert elsewhere == set()


def test_the_protocol_is_pure() -> None:
    """What both sides say needs no loop, no clock, no network and no file."""
    impure = {
        f"{name_of(path)} imports {dotted}"
        for path in SOURCES
        for dotted in imports_of(path)
        if folder_of(name_of(path)) == "protocol" and dotted.split(".", maxsplit=1)[0] in IMPURE
    }

    assert impure == set()


def test_files_have_a_size_that_can_be_read() -> None:
    """400 lines at most."""
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in SOURCES}

    assert {name: lines for name, lines in sizes.items() if lines > MAX_FILE_LINES} == {}


def test_functions_have_a_size_that_can_be_read() -> None:
    """40 lines at most, the docstring not counted."""
    too_long = {}
    for path in SOURCES:
        for function in functions_of(path):
            body = function.body[1:] if ast.get_docstring(function) is not None else function.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MAX_FUNCTION_LINES:
                too_long[f"{name_of(path)}.{function.name}"] = lines

    assert too_long == {}


def test_only_the_command_line_prints() -> None:
    """Everything else logs, or tells its caller."""
    printing = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }

    assert {name for name in printing if folder_of(name) != "cli"} == set()


def test_no_function_writes_to_its_module() -> None:
    """There is no module-level state to write to."""
    writing = {
        name_of(path) for path in SOURCES for node in ast.walk(tree_of(path)) if isinstance(node, ast.Global)
    }

    assert writing == set()


def test_exported_names_resolve() -> None:
    """`__all__` promises nothing that is not there."""
    missing = set()
    for path in SOURCES:
        if "__all__" in path.read_text():
            dotted = f"provider_agent.{name_of(path).replace('/', '.')}".removesuffix(".__init__")
            module = importlib.import_module(dotted)
            missing |= {f"{dotted}.{name}" for name in module.__all__ if not hasattr(module, name)}

    assert missing == set()


def test_a_module_with_behaviour_has_its_tests() -> None:
    """`agent/executor.py` is proved by `tests/agent/test_executor.py`."""
    untested = {
        name_of(path)
        for path in SOURCES
        if any(functions_of(path))
        and not (ROOT / "tests" / Path(name_of(path)).parent / f"test_{path.stem.strip('_')}.py").is_file()
    }

    assert untested - WITHOUT_OWN_TESTS.keys() == set()


def test_a_file_of_tests_has_its_module() -> None:
    """`test_executor.py` or `test_executor_cancel.py` needs an `executor.py`."""
    orphans = set()
    for path in TESTS:
        inside, subject = path.relative_to(ROOT / "tests"), path.stem.removeprefix("test_")
        modules = {source.stem.strip("_") for source in (PACKAGE / inside.parent).glob("*.py")}
        if not any(subject == module or subject.startswith(f"{module}_") for module in modules):
            orphans.add(inside.as_posix())

    assert {name for name in orphans if folder_of(name) not in TESTS_OF_NO_MODULE} == set()


def test_no_excuse_outlives_its_module() -> None:
    """The lists above name only what exists."""
    assert WITHOUT_OWN_TESTS.keys() <= {name_of(path) for path in SOURCES}
    assert {folder_of(name_of(path)) for path in SOURCES} == LAYERS.keys()
