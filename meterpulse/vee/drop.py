"""What it means that a cumulative register shows less than before: rollover, dip, exchange or reset.

One compiled decision for everybody who follows a register: V16 tells it, and consumption is computed by it.
"""

from __future__ import annotations

from fractions import Fraction

from meterpulse.model.quantity import Unit
from meterpulse.vee import Decision
from meterpulse.vee.runs import compiled

NO_ROLLOVER = 2**62  # in place of a modulus: the digits are not known, so the register never passes its last number
_NONE, _HOLD, _ROLLOVER, _RESET, _EXCHANGE = (
    int(d) for d in (Decision.NONE, Decision.HOLD, Decision.ROLLOVER, Decision.RESET, Decision.EXCHANGE)
)


def modulus_of(unit: Unit, digits: int | None) -> int:
    """At how many thousandths of the base unit a register of so many digits is back at zero: 10 ** digits units, one
    more than the last number that it shows.
    """
    if digits is None:
        return NO_ROLLOVER
    return min(int(Fraction(10) ** digits * unit.scale), NO_ROLLOVER)


@compiled
def decision_of(before, now, modulus, most, exchanged, upper, lower, dip):  # type: ignore[no-untyped-def]
    """A Decision on the step from `before` to `now` (thousandths as shown, without the multiplier).

    `most` is the largest plausible step; `exchanged`: an event says that the register was changed in between. `upper`
    and `lower` bound the bands of a rollover, `dip` the part of `before` that a dip stays above, all in thousandths.
    An exchange that is told comes first: after it any index is in order.
    """
    if exchanged:
        return _EXCHANGE
    if now >= before:
        return _NONE
    if before > upper and now < lower and now + modulus - before <= most:
        return _ROLLOVER
    return _HOLD if now >= dip else _RESET
