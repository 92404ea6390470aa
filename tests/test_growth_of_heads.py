"""No part of a request's head takes more than its share of time, whatever it is made of: no token is needed to send one."""

import random
from functools import partial

import pytest

from claude_proxy.upstream import headers
from fuzz import growth
from fuzz.growth import NAMES, ROUTES, UNITS, header, many_headers, measured, path, query, status_of

SIZE = 25_000
MESSAGES = ("POST", "/v1/messages")


def slow(kinds):
    """The names of the kinds whose time grows faster than their size."""
    return [name for name, make in kinds if not measured(status_of, make, SIZE).is_linear]


@pytest.mark.parametrize("name", NAMES)
def test_a_long_header(name):
    """A header's time doubles with its length at most, with the right token and with a wrong one."""
    assert not slow(
        (f"{unit!r} {token}", header(MESSAGES, name, unit, token)) for unit in UNITS for token in (growth.TOKEN, "wrong")
    )


@pytest.mark.parametrize("route", ROUTES, ids=[" ".join(route) for route in ROUTES])
def test_a_long_head_on_every_route(route):
    """So does it on the routes that need no token, with headers that are read there, and with a long query."""
    assert not slow(
        (f"{name} {unit!r}", header(route, name, unit)) for name in (headers.PROXY_TOKEN, "accept") for unit in UNITS
    )
    assert not slow((f"query {unit!r}", query(route, unit)) for unit in UNITS)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_long_path(method):
    """A path's time doubles with its length at most."""
    assert not slow((repr(unit), path(method, unit)) for unit in UNITS)


@pytest.mark.parametrize("name", NAMES)
def test_many_headers(name):
    """The time of headers doubles with their number at most."""
    assert not slow((repr(value), many_headers(MESSAGES, name, value)) for value in ("a", "a, x-b: c", ""))


def test_a_square_is_found():
    """The measure tells work in proportion from a square, or it would prove nothing."""
    assert measured(lambda size: [*range(size)], int, SIZE).is_linear
    assert not measured(lambda size: [place in [*range(size)] for place in range(size)], int, 300).is_linear


def test_random_heads_are_measured():
    """What ``make fuzz`` tries is a head that the gateway answers, and the same one for the same seed."""
    words, make = growth.random_head(random.Random(1))
    again, _ = growth.random_head(random.Random(1))
    assert words == again
    assert status_of(make(100)) in (200, 401, 403, 404)


@pytest.mark.parametrize("name", sorted(name.decode() for name in headers.BOUNDED_HEADERS))
def test_a_token_header_ends_at_4_kb(name):
    """A token header of more than 4096 bytes is refused, on every route; one of 4096 bytes is read."""
    ask = partial(header, name=name, unit="a", token=growth.TOKEN)
    for route in ROUTES:
        assert status_of(ask(route)(4095)) == 431
        assert status_of(ask(route)(4094)) != 431
