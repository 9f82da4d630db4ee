"""The plain view of the demo, and the words that both views share."""

import io

from provider_agent.cli.demo_chat import Measured, Said
from provider_agent.cli.demo_jobs import Finished
from provider_agent.cli.demo_view import PlainView, curl_lines, job_text, part_text, python_lines

URL = "http://127.0.0.1:8700"
SIMULATED = {"kind": "simulator", "url": "http://127.0.0.1:1", "model": "simulated-7b", "searched": True}
MEASURED = Measured(tokens=81, first_token_s=0.25, last_token_s=2.25)


def test_a_demo_reads_from_top_to_bottom() -> None:
    """Parts, question, answer as it comes, numbers, next steps."""
    out = io.StringIO()
    with PlainView(out) as view:
        view.part("engine", SIMULATED)
        view.part("coordinator", {"url": URL})
        view.part("agent", {"models": ["simulated-7b"]})
        view.asked("Why?", "simulated-7b")
        view.said(Said("Be"), MEASURED)
        view.said(Said("cause."), MEASURED)
        view.counts(0, 1)
        view.answered(MEASURED)
        view.next_steps(URL, "simulated-7b")
        view.job_ended(Finished("7", "simulated-7b", None, 80, 0.5, 2.5))

    assert out.getvalue().splitlines()[:8] == [
        "engine:      simulated-7b (simulated: no engine answers on this machine)",
        "coordinator: http://127.0.0.1:8700 (no keys, this machine only)",
        "agent:       connected (offers simulated-7b)",
        "",
        "asking simulated-7b: Why?",
        "",
        "Because.",
        "",
    ]
    assert "81 tokens, first after 250 ms, 40.0 tokens/s" in out.getvalue()
    assert "job 7: simulated-7b, 80 tokens, first byte after 500 ms, 40.0 tokens/s" in out.getvalue()


def test_a_real_engine_is_named_with_its_address() -> None:
    """So that one sees which of them it is."""
    facts = {"kind": "ollama", "url": "http://127.0.0.1:11434", "model": "llama3.2:3b"}

    assert part_text("engine", facts) == ("llama3.2:3b", "ollama at http://127.0.0.1:11434")


def test_a_job_that_failed_says_how() -> None:
    """With the code that the wire uses."""
    job = Finished("7", "a", "backend_error", None, None, 1.25)

    assert job_text(job) == "a ended as backend_error after 1.2 s"


def test_the_lines_to_copy_survive_any_model_name() -> None:
    """Quotes are quoted for the shell, and for Python."""
    name = 'it\'s "odd"'

    assert "'\"'\"'" in curl_lines(URL, name)
    compile(python_lines(URL, name), "demo", "exec")


def test_the_lines_to_copy_fit_a_terminal() -> None:
    """With a model of usual length, behind two blanks."""
    name = "simulated-model-7b:latest"
    lines = [*curl_lines(URL, name).splitlines(), *python_lines(URL, name).splitlines()]

    assert max(map(len, lines)) <= 78
