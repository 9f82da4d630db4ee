"""The demo on a terminal: what is over scrolls away, one live line stays; knows no network."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from provider_agent import __version__
from provider_agent.cli.demo_chat import Measured, Said
from provider_agent.cli.demo_jobs import Finished
from provider_agent.cli.demo_view import Facts, curl_lines, job_text, part_text, python_lines, speed_text

INDENT = 2
LABEL_WIDTH = 13
REFRESH_HZ = 15


class TerminalView:
    """A live view that leaves a readable page behind."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(highlight=False) if console is None else console
        self._spinner = Spinner("dots", style="cyan")
        self._state = "starting"
        self._answer: Text | None = None
        self._running = 0
        self._served = 0
        self._live = Live(
            get_renderable=self._moving,
            console=self._console,
            refresh_per_second=REFRESH_HZ,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._console.print()
        self._print(Text.assemble(("provider-agent", "bold"), (f" {__version__}  demo", "dim")))
        self._console.print()
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._finish_answer()
        self._console.print()
        self._print(Text("stopped", "dim"))
        self._console.print()

    def part(self, name: str, facts: Facts) -> None:
        what, note = part_text(name, facts)
        self._print(_row(Text.assemble(("● ", "green"), name), Text.assemble(what, "  ", (note, "dim"))))

    def asked(self, prompt: str, model: str) -> None:
        self._console.print()
        self._print(_row(Text("you", "cyan"), Text(prompt)))
        self._console.print()
        self._answer = Text()
        self._state = f"waiting for the first token of {model}"

    def said(self, piece: Said, measured: Measured, /) -> None:
        if self._answer is not None:
            self._answer.append(piece.text, "dim italic" if piece.is_thought else None)
            self._state = speed_text(measured)

    def answered(self, measured: Measured) -> None:
        self._finish_answer()
        self._console.print()
        self._print(_row("", Text.assemble(("✓ ", "green"), (speed_text(measured), "bold"))))
        self._console.print()

    def next_steps(self, url: str, model: str) -> None:
        self._print(Text("Now you, while this keeps running:", "bold"))
        for code, language in ((curl_lines(url, model), "bash"), (python_lines(url, model), "python")):
            self._console.print()
            self._code(code, language)
        self._console.print()
        self._state = "ready for requests"

    def counts(self, running: int, served: int) -> None:
        self._running, self._served = running, served

    def job_ended(self, job: Finished) -> None:
        mark = ("✓ ", "green") if job.code is None else ("✗ ", "red")
        self._print(Text.assemble(mark, job_text(job)))

    def _finish_answer(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            self._print(_spoken(answer))

    def _moving(self) -> RenderableType:
        """The part below what was printed: the answer while it grows, and the status line."""
        jobs = f"{self._running} running, {self._served} served"
        status = Table.grid(padding=(0, 1))
        status.add_row(self._sign(), Text(f"{self._state}  ·  {jobs}  ·  Ctrl-C stops it", "dim"))
        parts: list[RenderableType] = [status]
        if self._answer is not None:
            parts = [_spoken(self._answer), Text(), status]
        return Padding(Group(*parts), (0, INDENT), expand=False)

    def _sign(self) -> RenderableType:
        """It moves only while something is going on."""
        return self._spinner if self._running or self._state == "starting" else Text("●", "green")

    def _print(self, what: RenderableType) -> None:
        self._console.print(Padding(what, (0, INDENT), expand=False))

    def _code(self, code: str, language: str) -> None:
        """Without padding on the right and without wrapping, so that it can be copied."""
        lines = Syntax(code, language, theme="ansi_dark", background_color="default").highlight(code)
        lines.rstrip()
        for line in lines.split("\n"):
            self._console.print(Text(" " * INDENT).append_text(line), soft_wrap=True)


def _spoken(answer: Text) -> Table:
    return _row(Text("answer", "magenta"), answer)


def _row(label: Text | str, content: Text) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, no_wrap=True)
    grid.add_column(overflow="fold", max_width=92)
    grid.add_row(label, content)
    return grid
