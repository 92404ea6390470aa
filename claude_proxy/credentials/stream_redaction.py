"""Removes secrets from a response while it streams. Bytes in, bytes out, no I/O."""

import re
from collections.abc import Callable

from claude_proxy.credentials.credential import CLAUDE_PREFIX
from claude_proxy.credentials.redaction import CLAUDE_CREDENTIAL

_CLAUDE_PREFIX_BYTES = CLAUDE_PREFIX.encode()
_CLAUDE_CREDENTIAL_BYTES = re.compile(CLAUDE_CREDENTIAL.pattern.encode())
# Anthropic's credentials have about 110 characters.
LONGEST_CREDENTIAL = 512
_UNFINISHED_CREDENTIAL = re.compile(rb"sk-ant-[A-Za-z0-9_-]*")
# The start of an error event, on its own line. JSON escapes line ends, so no text inside an event can match.
_ERROR_EVENT = re.compile(rb'[\r\n](?:event: ?error|data: ?\{[ \t]{0,4}"(?:error"|type"[ \t]{0,4}:[ \t]{0,4}"error"))')
_LONGEST_EVENT_START = 48


class StreamRedactor:
    """Removes secrets from a response that arrives in parts: ``feed`` each part, then ``finish`` once.

    1. A secret is replaced by as many asterisks as it has bytes, so an announced length stays correct.
    2. Only a possible start of a secret is held back, so whole events are never delayed.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        self._secrets = secrets
        self._firsts = {secret[0] for secret in secrets} | {_CLAUDE_PREFIX_BYTES[0]}
        self._longest = max((*map(len, secrets), LONGEST_CREDENTIAL))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what is safe to send now."""
        data = self._held + data
        end = self._safe_end(data)
        self._held = data[end:]
        return self._clean(data[:end])

    def finish(self) -> bytes:
        """Return the rest of the data."""
        held, self._held = self._held, b""
        return self._clean(held) if held else b""

    def _clean(self, data: bytes) -> bytes:
        for secret in self._secrets:
            if secret in data:
                data = data.replace(secret, b"*" * len(secret))
        if _CLAUDE_PREFIX_BYTES in data:
            data = _CLAUDE_CREDENTIAL_BYTES.sub(lambda found: b"*" * len(found[0]), data)
        return data

    def _safe_end(self, data: bytes) -> int:
        """Return the position at which a possible secret starts; never inside a complete secret."""
        begin = 0
        while not data.endswith(b"\n"):  # no secret contains a line end
            place = self._beginning(data, begin)
            whole = [
                start + len(one)
                for one in self._secrets
                if 0 <= (start := data.find(one, max(0, place - len(one) + 1))) < place
            ]
            if not whole:
                return place
            begin = max(whole)
        return len(data)

    def _beginning(self, data: bytes, begin: int) -> int:
        """Return the first position, from ``begin``, whose remaining data may be the start of a secret."""
        for place in range(max(begin, len(data) - self._longest), len(data)):
            if data[place] in self._firsts and self._may_begin(data[place:]):
                return place
        return len(data)

    def _may_begin(self, text: bytes) -> bool:
        if _CLAUDE_PREFIX_BYTES.startswith(text) or _UNFINISHED_CREDENTIAL.fullmatch(text):
            return True
        return any(secret.startswith(text) and secret != text for secret in self._secrets)


class ErrorEventRedactor:
    """Passes events through unchanged, and removes secrets from the error event that ends a stream."""

    def __init__(self, secrets: Callable[[], list[bytes]]) -> None:
        self._secrets = secrets
        # None until an error event starts.
        self._redactor: StreamRedactor | None = None
        self._tail = b"\n"

    def feed(self, data: bytes) -> bytes:
        """Return what is safe to send now: everything, until an error event starts."""
        if self._redactor is not None:
            return self._redactor.feed(data)
        if len(data) >= _LONGEST_EVENT_START and b"error" not in data and self._tail.endswith(b"\n"):
            self._tail = data[-_LONGEST_EVENT_START:]
            return data
        window = self._tail + data
        error = _ERROR_EVENT.search(window)
        if error is None:
            self._tail = window[-_LONGEST_EVENT_START:]
            return data
        self._redactor = StreamRedactor(self._secrets())
        begin = max(0, error.start() - len(self._tail))
        return data[:begin] + self._redactor.feed(data[begin:])

    def finish(self) -> bytes:
        """Return the rest of the data."""
        return b"" if self._redactor is None else self._redactor.finish()


class Unchanged:
    """Passes everything through: a file, whose bytes are its user's."""

    def feed(self, data: bytes) -> bytes:
        """Return the data."""
        return data

    def finish(self) -> bytes:
        """Return nothing: nothing was held back."""
        return b""
