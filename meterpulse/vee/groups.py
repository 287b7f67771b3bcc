"""Who is judged how: groups of channels with their own rules, settings and estimators, from one date to another.

    settings = VeeSettings.of(config.vee.groups)
    for rows, rule_set, order in settings.for_channels(traits, ids, day): ...

A group applies to the channels that fit all of its conditions; one without conditions applies to all. Where several apply,
the one of higher priority has the last word, setting by setting. Two of equal priority may say different things only where no
channel can be in both: that is told at start, and so is every name or value that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from meterpulse.config import ConfigError, VeeGroup
from meterpulse.model.window import EPOCH
from meterpulse.vee import Traits
from meterpulse.vee.catalogue import RuleSet, rules
from meterpulse.vee.estimation import DEFAULT_ORDER, EstimationError, Order, estimators

_MOST = 62  # groups are bits of an int64
Judged = tuple[np.ndarray, RuleSet, Order]  # rows int64, ascending, and what they are judged and estimated by


class VeeSettings:
    """The groups of a city, checked. Immutable; the set of rules of the same groups is the same object."""

    def __init__(self, groups: Sequence[VeeGroup] = ()):
        self._groups = sorted(groups, key=lambda group: group.priority)
        self._arrivals: dict[tuple[int, ...], RuleSet] = {}
        self._combined = lru_cache(maxsize=4096)(self._combine)

    @classmethod
    def of(cls, groups: Sequence[VeeGroup]) -> VeeSettings:
        """Checks the groups by themselves and against each other; raises ConfigError, which tells all that is wrong."""
        wrong = [text for at, group in enumerate(groups) for text in _wrong(f"vee.groups.{at}", group)]
        names = [group.name for group in groups]
        wrong += [f"vee.groups: two are named {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
        if len(groups) > _MOST:
            wrong.append(f"vee.groups: {len(groups)} groups; at most {_MOST} can be told apart, so join some")
        wrong += [text for a, b in combinations(groups, 2) for text in _contradictions(a, b)]
        if wrong:
            raise ConfigError("\n".join(wrong))
        return cls(groups)

    def for_traits(self, traits: Traits, day: int) -> tuple[RuleSet, Order]:
        """Of channels with these traits that no group names, on a day since 1970-01-01 on their wall calendar."""
        return self._combined(tuple(at for at in self._in_force(traits, day) if not self._groups[at].channels))

    def names_channels(self, traits: Traits, day: int) -> bool:
        """Whether a group in force that day goes by the channels' ids, so that `for_traits` is not the whole truth."""
        return any(self._groups[at].channels for at in self._in_force(traits, day))

    def for_channels(self, traits: Traits, count: int, ids: Callable[[], pa.Array], day: int) -> list[Judged]:
        """Splits `count` channels of these traits by what they are judged by. `ids` gives their texts, in order; it is
        asked only when a group in force goes by them.
        """
        return [(rows, *self._combined(chosen)) for rows, chosen in self._split(traits, count, ids, day)]

    @property
    def judges_arrivals(self) -> bool:
        """Whether any group asks for readings to be judged when they arrive."""
        return any(group.arrival for group in self._groups)

    def may_judge_arrivals(self, traits: Traits, day: int) -> bool:
        """Whether a group in force for channels of these traits asks for it."""
        return any(self._groups[at].arrival for at in self._in_force(traits, day))

    def for_arrival(
        self, traits: Traits, count: int, ids: Callable[[], pa.Array], day: int
    ) -> list[tuple[np.ndarray, RuleSet]]:
        """As `for_channels`, only those that are judged on arrival, and by the rules that can be used there. That an
        interval is missing shows only later.
        """
        parts = self._split(traits, count, ids, day)
        return [(rows, self._arriving(chosen)) for rows, chosen in parts if self._asks(chosen)]

    def _asks(self, chosen: tuple[int, ...]) -> bool:
        said = [self._groups[at].arrival for at in chosen if self._groups[at].arrival is not None]
        return bool(said and said[-1])

    def _arriving(self, chosen: tuple[int, ...]) -> RuleSet:
        if chosen not in self._arrivals:
            entries = self._combined(chosen)[0].without_history().entries
            self._arrivals[chosen] = RuleSet(tuple(entry for entry in entries if entry[0].id != "V07"))
        return self._arrivals[chosen]

    def _split(
        self, traits: Traits, count: int, ids: Callable[[], pa.Array], day: int
    ) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """Rows of channels by the groups that they are in."""
        in_force = self._in_force(traits, day)
        named = [at for at in in_force if self._groups[at].channels]
        if not named:
            return [(np.arange(count), tuple(in_force))]
        texts = ids()
        # Few groups, many channels: each channel's groups as bits of one number.
        member = np.zeros(count, np.int64)
        for bit, at in enumerate(named):
            member |= _matches(texts, self._groups[at].channels).astype(np.int64) << bit
        out = []
        for bits in np.unique(member).tolist():
            absent = {at for bit, at in enumerate(named) if not bits >> bit & 1}
            out.append((np.flatnonzero(member == bits), tuple(at for at in in_force if at not in absent)))
        return out

    def _in_force(self, traits: Traits, day: int) -> list[int]:
        """Positions of the groups that apply by utility, class and date, in the order of their priority."""
        return [
            at
            for at, group in enumerate(self._groups)
            if (not group.utilities or traits.utility.name in group.utilities)
            and (not group.classes or traits.klass.name in group.classes)
            and (group.from_ is None or _day(group.from_) <= day)
            and (group.until is None or day < _day(group.until))
        ]

    def _combine(self, chosen: tuple[int, ...]) -> tuple[RuleSet, Order]:
        settings: dict[str, dict[str, Any]] = {}
        estimating: dict[str, dict[str, Any]] = {}
        order: Sequence[str] = DEFAULT_ORDER
        for group in (self._groups[at] for at in chosen):
            for id, given in group.rules.items():
                settings.setdefault(id, {}).update(given)
            for name, given in group.estimators.items():
                estimating.setdefault(name, {}).update(given)
            order = group.order or order
        off = frozenset(id for id, given in settings.items() if not given.pop("on", True))
        estimating = {name: given for name, given in estimating.items() if name in order}
        return RuleSet.of(settings, off), Order.of(order, estimating)


