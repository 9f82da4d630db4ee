"""What leaves through the log, and what must not."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.protocol.errors import ErrorCode
from provider_agent.telemetry import logs
from provider_agent.telemetry.logs import configure, get_logger

SECRET = "sk-live-0123456789abcdef"
PROMPT = "the patient's name is Alice"


class ByteStream(io.TextIOWrapper):
    """Standard error as the program has it: text over a byte buffer."""

    def __init__(self) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding="utf-8", write_through=True)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw_bytes.getvalue().splitlines()]


class Terminal(io.StringIO):
    """A stream that is a terminal, and has no byte buffer."""

    def isatty(self) -> bool:
        return True


class FullDisk(io.StringIO):
    """A stream that cannot take any more."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def stream() -> ByteStream:
    target = ByteStream()
    configure("info", "json", target)
    return target


def test_an_event_is_one_line_of_json_with_its_fields(stream: ByteStream) -> None:
    """Time, level, logger, event and fields are each a member of the object."""
    get_logger("provider_agent.agent").info("job_done", job_id="j1", chunks=3)

    (line,) = stream.lines
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
    assert line == {
        "event": "job_done",
        "level": "info",
        "logger": "provider_agent.agent",
        "job_id": "j1",
        "chunks": 3,
    }


def test_a_logger_made_before_the_set_up_follows_it() -> None:
    """Modules make their loggers on import, long before the level is known."""
    early = get_logger("early")
    first, second = ByteStream(), ByteStream()
    configure("info", "json", first)
    early.info("one")
    configure("warning", "json", second)
    early.info("two")
    early.warning("three")

    assert [line["event"] for line in first.lines] == ["one"]
    assert [line["event"] for line in second.lines] == ["three"]


def test_the_level_may_change_alone(stream: ByteStream) -> None:
    """Form and stream stay; a logger that was bound before keeps its level, and must be bound anew."""
    bound = get_logger("bound").bind()
    logs.set_level("debug")
    get_logger("early").debug("heard")
    bound.debug("not heard")
    logs.set_level("error")
    get_logger("late").warning("not heard")

    assert [line["event"] for line in stream.lines] == ["heard"]
    with pytest.raises(ValueError, match="'loud' is no log level"):
        logs.set_level("loud")


def test_a_terminal_gets_readable_lines() -> None:
    """`auto` on a terminal is no JSON."""
    terminal = Terminal()
    configure("info", "auto", terminal)
    get_logger("x").info("session_ready", server="example.org")

    assert "session_ready" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_a_line_for_people_has_what_they_read() -> None:
    """The second and not the microsecond, no module of ours, and no field that holds nothing."""
    paper = io.StringIO()
    configure("info", "console", paper)
    get_logger("provider_agent.agent").info("job_ended", agent="", http_status=None, chunks=0)
    get_logger("websockets").warning("odd")

    ours, theirs = paper.getvalue().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[info\] job_ended chunks=0", ours)
    assert theirs.endswith("[warning] odd [websockets]")


def test_a_pipe_gets_json() -> None:
    """`auto` elsewhere is JSON."""
    pipe = io.StringIO()
    configure("info", "auto", pipe)
    get_logger("x").info("session_ready")

    assert json.loads(pipe.getvalue())["event"] == "session_ready"


