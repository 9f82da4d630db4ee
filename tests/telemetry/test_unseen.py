"""A library that is not to be found."""

import importlib
import sys

import pytest

from provider_agent.telemetry.unseen import unseen


def test_a_library_is_not_found_within_the_block_and_is_found_behind_it() -> None:
    """Nothing else of the program notices."""
    sys.modules.pop("colorsys", None)
    with unseen("colorsys"), pytest.raises(ImportError):
        importlib.import_module("colorsys")

    assert importlib.import_module("colorsys").__name__ == "colorsys"


def test_what_is_loaded_already_stays() -> None:
    """There is no memory to be saved any more."""
    with unseen("sys"):
        assert importlib.import_module("sys") is sys