def _wrong(place: str, group: VeeGroup) -> Iterator[str]:
    """What of a group does not exist or cannot be used."""
    if group.from_ is not None and group.until is not None and group.from_ >= group.until:
        yield f"{place} ({group.name}): from {group.from_} until {group.until} is no day; until is not included"
    known = rules()
    for id, given in group.rules.items():
        if id not in known:
            yield f"{place}.rules.{id}: no such rule; there are {', '.join(known)}"
            continue
        if not isinstance(given.get("on", True), bool):
            yield f"{place}.rules.{id}.on = {given['on']!r}: takes true or false"
        try:
            known[id].settings(**{name: value for name, value in given.items() if name != "on"})
        except ValidationError as error:
            for problem in error.errors():
                yield _explained(f"{place}.rules.{id}", problem, ["on", *known[id].settings.model_fields])
    try:
        Order.of(group.order or ())
        Order.of(tuple(estimators()), group.estimators)
    except EstimationError as error:
        yield f"{place} ({group.name}): {error}"
    if group.order == ():
        yield f"{place}.order = []: nothing would be estimated; name at least one estimator"


def _explained(place: str, problem: Mapping[str, Any], known: Sequence[str]) -> str:
    name = ".".join([place, *(str(part) for part in problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such setting; there are {', '.join(known)}"
    said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "takes")
    return f"{name} = {problem['input']!r}: {said}"


def _contradictions(a: VeeGroup, b: VeeGroup) -> Iterator[str]:
    """What two groups of equal priority say differently about channels that may be in both."""
    if a.priority != b.priority or not _may_share(a, b):
        return
    said, other = _said(a), _said(b)
    for name in sorted(said.keys() & other.keys()):
        if said[name] != other[name]:
            yield (
                f"vee.groups: {a.name!r} and {b.name!r} both have priority {a.priority} and say different things about "
                f"{name}; give one of them a higher priority, or make their channels or dates differ"
            )


def _said(group: VeeGroup) -> dict[str, Any]:
    out = {f"rules.{id}.{name}": value for id, given in group.rules.items() for name, value in given.items()}
    out |= {f"estimators.{e}.{name}": value for e, given in group.estimators.items() for name, value in given.items()}
    single = {"order": group.order, "arrival": group.arrival}
    return out | {name: value for name, value in single.items() if value is not None}


def _may_share(a: VeeGroup, b: VeeGroup) -> bool:
    """Whether a channel may be in both on some day. Patterns may always meet; lists of ids do where they share one."""
    for one, other in ((a.utilities, b.utilities), (a.classes, b.classes)):
        if one and other and not set(one) & set(other):
            return False
    if a.until and b.from_ and a.until <= b.from_ or b.until and a.from_ and b.until <= a.from_:
        return False
    if not a.channels or not b.channels:
        return True
    return any(_meet(one, other) for one in a.channels for other in b.channels)


def _meet(one: str, other: str) -> bool:
    if _is_pattern(one) and _is_pattern(other):
        return True
    pattern, text = (one, other) if _is_pattern(one) else (other, one)
    return re.fullmatch(_regex(pattern), text, re.DOTALL) is not None


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _regex(pattern: str) -> str:
    """`*` is any text and `?` any character; everything else is itself."""
    return "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)


def _matches(ids: pa.Array, wanted: Sequence[str]) -> np.ndarray:
    """bool[n]: which ids are listed or fit a pattern."""
    listed = pa.array([text for text in wanted if not _is_pattern(text)], pa.string())
    out = pc.is_in(ids.cast(pa.string()), listed)
    patterns = [_regex(text) for text in wanted if _is_pattern(text)]
    if patterns:
        out = pc.or_(out, pc.match_substring_regex(ids.cast(pa.string()), rf"^(?s:{'|'.join(patterns)})$"))
    return np.asarray(out.to_numpy(zero_copy_only=False), bool)


def _day(at: Any) -> int:
    return int((at - EPOCH).days)
