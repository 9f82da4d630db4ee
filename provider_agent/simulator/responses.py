"""OpenAI's newer API, `/v1/responses`: requests read, answers written; knows no HTTP server.

A tool is never called, and nothing is stored.
"""

import itertools
from typing import Any, ClassVar

from provider_agent.simulator import text
from provider_agent.simulator.anthropic import named
from provider_agent.simulator.forms import Timing, to_json
from provider_agent.simulator.openai_tasks import content_text, count_of, role_of
from provider_agent.simulator.style import Json, Style
from provider_agent.simulator.task import Answer, BadTask, Task

_HOLE = "\0"
_NUMBER = b'"sequence_number":'


def read_response(body: Json) -> Task:
    """A body of `/v1/responses`. Raises BadTask."""
    asked = body.get("input")
    if isinstance(asked, str):
        parts = [asked]
    elif isinstance(asked, list) and asked:
        parts = [_said(item) for item in asked]
    else:
        raise BadTask("input must be a text or a list of messages")
    return Task(
        model=str(body.get("model", "")),
        prompt="\n".join([content_text(body.get("instructions")), *parts]).strip(),
        stream=body.get("stream") is True,
        max_tokens=count_of(body.get("max_output_tokens"), "max_output_tokens"),
        schema=_schema(body.get("text")),
    )


class ResponsesForm:
    """Answers of `/v1/responses`: numbered events; the last is `response.completed` or `.incomplete`."""

    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def __init__(self, task: Task, answer_id: str, created_s: int, style: Style) -> None:
        self._style = style
        self._base = {
            "id": f"resp_{answer_id}",
            "object": "response",
            "created_at": created_s,
            "model": task.model,
        }
        self._item_id = f"msg_{answer_id}"
        self._numbers = itertools.count()
        self._place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        event = named("response.output_text.delta", **self._place, sequence_number=0, delta=_HOLE)
        before, rest = event.split(_NUMBER + b"0")
        self._before = before + _NUMBER
        self._between, self._after = rest.split(to_json(_HOLE))

    def begin(self) -> bytes:
        response = self._response("in_progress", [], None)
        item = self._item("in_progress", [])
        return (
            self._event("response.created", response=response)
            + self._event("response.in_progress", response=response)
            + self._event("response.output_item.added", output_index=0, item=item)
            + self._event("response.content_part.added", **self._place, part=_part(""))
        )

    def piece(self, token: str) -> bytes:
        return b"%b%d%b%b%b" % (
            self._before,
            next(self._numbers),
            self._between,
            text.quoted(token),
            self._after,
        )

    def end(self, answer: Answer, _timing: Timing, /, *, marked: bool) -> bytes:
        part = _part(answer.text)
        response = self._finished(answer)
        last = (
            self._event("response.output_text.done", **self._place, text=answer.text)
            + self._event("response.content_part.done", **self._place, part=part)
            + self._event("response.output_item.done", output_index=0, item=response["output"][0])
        )
        return last + (self._event(f"response.{response['status']}", response=response) if marked else b"")

    def error(self, message: str) -> bytes:
        return self._event("error", code="server_error", message=message, param=None)

    def refusal(self, status: int, message: str, /) -> bytes:
        return to_json(self._style.error(status, message))

    def whole(self, answer: Answer, _timing: Timing, /) -> bytes:
        return to_json(self._finished(answer))

    def _event(self, name: str, **members: Any) -> bytes:
        return named(name, sequence_number=next(self._numbers), **members)

    def _finished(self, answer: Answer) -> dict[str, Any]:
        status = "completed" if answer.finish == "stop" else "incomplete"
        usage = {
            "input_tokens": answer.prompt_tokens,
            "output_tokens": answer.output_tokens,
            "total_tokens": answer.prompt_tokens + answer.output_tokens,
        }
        return self._response(status, [self._item(status, [_part(answer.text)])], usage)

    def _response(self, status: str, output: list[Json], usage: Json | None) -> dict[str, Any]:
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **self._base,
            "status": status,
            "error": None,
            "incomplete_details": reason,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        }

    def _item(self, status: str, content: list[Json]) -> Json:
        return {
            "id": self._item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }


def _part(said: str) -> Json:
    return {"type": "output_text", "text": said, "annotations": []}


def _said(item: Any) -> str:
    """A message; or the call of a tool and what came of it, which have no role."""
    if isinstance(item, dict) and "role" not in item and isinstance(item.get("type"), str):
        return f"{item['type']}\n{content_text(item.get('output'))}"
    return f"{role_of(item)}\n{content_text(item.get('content'))}"


def _schema(wanted: Any) -> Json | None:
    form = wanted.get("format") if isinstance(wanted, dict) else None
    if not isinstance(form, dict) or form.get("type") in (None, "text"):
        return None
    schema = form.get("schema")
    return schema if isinstance(schema, dict) else {}
