"""What an entry of the price table comes to for our four counts, learned from the table's own arithmetic and then a few multiplications.

Theory. Without tiers the table's price is a constant plus a price per token of each kind, for as long as the same kinds were used: which
kinds (`what was used`) decides whether the table can answer at all. With tiers it is that between two limits of the input, which choose
one price each. So an entry is made flat for the band that an input lies in, asked a few questions, and the answers give the rates.

INVARIANT: the amount is the table's to the last digit; where that is not certain (a price that is no number, a count that is no whole
number or a very large one, more cached tokens than input) there is no rate, and the table is asked for every price.
"""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from otel_runtime.values.usage import TokenUsage

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["Tariff"]

_STEP = 1_000_000
_MILLION = Decimal(_STEP)
# Prices have ten digits at the most and decimals 28: nothing is rounded below this.
_MOST = 10**12


class _Rates(NamedTuple):
    """A constant and the price of a million tokens; of input, what is neither read from a cache nor written to one."""

    base: Decimal
    plain: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal


class Tariff:
    """The rates of one entry, learned as they are needed.

    Args:
        prices: The entry's prices; not changed afterwards.
    """

    __slots__ = ("_known", "_limits", "_prices", "_reads", "_writes")

    def __init__(self, prices: ModelPrice) -> None:
        self._prices = prices
        tiers = [tier.start for price in vars(prices).values() for tier in getattr(price, "tiers", ())]
        self._limits = sorted(set(tiers))
        # Cached tokens that have no price of their own are input like any other.
        self._reads = getattr(prices, "cache_read_mtok", None) is not None
        self._writes = getattr(prices, "cache_write_mtok", None) is not None
        self._known: dict[tuple[int, bool, bool, bool, bool], _Rates | None] = {}

    def amount(self, usage: TokenUsage) -> Decimal | None:
        """What the usage costs in US dollars; None when only the table can tell.

        Args:
            usage: Input and output must be known.
        """
        given, output, read, written = usage.input_tokens, usage.output_tokens, usage.cache_read or 0, usage.cache_write or 0
        if given is None or output is None:
            return None
        for count in (given, output, read, written):
            if type(count) is not int or not 0 <= count < _MOST:
                return None
        key = (bisect_left(self._limits, given) if self._limits else 0, given > 0, output > 0, read > 0, written > 0)
        rates = self._known[key] if key in self._known else self._learn(key, given)
        if rates is None:
            return None
        read, written = read if self._reads else 0, written if self._writes else 0
        plain = given - read - written
        if plain < 0:
            return None
        total = rates.base + rates.plain * plain / _MILLION + rates.output * output / _MILLION
        if read:
            total += rates.cache_read * read / _MILLION
        return total + rates.cache_write * written / _MILLION if written else total

    def _learn(self, key: tuple[int, bool, bool, bool, bool], given: int) -> _Rates | None:
        try:
            found = _asked(_flat(self._prices, given), key[1:])
        except (AttributeError, TypeError, ValueError):
            # The table refuses such a usage, or a price is none; it says which each time it is asked.
            found = None
        self._known[key] = found
        return found


def _flat(prices: ModelPrice, given: int) -> ModelPrice:
    """The same prices without tiers, as they are for an input of that size."""
    return type(prices)(**{name: _applicable(price, given) for name, price in vars(prices).items() if price is not None})


def _applicable(price: object, given: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    chosen = price.base  # type: ignore[attr-defined]  # anything but tiers is no price, and its error says so
    for tier in price.tiers:  # type: ignore[attr-defined]  # as above
        if given > tier.start:
            chosen = tier.price
    if not isinstance(chosen, Decimal):
        raise TypeError(f"expected a decimal price, got `{type(chosen).__name__}`")
    return chosen


def _asked(prices: ModelPrice, used: tuple[bool, ...]) -> _Rates:
    """Rates from differences: one point at which everything that was used is used, and one step from it for each kind."""
    given, output, read, written = used

    def total(more: int = 0, out: int = 0, reads: int = 0, writes: int = 0) -> Decimal:
        from genai_prices import Usage

        cached = [_STEP * (1 + reads) if read else 0, _STEP * (1 + writes) if written else 0]
        counts = {
            "input_tokens": sum(cached) + _STEP * (1 + more) if given else 0,
            "output_tokens": _STEP * (1 + out) if output else 0,
            **({"cache_read_tokens": cached[0]} if read else {}),
            **({"cache_write_tokens": cached[1]} if written else {}),
        }
        return Decimal(prices.calc_price(Usage(**counts))["total_price"])

    at = total()
    steps = [total(more=1) - at, total(out=1) - at, total(reads=1) - at, total(writes=1) - at]
    return _Rates(at - steps[0] * given - steps[1] * output - steps[2] * read - steps[3] * written, *steps)
