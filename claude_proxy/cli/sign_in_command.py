"""``claude-proxy sign-in``: who has signed in with ``/login``, the end of a user's sign-ins, and new signing keys."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import click

from claude_proxy.cli import tables
from claude_proxy.cli.command import command, group
from claude_proxy.cli.console import CommandError, tell
from claude_proxy.cli.parsing import Options, json_option
from claude_proxy.cli.project import checked, config_path, state_folder
from claude_proxy.cli.tables import Column, Style
from claude_proxy.config import models, signing_keys
from claude_proxy.config.sign_in import SignIn as SignInConfig
from claude_proxy.config.stores import shared_store
from claude_proxy.signin.keys import UnusableKeys
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.store import StoreUnavailable

Result = TypeVar("Result")

STATE_FILE = "pool.sqlite3"
IN_MEMORY = "CLAUDE_POOL_STATE_FILE is `none`: sign-ins are in the memory of the running proxy, and end when it stops."


def list_sign_ins(options: Options) -> None:
    """Print each sign-in: the user, since when, the last refresh, and how they signed in; no secret."""
    found = _with_sign_in(options, lambda sign_in: sign_in.sessions.all())
    names = ("user", "groups", "with", "since", "last refresh")
    rows = [
        (
            one.identity.name,
            " ".join(one.identity.groups),
            "personal token" if one.identity.token_digest else "identity provider",
            _time(one.since),
            _time(one.used),
        )
        for one in found
    ]
    if options.json:
        keys = [name.replace(" ", "_") for name in names]
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))  # noqa: T201 - the output
    elif rows:
        style = Style.of(sys.stdout, lambda: shutil.get_terminal_size().columns)
        print(tables.text([Column(name) for name in names], rows, style), end="")  # noqa: T201 - the output
    else:
        tell("Nobody has signed in with /login.")


def revoke(options: Options) -> None:
    """End all sign-ins of a user."""
    name = options.user

    async def end(sign_in: SignIn) -> int:
        await sign_in.codes.withdraw(name)
        return await sign_in.sessions.revoke_user(name)

    ended = _with_sign_in(options, end)
    if not ended:
        raise CommandError(f"{name} has no sign-in. `claude-proxy sign-in list` shows all of them.")
    tell(f"Ended {ended} sign-in{'' if ended == 1 else 's'} of {name}. The proxy rejects their requests within a second.")
    tell(
        "The user can sign in again. To prevent that, run `claude-proxy user remove`, or remove them at the identity provider."
    )


def rotate_keys(options: Options) -> None:
    """Replace the signing key."""
    ring = _with_sign_in(options, lambda sign_in: sign_in.keys.rotate(discard=options.discard_old), needs_store=False)
    tell(f"The new signing key is {ring.keys[0].kid}. A running proxy uses it within seconds.")
    if options.discard_old:
        tell("The old keys are discarded: every user has to sign in again.")
    else:
        tell("Tokens of the old key stay valid until they expire.")


def _with_sign_in(options: Options, use: Callable[[SignIn], Awaitable[Result]], *, needs_store: bool = True) -> Result:
    """Call a function with the sign-in of the proxy's settings; raise ``CommandError`` where it cannot be used."""
    loaded, settings = checked(config_path(options.project, options.data))
    store = shared_store(settings, loaded, state_folder(options.project, options.data) / STATE_FILE)
    if store is None and needs_store:
        raise CommandError(IN_MEMORY)
    is_redis = bool(settings.redis_url or models.redis_url(loaded, os.environ))
    place = signing_keys.place(os.environ, settings, redis=is_redis, store=store is not None)
    config = SignInConfig.of(loaded)

    async def used() -> Result:
        try:
            return await use(SignIn(store, place, settings.users, lambda: config))
        finally:
            if store is not None:
                with contextlib.suppress(StoreUnavailable):
                    await store.close()

    try:
        return asyncio.run(used())
    except StoreUnavailable as error:
        raise CommandError(f"{error}. Nothing was changed.") from None
    except UnusableKeys as error:
        raise CommandError(f"The signing keys cannot be used: {error}. With --discard-old new ones replace them.") from None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


SIGN_IN = group(
    "sign-in",
    [
        command(
            "list",
            list_sign_ins,
            [json_option()],
            about="List who has signed in with /login, since when, and when their client last refreshed its token.",
        ),
        command(
            "revoke",
            revoke,
            [click.Argument(["user"], metavar="NAME")],
            about="End all sign-ins of a user, and their requests. The user can sign in again.",
            examples=("claude-proxy sign-in revoke anna@example.org",),
            writes=True,
        ),
        command(
            "rotate-keys",
            rotate_keys,
            [click.Option(["--discard-old"], is_flag=True, help="Reject the tokens of the old keys immediately.")],
            about="Replace the key that signs access tokens. Tokens of the old key stay valid until they expire.",
            writes=True,
        ),
    ],
    about="List and end sign-ins with /login, and replace the keys that sign their tokens.",
)
