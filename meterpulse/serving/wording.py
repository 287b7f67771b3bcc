"""What a rule found, in words: its evidence (`measured` against `limit`, see each rule) as one sentence for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from meterpulse.model.quantity import BY_CODE, Unit, decimal_text

Words = Callable[[int, int, Unit], str]


def title_of(rule: str) -> str:
    """A rule's name in two or three words; its id where it has none here."""
    return _RULES[rule][0] if rule in _RULES else rule


def words_of(rule: str, measured: int | None, limit: int | None, unit: Unit) -> str:
    """What is wrong. `measured` and `limit` are the rule's evidence, `unit` that of the channel."""
    if rule not in _RULES or measured is None or limit is None:
        return f"{title_of(rule)} fails."
    return _RULES[rule][1](measured, limit, unit)


def _amount(thousandths: int, unit: Unit) -> str:
    return f"{decimal_text(thousandths, unit)} {unit.name}"


def _against(sentence: str) -> Words:
    """A sentence about two quantities."""
    return lambda measured, limit, unit: sentence.format(_amount(measured, unit), _amount(limit, unit))


def _counted(sentence: str) -> Words:
    """A sentence about two whole numbers."""
    return lambda measured, limit, unit: sentence.format(measured, limit)


def _times(measured: int, limit: int, unit: Unit) -> str:
    times = f", {measured / limit:.3g} times that" if limit > 0 and measured >= 2 * limit else ""
    return f"{_amount(measured, unit)}, where the day's other values allow {_amount(limit, unit)}{times}."


def _missing(measured: int, limit: int, unit: Unit) -> str:
    if limit > 0:
        return f"An interval is made of {measured} of {limit} readings."
    return f"{measured:,} intervals without a value." if measured != 1 else "One interval without a value."


def _clock(measured: int, limit: int, unit: Unit) -> str:
    side = "ahead of" if measured > 0 else "behind"
    return f"The meter's clock is {timedelta(milliseconds=abs(measured))} {side} ours."


def _units(measured: int, limit: int, unit: Unit) -> str:
    told = BY_CODE[measured].name if 0 <= measured < len(BY_CODE) else f"unit {measured}"
    return f"The message says {told}, the registry {unit.name}."


def _usual(measured: int, limit: int, unit: Unit) -> str:
    side = "above" if measured > limit else "below"
    return f"{_amount(measured, unit)} a day, {side} {_amount(limit, unit)}, where the usual ends."


_RULES: dict[str, tuple[str, Words]] = {
    "V01": ("Delivered twice", _counted("{0} deliveries with another value than the one that stands.")),
    "V02": ("Another unit", _units),
    "V03": ("Another interval", _counted("A value covers {0} s, the channel's interval is {1} s.")),
    "V04": (
        "Another multiplier",
        lambda m, limit, u: f"The message multiplies by {m / 1e6:g}, the registry by {limit / 1e6:g}.",
    ),
    "V05": ("Clock is off", _clock),
    "V06": ("No value", _against("{0} is what this meter says when it has nothing to say.")),
    "V07": ("Missing", _missing),
    "V08": ("Use while inactive", _against("{0} used where nothing is connected.")),
    "V09": ("Above the maximum", _against("{0}, and the service can carry {1}.")),
    "V10": ("Spike", _times),
    "V11": ("Sum differs", _against("The intervals add up to {0}, the register says {1}.")),
    "V12": ("High or low", _usual),
    "V13": ("No use", _counted("{0} days without use, told from {1} on.")),
    "V14": ("Below zero", _against("{0}, where no less than {1} can be.")),
    "V15": ("Flat line", lambda m, limit, u: f"The same value for {m / 60:g} h, told from {limit / 60:g} h on."),
    "V16": ("Register fell", _against("The register shows {0} after {1}.")),
    "V17": ("Channels disagree", _counted("Evidence {0} against {1}: the channels of this usage point do not agree.")),
    "V18": ("Long estimated", _counted("{0} days estimated, told from {1} on.")),
    "V19": ("Replaced", _against("{0} came for a time that had {1}.")),
    "V20": ("Own rule", _counted("The rule's own formula does not hold: {0} against {1}.")),
    "V21": ("Form of a read", _against("{0} is not a reading that this meter's dials can show ({1}).")),
}  # fmt: skip
