"""Amounts of money in config.yaml: USD as written, whole micro-USD as counted. Plain values, no floating-point sums."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

# One USD in the unit of every sum.
MICRO_USD = 1_000_000
# A larger amount is a typing error.
MOST_USD = Decimal(1_000_000_000)


def amount(value: object) -> Decimal | None:
    """Return a number of config.yaml exactly as written; None for what is not a number from 0 to a billion."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() and 0 <= found <= MOST_USD else None


def micro_usd(usd: Decimal) -> int:
    """Return an amount of USD in whole micro-USD."""
    return int((usd * MICRO_USD).to_integral_value(ROUND_HALF_EVEN))


def shown(micro: int) -> str:
    """Return an amount in USD with at least two decimals and no needless zero: ``0.0042``, ``12.50``."""
    whole, part = divmod(micro, MICRO_USD)
    digits = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{digits}"
