"""config/timezones.py: time zones by name, and UTC on a machine without time zone data."""

from datetime import datetime
from zoneinfo import reset_tzpath

import pytest

from claude_proxy.config.timezones import UTC, is_timezone, timezone


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("UTC", True),
        ("Europe/Berlin", True),
        ("Berlin", False),
        ("", False),
        (None, False),
        (1, False),
        ("../etc", False),
        ("Europe", False),
    ],
)  # fmt: skip
def test_names(name, is_one):
    """Only a name that the data has is one; a path is none."""
    assert is_timezone(name) is is_one


def test_without_data():
    """UTC needs no data of the machine."""
    reset_tzpath(["/nowhere"])
    try:
        assert timezone(None) is timezone("UTC") is UTC
        assert datetime(2026, 3, 1, tzinfo=UTC).utcoffset().total_seconds() == 0
    finally:
        reset_tzpath()
