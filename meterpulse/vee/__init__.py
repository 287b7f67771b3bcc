"""Validation, estimation and editing: what is believed of a value, and why.

Values are judged as load profiles: matrices of channels that have the same traits by consecutive intervals. One file here
is one rule (`v10_spike.py`) and is found by its name; the same rules serve the batch layer and, where they need no
history, arrival. A rule says what it found and never changes a value. The numbers of the rules are those of
docs/how-to/validate.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from meterpulse.model.channel import CustomerClass, Direction, Kind, Profiles, Utility
from meterpulse.model.quantity import BY_CODE, Unit

if TYPE_CHECKING:
    from meterpulse.vee.estimation import Filling
    from meterpulse.vee.gaps import Gaps, Known

MISSING = -1  # in place of a quality: there is no value
UNKNOWN = -(2**63)  # in place of a total, a rating or an instant (int64) that is not known
NOT_TOLD = 255  # in place of a unit's code


class Status(IntEnum):
    """What a rule says of a channel or a span. The greater one wins."""

    NOT_APPLICABLE = 0
    PASS = 1
    WARN = 2
    FAIL = 3


class Decision(IntEnum):
    """What is to be done about a finding, where the rule decides that (V16 and V19)."""

    NONE = 0
    HOLD = 1  # keep what was there until more is known
    ROLLOVER = 2  # the register passed its last number: `measured` is the consumption
    RESET = 3  # the register began anew without an event that says so
    EXCHANGE = 4  # the register began anew, and an event says why
    REPLACE = 5  # the new value stands
    KEEP = 6  # the old value stands
    ADJUST = 7  # the old value is billed: it stands, and the difference is billed on its own


@dataclass(frozen=True, slots=True)
class Traits:
    """What all channels of a load profile have in common: their profile in the registry."""

    utility: Utility
    kind: Kind
    unit: Unit
    interval_seconds: int
    direction: Direction = Direction.delivered
    klass: CustomerClass = CustomerClass.household
    zone: str = "UTC"
    digits: int | None = None
    multiplier: Fraction = Fraction(1)

    @classmethod
    def of(cls, profiles: Profiles, number: int) -> Traits:
        """Of the registry's profile with that number (`ChannelTable.profile[channel]`)."""
        return cls(
            utility=Utility(int(profiles.utility[number])),
            kind=Kind(int(profiles.kind[number])),
            unit=BY_CODE[int(profiles.unit[number])],
            interval_seconds=int(profiles.interval_seconds[number]),
            direction=Direction(int(profiles.direction[number])),
            klass=CustomerClass(int(profiles.klass[number])),
            zone=profiles.zones[int(profiles.zone[number])],
            digits=int(profiles.digits[number]) or None,
            multiplier=profiles.multiplier[number],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """n channels by m consecutive intervals in UTC. Columns [first, after) are judged; the others are known, and are
    there so that the judged ones can be compared with them.

    A value at column c of an interval channel was used in [start_ms + c * step_ms, + step_ms); of a register or gauge
    it was read at the column's start.
    """

    traits: Traits
    channel: np.ndarray  # uint32[n], dense index
    start_ms: int
    step_ms: int
    quantity: np.ndarray  # int64[n, m], thousandths of the base unit; whatever where quality is MISSING
    quality: np.ndarray  # int32[n, m], packed as in model/quality.py; MISSING where there is no value
    first: int = 0
    after: int = -1  # -1: to the last column
    readings: np.ndarray | None = None  # int32[n, m], of how many readings each value is made; None: of one
    readings_expected: int = 1

    def __post_init__(self) -> None:
        if self.after < 0:
            object.__setattr__(self, "after", self.quantity.shape[1])
        shape = (len(self.channel), self.quantity.shape[1])
        if self.quantity.shape != shape or self.quality.shape != shape:
            raise AssertionError(f"quantity {self.quantity.shape}, quality {self.quality.shape}: {shape} is wanted")
        if not 0 <= self.first <= self.after <= shape[1]:
            raise AssertionError(f"judged columns [{self.first}, {self.after}) of {shape[1]}")

    def __len__(self) -> int:
        return len(self.channel)

    def take(self, rows: np.ndarray) -> Profile:
        """The rows of an index array."""
        return Profile(
            self.traits, self.channel[rows], self.start_ms, self.step_ms, self.quantity[rows], self.quality[rows],
            self.first, self.after, None if self.readings is None else self.readings[rows], self.readings_expected,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Times of single channels, as columns of a load profile: outages, disconnections, exchanges of a meter."""

    row: np.ndarray  # uint32[k], ascending
    first: np.ndarray  # int32[k]
    after: np.ndarray  # int32[k], exclusive; may lie behind the last column

    @classmethod
    def of(cls, spans: Sequence[tuple[int, int, int]]) -> Spans:
        """Of (row, first, after) in any order."""
        columns = np.array(sorted(spans), np.int64).reshape(-1, 3)
        return cls(columns[:, 0].astype(np.uint32), columns[:, 1].astype(np.int32), columns[:, 2].astype(np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class RegisterSpans:
    """What a register says was used while an interval channel measured the same, for V11 and for scaling."""

    row: np.ndarray  # uint32[k], ascending
    first: np.ndarray  # int32[k]
    after: np.ndarray  # int32[k]
    quantity: np.ndarray  # int64[k], thousandths of the base unit, multiplier included
    resolution: np.ndarray  # int64[k], one step of the register's last digit in thousandths, multiplier included
    tariffs: np.ndarray | None = None  # int64[k], what the registers of its tariff times add up to; UNKNOWN


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Totals of whole local days before the load profile (its own days may be among them and are not used twice)."""

    day: np.ndarray  # int32[h], days since 1970-01-01 on the wall calendar, ascending
    total: np.ndarray  # int64[n, h], UNKNOWN where the day is not known in full


@dataclass(frozen=True, slots=True, eq=False)
class Sibling:
    """Another channel of the same usage point and the same times: what a device of this kind should also deliver."""

    role: str  # reactive, apparent, demand (mean power, or its maximum), received, register
    configured: np.ndarray  # bool[n]: the usage point has such a channel
    quantity: np.ndarray  # int64[n, m]
    quality: np.ndarray  # int32[n, m], MISSING where there is no value


@dataclass(frozen=True, slots=True, eq=False)
class Previous:
    """What the record said before, for V19."""

    quantity: np.ndarray  # int64[n, m]
    quality: np.ndarray  # int32[n, m], MISSING where there was no value
    billed: np.ndarray  # bool[n, m]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Context:
    """What a rule may need besides the values. None is "not known": rules that need it say so and judge nothing."""

    history: History | None = None
    rating: np.ndarray | None = None  # int64[n], thousandths of the base unit that an hour can take, UNKNOWN
    registers: RegisterSpans | None = None
    outages: Spans | None = None  # confirmed
    inactive: Spans | None = None  # disconnected, or not yet or no longer installed
    exchanges: Spans | None = None  # of the meter or its register
    siblings: tuple[Sibling, ...] | None = None
    estimated_since: np.ndarray | None = None  # int64[n], ms; UNKNOWN where the last value is measured
    previous: Previous | None = None
    # What the messages said, for the rules that also run on arrival:
    repeats: np.ndarray | None = None  # int32[n, m], deliveries besides the one that stands, with another value
    seconds: np.ndarray | None = None  # int32[n, m], the interval that a value says it has; whatever where missing
    clock_ms: np.ndarray | None = None  # int64[n, m], how far the device's clock was ahead of ours; UNKNOWN
    unit: np.ndarray | None = None  # uint8[n], Unit.code of the message; NOT_TOLD
    multiplier: np.ndarray | None = None  # int64[n, 2], numerator and denominator in the message; 0 and 0: not told
    meter_matches: np.ndarray | None = None  # bool[n], the meter named in the message is the registered one


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What rules found, in columns. `row` is a row of the load profile; a span is columns [first, after)."""

    rule: np.ndarray  # uint8[k]: 10 is V10
    row: np.ndarray  # uint32[k]
    first: np.ndarray  # int32[k]
    after: np.ndarray  # int32[k]
    status: np.ndarray  # uint8[k], Status; PASS where something is only worth telling
    measured: np.ndarray  # int64[k], in the rule's own unit (see the rule)
    limit: np.ndarray  # int64[k], in the same unit
    decision: np.ndarray  # uint8[k], Decision

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(
        cls, rule: int, row: Any, first: Any, after: Any, status: Any, measured: Any, limit: Any, decision: Any = 0
    ) -> Findings:
        """From anything array-like; scalars become constant columns."""
        n = len(row)
        given = (rule, row, first, after, status, measured, limit, decision)
        return cls(*(_column(value, dtype, n) for value, dtype in zip(given, _FINDING_TYPES, strict=True)))

    @classmethod
    def of_table(cls, rule: int, table: np.ndarray, status: Any) -> Findings:
        """Of int64[k, 5]: row, first, after, measured, limit, as the compiled passes give them."""
        return cls.of(rule, table[:, 0], table[:, 1], table[:, 2], status, table[:, 3], table[:, 4])

    @classmethod
    def none(cls) -> Findings:
        """No findings."""
        return cls.of(0, [], [], [], 0, [], [])

    @staticmethod
    def concat(parts: Sequence[Findings]) -> Findings:
        """All of them, in order."""
        parts = [part for part in parts if len(part)] or [Findings.none()]
        return Findings(*(np.concatenate([getattr(p, name) for p in parts]) for name in FINDING_COLUMNS))

    def take(self, rows: np.ndarray) -> Findings:
        """Those of a mask or an index array."""
        return Findings(*(getattr(self, name)[rows] for name in FINDING_COLUMNS))


FINDING_COLUMNS = tuple(Findings.__dataclass_fields__)
_FINDING_TYPES = (np.uint8, np.uint32, np.int32, np.int32, np.uint8, np.int64, np.int64, np.uint8)


def _column(value: Any, dtype: Any, n: int) -> np.ndarray:
    array = np.asarray(value, dtype)
    return np.full(n, array, dtype) if array.ndim == 0 else array


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a rule says of a load profile: which rows it could judge, and what it found in them."""

    applies: np.ndarray  # bool[n]
    findings: Findings = field(default_factory=Findings.none)

    @classmethod
    def where(cls, judged: np.ndarray, findings: Findings) -> Outcome:
        """The rule can judge rows with anything true in bool[n, k]: their known values or days."""
        return cls(np.asarray(judged.any(axis=1)), findings)

    @classmethod
    def not_applicable(cls, profile: Profile) -> Outcome:
        """The rule cannot judge any of these channels."""
        return cls(np.zeros(len(profile), bool))


class Settings(BaseModel):
    """The settings of a rule, frozen; an unknown name is an error. A rule derives its own, with defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Literal["warn", "fail"] = "fail"

    @property
    def status(self) -> Status:
        """What a finding of this rule counts as."""
        return Status[self.severity.upper()]


class Nothing(BaseModel):
    """No settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(ABC):
    """One rule of the catalogue. Stateless: everything it needs is in the arguments."""

    number: ClassVar[int]  # 10 is V10
    version: ClassVar[int] = 1  # goes up when the same input may give another result
    settings: ClassVar[type[Settings]] = Settings
    needs_history: ClassVar[bool] = True  # False: also run on arrival
    after_grading: ClassVar[bool] = False  # True: sees the qualities that the other rules led to

    @property
    def id(self) -> str:
        """`V10`."""
        return f"V{self.number:02d}"

    @property
    def name(self) -> str:
        """The file's name without the number: `spike`."""
        return type(self).__module__.rpartition(".")[2].partition("_")[2]

    @abstractmethod
    def check(self, profile: Profile, context: Context, settings: Any) -> Outcome:
        """Judges columns [first, after) of every row. Findings outside of them are not made, except that a span which
        reaches into them may begin or end outside.
        """


class Estimator(ABC):
    """One way to estimate what is missing. Stateless and deterministic; a file such as `e3_linear.py`."""

    version: ClassVar[int] = 1  # goes up when the same input may give another estimate
    settings: ClassVar[type[BaseModel]] = Nothing

    @property
    def name(self) -> str:
        """The file's name without the number: `linear`."""
        return type(self).__module__.rpartition(".")[2].partition("_")[2]

    @abstractmethod
    def fill(self, known: Known, gaps: Gaps, settings: Any) -> Filling:
        """Estimates of the columns of gaps, of as many of them as this way can tell. Values of columns outside of the
        gaps, and what else is in `known`, are not changed.
        """
