"""config/money.py: amounts in USD."""

from decimal import Decimal

import pytest

from claude_proxy.config.money import amount, micro_usd, shown


@pytest.mark.parametrize(
    ("value", "micro"),
    [(10, 10_000_000), (0.1, 100_000), ("12.50", 12_500_000), (" 3 ", 3_000_000), (0.0000015, 2), (1e-9, 0), (0, 0)],
)
def test_an_amount(value, micro):
    """A number and a text of one are the same amount, to a millionth."""
    usd = amount(value)
    assert usd is not None
    assert micro_usd(usd) == micro


@pytest.mark.parametrize("value", [None, True, -1, "ten", "10 USD", "$10", "", [1], {}, float("nan"), float("inf"), 10**10])
def test_what_is_no_amount(value):
    """Anything but a finite number from 0 to a billion is no amount."""
    assert amount(value) is None


def test_a_sum_is_exact():
    """A tenth of a USD, ten times, is one USD."""
    assert sum(micro_usd(amount(0.1) or Decimal(0)) for _ in range(10)) == micro_usd(Decimal(1))


@pytest.mark.parametrize(
    ("micro", "text"), [(0, "0.00"), (4200, "0.0042"), (12_500_000, "12.50"), (1, "0.000001"), (10**12, "1000000.00")]
)
def test_an_amount_in_words(micro, text):
    """An amount has two decimals, and more only where it needs them."""
    assert shown(micro) == text
