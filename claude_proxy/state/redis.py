"""A store in Redis, for replicas on several machines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from claude_proxy.secret import Secret
from claude_proxy.state.rows import Row, read_row, to_bytes
from claude_proxy.state.store import StoreUnavailable, generation, make_cursor, new_generation, sequence

# The time limit for a connection and for a response, in seconds.
TIMEOUT_SECONDS = 1.0
# Rows per script call; Redis is blocked during the call.
BATCH_ROWS = 500
_KEYS = ("claude-proxy:values", "claude-proxy:stamps", "claude-proxy:changes", "claude-proxy:meta")
_PUSH = """
for i = 1, #ARGV, 3 do
  local key, stamp, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local there = redis.call('ZSCORE', KEYS[2], key)
  if not there or tonumber(stamp) > tonumber(there) then
    redis.call('HSET', KEYS[1], key, value)
    redis.call('ZADD', KEYS[2], stamp, key)
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[4], 'sequence', 1), key)
  end
end
"""
# A restarted server, or a replica that replaces it, has another run_id and may have lost its last seconds.
_PULL = """
local server = redis.pcall('INFO', 'server')
local run = type(server) == 'string' and string.match(server, 'run_id:(%w+)') or 'unknown'
local meta = redis.call('HMGET', KEYS[4], 'generation', 'run', 'sequence')
local generation, since = meta[1], ARGV[2]
if not generation or meta[2] ~= run then
  generation = ARGV[3]
  redis.call('HSET', KEYS[4], 'generation', generation, 'run', run)
end
if generation ~= ARGV[1] then
  since = '0'
end
local reply = {generation, meta[3] or '0'}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. since, '+inf')) do
  local value, stamp = redis.call('HGET', KEYS[1], key), redis.call('ZSCORE', KEYS[2], key)
  if value and stamp then
    reply[#reply + 1] = key
    reply[#reply + 1] = stamp
    reply[#reply + 1] = value
  end
end
return reply
"""
_READ = """
local reply = {}
for _, key in ipairs(ARGV) do
  reply[#reply + 1] = redis.call('ZSCORE', KEYS[2], key)
  reply[#reply + 1] = redis.call('HGET', KEYS[1], key)
end
return reply
"""
_PRUNE = """
local prefix, older_than, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local all, found = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'), {}
for i = 1, #all, 2 do
  if string.sub(all[i], 1, #prefix) == prefix then
    found[#found + 1] = {all[i], tonumber(all[i + 1])}
  end
end
for place, row in ipairs(found) do
  if row[2] < older_than or place <= #found - keep then
    redis.call('HDEL', KEYS[1], row[1])
    redis.call('ZREM', KEYS[2], row[1])
    redis.call('ZREM', KEYS[3], row[1])
  end
end
"""


class RedisStore:
    """Rows in Redis, for replicas on several machines.

    The connection is opened by the first call, and again by any call after it was lost. Redis does not evict these keys unless
    its policy is ``allkeys-*``.
    """

    kind = "Redis"

    def __init__(self, url: str) -> None:
        self._url = Secret(url)
        self._client: Redis | None = None

    async def push(self, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            arguments = [part for row in batch for part in (to_bytes(row.key), repr(row.stamp), to_bytes(row.value))]
            with self._translated():
                await self._run(_PUSH, arguments)

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        with self._translated():
            current, last, *parts = await self._run(_PULL, [generation(cursor), sequence(cursor), new_generation()])
            found = zip(parts[::3], map(float, parts[1::3]), parts[2::3], strict=True)
            return [row for one in found if (row := read_row(*one))], make_cursor(int(current), int(last))

    async def read(self, keys: Sequence[str]) -> list[Row]:
        named = [to_bytes(key) for key in keys]
        with self._translated():
            parts = await self._run(_READ, named) if named else []
            pairs = zip(named, parts[::2], parts[1::2], strict=True)
            found = [(key, float(stamp), value) for key, stamp, value in pairs if stamp is not None and value is not None]
            return [row for one in found if (row := read_row(*one))]

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        with self._translated():
            await self._run(_PRUNE, [to_bytes(prefix), repr(older_than), keep])

    async def close(self) -> None:
        if self._client is not None:
            with self._translated():
                await self._client.aclose()

    async def _run(self, script: str, arguments: Sequence[bytes | str | int]) -> Any:
        if self._client is None:
            self._client = Redis.from_url(
                self._url.reveal(),
                socket_connect_timeout=TIMEOUT_SECONDS,
                socket_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),  # the caller retries and logs
                maint_notifications_config=MaintNotificationsConfig(enabled=False),  # otherwise a closed connection is missed
            )
        return await self._client.register_script(script)(keys=_KEYS, args=arguments)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate errors to the name of their class, because texts of redis-py may contain the URL."""
        try:
            yield
        except (RedisError, OSError, ValueError, TypeError) as error:
            raise StoreUnavailable(self.kind, type(error).__name__) from None
