"""What llamafile tells; the rest is in the contract of all adapters."""

from tests.fakes import engine_pages


async def test_it_runs_one_job_at_a_time() -> None:
    """Its default, and told nowhere; its one model is always there."""
    (model,) = await engine_pages.models_of("llamafile", engine_pages.llamafile())

    assert (model.max_concurrent, model.is_loaded) == (1, True)
