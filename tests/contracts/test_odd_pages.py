"""Each page of each engine, with any member of it spoilt: what is left must still be served."""

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.backends.base import BackendError, BackendModel, BackendSettings
from provider_agent.backends.families import FAMILIES, identify
from provider_agent.backends.http import Page
from provider_agent.protocol.frames import ModelOffer
from tests.fakes import engine_pages
from tests.fakes.engine import Answer
from tests.fakes.recordings import RECORDINGS

URL: Final = "http://127.0.0.1:1"
Path = tuple[str | int, ...]

_GONE: Final = object()
_ODD: Final[list[Any]] = [
    _GONE, None, True, False, 0, -1, 1.5, 2**53 + 1, 10**400, float("nan"), float("inf"),
    "", "x", "a\nb", "\x1b[31m", "\u202e", "é😀", "a" * 10_000, "../..", "*", "/", "\ud800",
    [], {}, [[]], [{}], [None], {"a": 1}, ["x", 1, None], [{"id": []}],
]  # fmt: skip

_KNOWN_BY_ALL: Final = frozenset({"mlx"})
"""By what each of its models is told with, and nothing else."""

_SOURCES: Final[Mapping[str, tuple[str, Mapping[str, Answer]]]] = {
    **{kind: (kind, pages()) for kind, pages in engine_pages.FAMILIES.items()},
    **{each.name: (each.kind, each.pages) for each in RECORDINGS},
}


class HttpByPath(engine_pages.HttpOfPages):
    """Has a page for each path."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        super().__init__()
        self._by_path = pages

    async def ask(self, *address: object, **_options: object) -> Page:
        path = str(address[1])
        return self._by_path.get(path) or self._by_path.get(path.partition("?")[0]) or Page(404, {}, b"{}")


def page_of(answer: Answer) -> Page:
    body = b"".join(step for step in answer.steps if isinstance(step, bytes))
    return Page(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)


def with_another(value: Any) -> Any:
    """The page, and in each of its lists of models one more: like the first, under another name."""
    value = copy.deepcopy(value)
    for name in ("data", "models"):
        listed = value.get(name) if isinstance(value, dict) else None
        if isinstance(listed, list) and listed and isinstance(listed[0], dict):
            told = json.dumps(listed[0])
            listed.append(json.loads(told.replace("tiny", "other")))
    return value


def paths_in(value: Any, before: Path = ()) -> Iterator[Path]:
    yield before
    members = (
        value.items() if isinstance(value, dict) else enumerate(value[:3] if isinstance(value, list) else ())
    )
    for name, inner in members:
        yield from paths_in(inner, (*before, name))


def spoilt(value: Any, path: Path, odd: Any) -> Any:
    if not path:
        return None if odd is _GONE else odd
    value, name = copy.copy(value), path[0]
    if odd is _GONE and len(path) == 1:
        del value[name]
    else:
        value[name] = spoilt(value[name], path[1:], odd)
    return value


async def looked_at(kind: str, pages: Mapping[str, Page]) -> tuple[str, tuple[BackendModel, ...]]:
    """Who is there, by name, and with which models."""
    http = HttpByPath(pages)
    family = await identify(http, URL, timeout_s=5)
    backend = FAMILIES[kind](http, BackendSettings(kind), url=URL, name="x")
    return family.kind if family else "nobody", await backend.list_models()


def can_be_offered(model: BackendModel) -> bool:
    offer = {"model_id": model.model_id, "context_window": model.context_window, "backend": "x"}
    counts = {"max_concurrent": model.max_concurrent or 0, "input_per_1m": 0, "output_per_1m": 0}
    return bool(msgspec.convert(offer | counts, ModelOffer))


@pytest.mark.parametrize("source", sorted(_SOURCES))
@settings(max_examples=60)
@given(data=st.data())
def test_a_spoilt_member_costs_its_own_model_at_most(source: str, data: st.DataObject) -> None:
    """Whatever it is: no crash, no offer that no frame can hold; and what stands beside it is still known."""
    kind, answers = _SOURCES[source]
    values = {path: with_another(page_of(answer).value) for path, answer in answers.items()}
    pages = {
        path: Page(answer.status, page_of(answer).headers, json.dumps(values[path]).encode())
        for path, answer in answers.items()
    }
    known, models = asyncio.run(looked_at(kind, pages))
    page = data.draw(st.sampled_from(sorted(path for path in values if values[path] is not None)))
    member = data.draw(st.sampled_from(sorted(paths_in(values[page]), key=repr)))
    odd = data.draw(st.sampled_from(_ODD))
    body = json.dumps(spoilt(values[page], member, odd)).encode()
    pages[page] = Page(pages[page].status, pages[page].headers, body)

    try:
        now_known, now_models = asyncio.run(looked_at(kind, pages))
    except BackendError:
        assert len(member) < 2  # only a page that is none, or a list that is none, hides all models
        return

    assert all(map(can_be_offered, now_models))
    if member[:1] in (("data",), ("models",)) and member[1:2] == (0,):  # of the first model only
        left = {each.model_id for each in models if "other" in each.model_id}
        assert now_known == known or known in _KNOWN_BY_ALL
        assert {each.model_id for each in now_models} >= left
