"""Serving until told to stop, as far as it goes without a coordinator; the rest is in `tests/e2e`."""

from pathlib import Path

import pytest

from provider_agent.cli.serving import serve


def test_settings_that_cannot_be_used_are_one_sentence_and_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the file and the mistake; field note 50."""
    file = tmp_path / "agent.toml"
    file.write_text("[coordinatr]\n")

    with pytest.raises(SystemExit) as end:
        serve(file, as_json=False)

    assert end.value.code == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean coordinator?" in captured.err
    assert len(captured.err.splitlines()) == 1
