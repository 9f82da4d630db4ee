"""How the findings of `bench` look."""

import io
from dataclasses import replace

from rich.console import Console

from provider_agent.cli.bench_plan import Findings, Left, Speed, Stalled
from provider_agent.cli.bench_view import show

ALONE = Speed(1, 50.0, 60.0, 400.0, None)
STALLED = Stalled(ALONE, 0.6, 1024, is_whole=True)


def shown(stalled: Stalled = STALLED, many: Speed | None = None) -> str:
    findings = Findings("http://endpoint.example", "a", warm_up=replace(ALONE, first_token_ms=900.0))
    findings.speeds = [ALONE, many or Speed(8, 55.0, 70.0, 390.0, 2300.0)]
    findings.left = [Left("streaming", 8, 51.0, 0.0), Left("not streamed", 8, 400.0, None)]
    findings.stalled = stalled
    out = io.StringIO()
    show(findings, Console(file=out, width=110, highlight=False))
    return out.getvalue()


def test_findings_read_from_top_to_bottom() -> None:
    """Speed, leaving with what it can tell, the stalled reader."""
    text = shown()
    places = [text.index(part) for part in ("one by one", "8 at once", "8, streaming", "A reader stalled")]

    assert places == sorted(places)
    assert "2,300.0" in text
    assert "at once\n" in text
    assert "whole, 1024 tokens" in text


def test_an_endpoint_that_did_not_recover_is_told_as_such() -> None:
    """And no time is made up."""
    assert "not in the time that was watched" in shown()


def test_refusals_are_told_with_their_reason() -> None:
    """How many of how many."""
    many = Speed(8, 55.0, 70.0, 390.0, 2300.0, failed=3, failure="the endpoint answered 429: too many [now]")

    assert "3 of 8 failed: the endpoint answered 429: too many [now]" in shown(many=many)


def test_a_cut_answer_stands_out() -> None:
    """With the reason, where there is one."""
    assert "NOT WHOLE: the connection broke" in shown(
        replace(STALLED, is_whole=False, failure="the connection broke")
    )
