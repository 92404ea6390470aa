"""providers/meter.py: an estimate of a request's tokens, set right by what its provider counted before."""

import json

from claude_proxy.providers.meter import MAX_NAMES, Meter

BODY = {"messages": [{"role": "user", "content": "word " * 2000}]}
RAW = json.dumps(BODY).encode()


def test_texts_are_counted_at_first():
    """Before the provider has said anything, and for what is too small or has pictures."""
    meter = Meter(lambda text: len(text.split()))
    assert meter.tokens("a", RAW, lambda: BODY) == 2004
    meter.learn("a", b"x" * 100, 50)
    meter.learn("a", RAW + b'"base64"', 50)
    meter.learn("a", RAW, 0)
    assert meter.tokens("a", RAW, lambda: BODY) == 2004


def test_the_providers_numbers_count():
    """The next request of about that size gets about that number, and other providers' do not change."""
    meter = Meter(len)
    meter.learn("a", RAW, 3000)
    assert meter.tokens("a", RAW, dict) == 3000
    assert meter.tokens("a", RAW + RAW, dict) == 6000
    assert meter.tokens("b", RAW, lambda: BODY) == len("word " * 2000) + 4
    meter.learn("a", RAW, 4000)
    assert 3000 < meter.tokens("a", RAW, dict) < 4000


def test_names_are_bounded():
    """Clients choose some of them."""
    meter = Meter(len)
    for number in range(MAX_NAMES + 5):
        meter.learn(f"m{number}", RAW, 3000)
    assert meter.tokens("m0", RAW, dict) == 1
    assert meter.tokens(f"m{MAX_NAMES}", RAW, dict) == 3000
