"""Ends the cooldowns of one credential in every process, with a row in the shared store."""

import asyncio
import time

from claude_proxy.credentials import pool_rows
from claude_proxy.credentials.credential import Credential
from claude_proxy.state.replication import SALT
from claude_proxy.state.rows import read_salt
from claude_proxy.state.store import Store, StoreUnavailable

# The maximum time for the store, in seconds.
PATIENCE_SECONDS = 10.0


async def lift(store: Store, credential: Credential, now: float | None = None) -> bool:
    """End the credential's cooldowns that started before ``now``, in every process that shares the store.

    Returns False for a store that no proxy has used; it contains no cooldowns. Raises ``StoreUnavailable``.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            rows, _ = await store.pull(0)
            salts = [row for row in rows if row.key == SALT]
            if not salts:
                return False
            await store.push([pool_rows.lifted_row(pool_rows.key_of(credential, read_salt(salts[0])), now or time.time())])
    except TimeoutError:
        raise StoreUnavailable(store.kind, f"no response within {PATIENCE_SECONDS:g} s") from None
    except ValueError:
        raise StoreUnavailable(store.kind, "its salt cannot be read") from None
    return True
