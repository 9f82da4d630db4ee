"""The live view of the demo, on a terminal that is a text buffer."""

import io
from typing import Any

from rich.console import Console

from provider_agent.cli.demo_chat import Measured, Said
from provider_agent.cli.demo_jobs import Finished
from provider_agent.cli.demo_terminal import TerminalView
from provider_agent.cli.demo_view import curl_lines

URL = "http://127.0.0.1:8700"
MEASURED = Measured(tokens=81, first_token_s=0.25, last_token_s=2.25)
FACTS = {"kind": "simulator", "url": "http://127.0.0.1:1", "model": "simulated-7b", "searched": False}


def console(width: int = 80) -> tuple[Console, io.StringIO]:
    """A terminal that cannot move its cursor: what stays is what was printed."""
    out = io.StringIO()
    return Console(file=out, width=width, highlight=False, force_terminal=False), out


def test_what_was_said_stays_readable() -> None:
    """Everything that matters is on the page when the live line is gone."""
    screen, out = console()
    with TerminalView(screen) as view:
        view.part("engine", FACTS)
        view.part("coordinator", {"url": URL})
        view.part("agent", {"models": ["simulated-7b"]})
        view.asked("Why?", "simulated-7b")
        view.said(Said("Well, ", is_thought=True), MEASURED)
        view.said(Said("because."), MEASURED)
        view.counts(0, 1)
        view.answered(MEASURED)
        view.next_steps(URL, "simulated-7b")
        view.job_ended(Finished("7", "simulated-7b", None, 80, 0.5, 2.5))
        view.job_ended(Finished("8", "simulated-7b", "cancelled", None, None, 1.0))
    page = out.getvalue()

    assert page.index("● engine") < page.index("● coordinator") < page.index("● agent") < page.index("Why?")
    assert "Well, because." in page
    assert "✓ 81 tokens, first after 250 ms, 40.0 tokens/s" in page
    assert "✓ simulated-7b, 80 tokens" in page
    assert "✗ simulated-7b ended as cancelled" in page


def test_lines_to_copy_are_not_wrapped() -> None:
    """A narrow window must not break a command."""
    screen, out = console(width=40)
    with TerminalView(screen) as view:
        view.next_steps(URL, "simulated-7b")

    for line in curl_lines(URL, "simulated-7b").splitlines():
        assert line in out.getvalue()


def test_an_answer_that_breaks_off_stays_on_the_page() -> None:
    """What came before the error is not lost."""
    screen, out = console()
    with TerminalView(screen) as view:
        view.asked("Why?", "simulated-7b")
        view.said(Said("Because"), MEASURED)

    assert "Because" in out.getvalue()


def test_the_live_line_shows_what_happens() -> None:
    """Status and number of jobs below the growing answer."""
    screen, out = console()
    view = TerminalView(screen)
    view.asked("Why?", "simulated-7b")
    view.said(Said("Because"), MEASURED)
    view.counts(1, 3)
    screen.print(view._moving())

    assert "81 tokens, first after 250 ms, 40.0 tokens/s" in out.getvalue()
    assert "1 running, 3 served" in out.getvalue()


class ConsoleThatLooks(Console):
    """Notes how tall the moving part is at each print: a terminal erases so many lines when it goes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.view: TerminalView | None = None
        self.heights: list[int] = []

    def print(self, *what: Any, **options: Any) -> None:
        if self.view is not None:
            self.heights.append(len(self.render_lines(self.view._moving())))
        super().print(*what, **options)


def test_a_finished_answer_leaves_the_moving_part_before_it_is_printed() -> None:
    """Else the tall moving part is drawn once more below it, and takes lines of the page with it."""
    screen = ConsoleThatLooks(file=io.StringIO(), width=120)
    with TerminalView(screen) as view:
        view.asked("Why?", "simulated-7b")
        view.said(Said("Because."), MEASURED)
        screen.view = view
        view.answered(MEASURED)

    assert set(screen.heights) == {1}