def test_no_colour_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR in the environment leaves out the escape codes."""
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")
    terminal = Terminal()
    configure("info", "console", terminal)
    get_logger("x").info("session_ready")

    assert "\x1b" not in terminal.getvalue()


def test_an_unknown_level_is_refused() -> None:
    """The sentence names what was given."""
    with pytest.raises(ValueError, match="'loud' is no log level"):
        configure("loud", "json", io.StringIO())


PRIVATE = {
    "api_key", "authorization", "body", "completion", "content", "data", "enrollment_code", "headers",
    "input", "messages", "password", "payload", "private_key", "prompt", "proxy_authorization", "request",
    "response", "secret", "seed", "signature", "system", "text", "token", "tools",
}  # fmt: skip
"""Whoever shortens the list in the source has to shorten this one, too."""


@pytest.mark.parametrize(
    "name", sorted(logs.PRIVATE_FIELDS | PRIVATE | {"X-Api-Key", "engine_api_key", "client_secret"})
)
def test_a_private_field_never_leaves(stream: ByteStream, name: str) -> None:
    """Whatever stands under such a name, and however deep, is left out."""
    private = {"role": "user", "words": PROMPT}
    get_logger("x").info("bad_idea", **{name: PROMPT, "outer": {name: [private]}, "list": [{name: private}]})

    text = stream.raw_bytes.getvalue().decode()
    assert PROMPT not in text
    assert text.count("[left out]") == 3


@pytest.mark.parametrize(
    "sentence",
    [
        f"the engine refused Authorization: Bearer {SECRET}",
        "cannot reach http://user:hunter2-hunter2@proxy.example:3128/",
        f"401 for {SECRET}",
        "GET /v1/models?key=hunter2-hunter2&x=1",
    ],
)
def test_a_credential_inside_a_sentence_never_leaves(stream: ByteStream, sentence: str) -> None:
    """Messages of libraries quote headers and URLs; so do exceptions."""
    get_logger("x").error("failed", reason=sentence, error=RuntimeError(sentence))

    text = stream.raw_bytes.getvalue().decode()
    assert SECRET not in text
    assert "hunter2" not in text
    assert text.count("[left out]") == 2


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_a_traceback_shows_no_local_variables(fmt: logs.Format) -> None:
    """A defect is logged with its stack, but a frame's variables hold the prompt."""
    target = io.StringIO()
    configure("info", fmt, target)
    prompt = PROMPT.upper()  # a word of it is enough: the quotes in it may come escaped
    headers: dict[str, str] = {}
    try:
        headers[f"no such member, Bearer {SECRET}"]
    except KeyError:
        get_logger("x").exception("job_crashed")

    assert "KeyError" in target.getvalue()
    assert "test_logs.py" in target.getvalue()
    assert prompt.split()[1][:7] not in target.getvalue()
    assert SECRET not in target.getvalue()


def test_a_long_text_is_cut(stream: ByteStream) -> None:
    """A prompt that came in through an error message is not logged whole."""
    get_logger("x").info("long", reason="y" * 5000)

    (line,) = stream.lines
    assert len(line["reason"]) < logs.MAX_TEXT + 30
    assert line["reason"].endswith("(3976 more)")


def test_values_that_json_lacks_are_written_plainly(stream: ByteStream) -> None:
    """Paths, enums, times, bytes and exceptions need no conversion where they are logged."""
    get_logger("x").info(
        "kinds",
        path=Path("/etc/agent.toml"),
        code=ErrorCode.INTERNAL,
        at=datetime(2026, 1, 2, tzinfo=UTC),
        raw=b"12345",
        error=ValueError("no"),
        names={"one"},
        other=object(),
        deep=[[[[["x"]]]]],
        none=None,
    )

    (line,) = stream.lines
    wanted = {
        "path": "/etc/agent.toml",
        "code": "internal",
        "at": "2026-01-02 00:00:00+00:00",
        "raw": "<5 bytes>",
        "error": "ValueError: no",
        "names": ["one"],
        "other": "<object>",
        "deep": [[[["[left out]"]]]],
        "none": None,
    }
    assert {name: line[name] for name in wanted} == wanted


@given(
    st.dictionaries(
        st.text(max_size=8).map("f_".__add__),
        st.recursive(
            st.none() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text(st.characters()),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_logging_never_raises_and_always_gives_one_line(fields: dict[str, Any]) -> None:
    """Lone surrogates, huge integers, line breaks: a log call is no place to fail."""
    target = ByteStream()
    configure("info", "json", target)
    get_logger("x").info("anything", **fields)

    (line,) = target.lines
    assert line["event"] == "anything"


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_a_stream_that_cannot_be_written_disturbs_nobody(fmt: logs.Format) -> None:
    """A closed terminal or a full disk must not fail a job."""
    closed = io.StringIO()
    configure("info", fmt, closed)
    closed.close()
    get_logger("x").info("lost")
    configure("info", fmt, FullDisk())
    get_logger("x").info("lost")


def test_a_library_is_heard_however_it_logs(stream: ByteStream) -> None:
    """A level of its own and arguments that do not fit are no trouble of the one who logs."""
    logging.getLogger("odd").log(35, "between warning and error")
    ours = next(each for each in logging.root.handlers if type(each).__module__ == get_logger.__module__)
    ours.handle(logging.LogRecord("odd", logging.ERROR, "odd.py", 1, "%d jobs", ("many",), None))

    assert [(line["level"], line["message"]) for line in stream.lines] == [
        ("warning", "between warning and error"),
        ("error", "%d jobs"),
    ]


def test_libraries_are_heard_from_warnings_on(stream: ByteStream) -> None:
    """At DEBUG a WebSocket library prints every frame that it sends."""
    logging.getLogger("websockets.client").debug("> TEXT %s", PROMPT)
    logging.getLogger("aiohttp.server").error("oops")

    (line,) = stream.lines
    assert (line["logger"], line["level"], line["message"]) == ("aiohttp.server", "error", "oops")
