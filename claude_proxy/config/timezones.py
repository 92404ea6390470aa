"""Time zones by their names. Plain values; the data is the machine's, or that of the package tzdata."""

import io
import struct
from zoneinfo import ZoneInfo

# UTC in the format of time zone files (RFC 9636): a machine may have no time zone data.
_UTC_FILE = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"
UTC = ZoneInfo.from_file(io.BytesIO(_UTC_FILE), key="UTC")


def timezone(name: str | None) -> ZoneInfo:
    """Return a time zone for which ``is_timezone`` is true; UTC without a name."""
    return UTC if name in (None, UTC.key) else ZoneInfo(str(name))


def is_timezone(name: object) -> bool:
    """Return whether a value is the name of a time zone."""
    if name == UTC.key:
        return True
    try:
        return isinstance(name, str) and bool(name) and ZoneInfo(name) is not None
    except (KeyError, ValueError, OSError):
        return False
