"""The commands `coordinator token|key|provider`: who may enrol, ask, connect; knows no network.

A secret is printed once, alone on a line of stdout, so that a script can take it; all else that is
said with it goes to stderr.
"""

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from provider_agent.cli.output import ExitCode, fail, print_json, say

if TYPE_CHECKING:
    from provider_agent.coordinator.store.base import ClientKey, Provider, Store, Token

T = TypeVar("T")

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", readable=False, help="As the coordinator was given it, if it was."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_HOUR_S = 3600
_LONGEST_NAME = 200


def _shown_name(name: str) -> str:
    """A name as it is; one that no list could show is a usage error."""
    if not name.isprintable() or name != name.strip() or len(name) > _LONGEST_NAME:
        raise typer.BadParameter(f"a name is at most {_LONGEST_NAME} printable characters on one line")
    return name


def _needed_name(name: str) -> str:
    """The same for a name that must not be empty."""
    if not name:
        raise typer.BadParameter("a name is needed")
    return _shown_name(name)


def register(group: typer.Typer) -> None:
    """Add `token`, `key` and `provider`, each with its commands."""
    token = typer.Typer(help="Codes that let an agent in, once each.", no_args_is_help=True)
    token.command("create")(token_create)
    token.command("list")(token_list)
    token.command("revoke")(token_revoke)
    group.add_typer(token, name="token")
    key = typer.Typer(help="API keys of clients.", no_args_is_help=True)
    key.command("create")(key_create)
    key.command("list")(key_list)
    key.command("revoke")(key_revoke)
    group.add_typer(key, name="key")
    provider = typer.Typer(help="Agents that were let in.", no_args_is_help=True)
    provider.command("list")(provider_list)
    provider.command("revoke")(provider_revoke)
    group.add_typer(provider, name="provider")


def token_create(
    context: typer.Context,
    name: Annotated[
        str, typer.Option(callback=_shown_name, help="What to call the agent that uses it.")
    ] = "",
    hours: Annotated[int, typer.Option(min=1, max=24 * 365, help="How long it can be used.")] = 24,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a code that lets one agent in; it is shown only now."""
    from provider_agent.coordinator.store.base import ENROLLMENT_PREFIX, digest, new_secret

    code, now_s = new_secret(ENROLLMENT_PREFIX), _now_s()
    token = _ask(
        context,
        data,
        lambda store: store.add_token(digest(code), name, now_s, now_s + hours * _HOUR_S),
        may_begin=True,
    )
    if json:
        print_json({"enrollment_code": code, **_token_fields(token, now_s)})
        return
    typer.echo(code)
    say("Put it into the file that coordinator.enrollment_code_file in agent.toml names.")
    say(f"It lets one agent in, until {_when(token.expires_at_s)}.")


def token_list(context: typer.Context, data: Data = None, json: Json = False) -> None:
    """List the codes, without showing them."""
    now_s = _now_s()
    tokens = _ask(context, data, lambda store: store.tokens())
    _print_rows(
        [_token_fields(token, now_s) for token in tokens], json, "No codes. Make one with: token create"
    )


def token_revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(help="As `token list` shows it.")],
    data: Data = None,
) -> None:
    """Make a code useless that nobody has used yet."""
    if not _ask(context, data, lambda store: store.revoke_token(token_id, _now_s())):
        fail(f"no code {token_id!r} is left to revoke; see: coordinator token list", ExitCode.NOT_FOUND)
    say(f"Code {token_id} lets nobody in any more.")


def key_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(callback=_needed_name, help="Whose key it is.")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Make an API key for a client; it is shown only now."""
    from provider_agent.coordinator.store.base import KEY_PREFIX, NameTaken, digest, new_secret

    secret = new_secret(KEY_PREFIX)
    try:
        key = _ask(context, data, lambda store: store.add_key(digest(secret), name, _now_s()), may_begin=True)
    except NameTaken as error:
        fail(str(error), ExitCode.TAKEN)
    if json:
        print_json({"api_key": secret, **_key_fields(key)})
        return
    typer.echo(secret)
    say("Clients send it as their API key (`Authorization: Bearer …`), until it is revoked.")


def key_list(context: typer.Context, data: Data = None, json: Json = False) -> None:
    """List the keys, without showing them."""
    keys = _ask(context, data, lambda store: store.keys())
    _print_rows([_key_fields(key) for key in keys], json, "No keys. Make one with: key create NAME")


def key_revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id, as `key list` shows it.")],
    data: Data = None,
) -> None:
    """Refuse a key from now on; a running coordinator does so within seconds."""
    if not _ask(context, data, lambda store: store.revoke_key(name, _now_s())):
        fail(f"no key {name!r} is left to revoke; see: coordinator key list", ExitCode.NOT_FOUND)
    say(f"Key {name} is refused from now on.")


