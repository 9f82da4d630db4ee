"""OpenAI's API: bodies of requests read into tasks; knows no answer."""

from collections.abc import Mapping
from typing import Any

from provider_agent.simulator.task import BadTask, Task, Tool

Json = Mapping[str, Any]


def read_chat(body: Json) -> Task:
    """A body of `/v1/chat/completions`. Raises BadTask."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadTask("messages must be a list with at least one message")
    parts = [f"{role_of(message)}\n{content_text(message.get('content'))}" for message in messages]
    return _read(body, prompt="\n".join(parts), schema=_schema(body), tool=_required_tool(body))


def read_completion(body: Json) -> Task:
    """A body of `/v1/completions`. Raises BadTask."""
    prompt = body.get("prompt")
    if prompt is None:
        raise BadTask("prompt is required")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        prompt = prompt[0]  # of several, the first
    if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
        prompt = " ".join(map(str, prompt))
    if not isinstance(prompt, str):
        raise BadTask("prompt must be a text, a list of tokens, or a list of these")
    return _read(body, prompt=prompt)


def content_text(content: Any) -> str:
    """The text of a message's content; other parts count by their type's name."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    raise BadTask("content must be a text or a list of parts")


def role_of(message: Any) -> str:
    """Who says a message. Raises BadTask."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise BadTask("each message must be an object with a role")
    return str(message["role"])


def stops_of(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise BadTask("stop must be a text or a list of texts")
    return tuple(stops)


def count_of(value: Any, name: str) -> int | None:
    """A number of tokens; None when it is left out."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadTask(f"{name} must be a whole number, 1 or more")
    return value


def _read(body: Json, *, prompt: str, schema: Json | None = None, tool: Tool | None = None) -> Task:
    options = body.get("stream_options")
    limit = count_of(body.get("max_completion_tokens"), "max_completion_tokens")
    limit = count_of(body.get("max_tokens"), "max_tokens") if limit is None else limit
    return Task(
        model=str(body.get("model", "")),
        prompt=prompt,
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=limit,
        endless=body.get("ignore_eos") is True,
        stops=stops_of(body.get("stop")),
        seed=str(body.get("seed") or ""),
        schema=schema,
        tool=tool,
    )


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        raise BadTask("each part of a content must be an object")
    return str(part["text"]) if isinstance(part.get("text"), str) else f" [{part.get('type')}]"


def _schema(body: Json) -> Json | None:
    wanted = body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None
    if wanted["type"] == "json_object":
        return {}
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else {}


def _required_tool(body: Json) -> Tool | None:
    """The tool that must be called: the one that `tool_choice` names, or the first."""
    functions, choice = _functions(body.get("tools") or []), body.get("tool_choice")
    if isinstance(choice, dict):
        named = choice.get("function")
        wanted = named.get("name") if isinstance(named, dict) else None
        functions = [function for function in functions if function.get("name") == wanted]
        if not functions:
            raise BadTask("tool_choice names a function that is not in tools")
    elif choice != "required" or not functions:
        return None
    return Tool(str(functions[0].get("name", "")), functions[0].get("parameters") or {})


def _functions(tools: Any) -> list[Json]:
    functions: list[Json] = []
    for tool in tools if isinstance(tools, list) else [None]:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("parameters") or {}, dict):
            raise BadTask("tools must be a list of functions, their parameters a schema")
        functions.append(function)
    return functions
