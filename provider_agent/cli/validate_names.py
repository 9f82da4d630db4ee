"""Names in the settings that no model has, so that they do nothing; knows no engine."""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from provider_agent.cli.validate_start import Problem

if TYPE_CHECKING:
    from provider_agent.agent.config import AgentConfig


def name_problems(config: "AgentConfig", offered: Collection[str]) -> list[Problem]:
    """To be asked when all engines are there: one that is away may have the model.

    `expose` and `hide` are not among them: they may well be for models to come.
    """
    models = config.models
    globs = [(f"models.{key}", glob) for key in ("warm", "max_concurrent") for glob in getattr(models, key)]
    found = [
        f'{key} holds "{glob}", which fits no model on offer; take one below "would offer", or a glob of it'
        for key, glob in globs
        if not any(fnmatchcase(name, glob) for name in offered)
    ]
    aliases = {"models.aliases": models.aliases} | {
        f"backends[{index}].aliases": backend.aliases for index, backend in enumerate(config.backends)
    }
    found += [
        f'{key} has "{alias}" for "{target}", but no model on offer is called so; '
        "write the engine's name of it, and look at models.expose and models.hide"
        for key, table in aliases.items()
        for alias, target in table.items()
        if alias not in offered
    ]
    return [Problem("warning", "models", text) for text in found]