def provider_list(context: typer.Context, data: Data = None, json: Json = False) -> None:
    """List the agents that were let in, connected or not."""
    providers = _ask(context, data, lambda store: store.providers())
    _print_rows([_provider_fields(provider) for provider in providers], json, "No agent was let in yet.")


def provider_revoke(
    context: typer.Context,
    provider_id: Annotated[str, typer.Argument(help="As `provider list` shows it.")],
    data: Data = None,
) -> None:
    """Turn an agent away for good; a running coordinator ends its session within seconds."""
    if not _ask(context, data, lambda store: store.revoke_provider(provider_id, _now_s())):
        fail(
            f"no agent {provider_id!r} is left to revoke; see: coordinator provider list", ExitCode.NOT_FOUND
        )
    say(f"Agent {provider_id} is turned away from now on.")


def _ask(
    context: typer.Context,
    data: Path | None,
    question: "Callable[[Store], Awaitable[T]]",
    *,
    may_begin: bool = False,
) -> T:
    """Open the store, ask it one thing, close it; ends the command if the store cannot be used.

    Only what may begin a store makes one that is missing: elsewhere a mistyped folder would look empty.
    """
    from provider_agent.cli.loop import run
    from provider_agent.coordinator.config import ConfigError, load
    from provider_agent.coordinator.store.base import NoDataError, StoreError

    async def ask(data_dir: Path) -> T:
        store = await _open(data_dir, may_begin=may_begin)
        try:
            return await question(store)
        finally:
            await store.close()

    try:
        config = load({**context.obj, **({} if data is None else {"data": data})}, os.environ)
        if config.data_dir is None:
            fail("with --dev nothing is kept, and no code and no key is needed", ExitCode.CONFIG)
        return run(ask(config.data_dir))
    except NoDataError as error:
        fail(f"{error}; give --data as the coordinator was given it", ExitCode.NOT_FOUND)
    except (ConfigError, StoreError) as error:
        fail(str(error), ExitCode.CONFIG)


async def _open(data_dir: Path, *, may_begin: bool) -> "Store":
    from provider_agent.coordinator.store.base import NoDataError
    from provider_agent.coordinator.store.sqlite import open_sqlite

    try:
        return await open_sqlite(data_dir, create=False)
    except NoDataError:
        if not may_begin:
            raise
    store = await open_sqlite(data_dir)
    say(f"Made a new database in {data_dir}.")
    return store


def _token_fields(token: "Token", now_s: int) -> dict[str, object]:
    refusal = token.refusal(now_s)
    return {
        "id": token.token_id,
        "name": token.name,
        "state": "usable" if refusal is None else refusal.name.lower(),
        "created": _when(token.created_at_s),
        "expires": _when(token.expires_at_s),
        "provider_id": token.provider_id,
    }


def _key_fields(key: "ClientKey") -> dict[str, object]:
    return {
        "id": key.key_id,
        "name": key.name,
        "state": "usable" if key.revoked_at_s is None else "revoked",
        "created": _when(key.created_at_s),
    }


def _provider_fields(provider: "Provider") -> dict[str, object]:
    return {
        "id": provider.provider_id,
        "name": provider.name,
        "state": "enrolled" if provider.revoked_at_s is None else "revoked",
        "enrolled": _when(provider.enrolled_at_s),
    }


def _print_rows(rows: Sequence[dict[str, object]], json: bool, nothing: str) -> None:
    if json:
        print_json(rows)
    elif rows:
        _print_table(rows)
    else:
        say(nothing)


def _print_table(rows: Sequence[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold", no_wrap=name.endswith("id"))
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table, markup=False)


def _now_s() -> int:
    return int(time.time())


def _when(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
