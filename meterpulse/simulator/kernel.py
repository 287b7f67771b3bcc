"""The compiled part of `load`: one reading is the difference of two running totals, for any channels in any order.

A customer's use is the sum of smooth parts, which are shared tables times the customer's own sizes, and of events.
Events of a family are spread over a day's habit one to each equal part of it, so those around a second are found by a
multiplication, and how many were before it is known without looking. They come in rounds of four different ones.
"""

from __future__ import annotations

import numpy as np
from numba import int64, njit, uint64

from meterpulse.simulator.chance import GOLDEN, mix
from meterpulse.simulator.curves import KNOTS_BITS, STEP_BITS
from meterpulse.simulator.customers import field

# Blocks of channels by dense index, in this order.
ELECTRICITY, GAS, WATER, SOLAR, REGISTER_E, REGISTER_G, REGISTER_W, VOLTAGE = range(8)

# Where the parts stand in an instant's table, and how many variants each has (a power of two).
SERIES, HOME_SERIES, CYCLES, CLOUDS, SHIFTS = 8, 32, 512, 64, 16
HOME = 0
COOLING = HOME + SHIFTS * HOME_SERIES
WARMING = COOLING + CYCLES
FRIDGE = WARMING + CYCLES
FIRM = FRIDGE + CYCLES
BOILER = FIRM + 8 * HOME_SERIES
FIRM_GAS = BOILER + CYCLES
FIRM_WATER = FIRM_GAS + 8 * SERIES
SUN = FIRM_WATER + 8 * SERIES
VOLTS = SUN + CLOUDS
EVENING = VOLTS + CLOUDS  # days since the epoch and seconds since noon of standard time, for cars
TABLE = EVENING + 2

PLACE = 8  # columns of a place: day, second of it, turn, turn one longest event earlier, first of its moments
DAY, SECOND, TURN, BEFORE, MOMENTS = range(5)
PARTS = np.array([0] + [(1 << (KNOTS_BITS + STEP_BITS)) // n for n in range(1, 128)], np.int64)

# Families of events. Rates are thousandths of the base unit per second (1000 W = 278 mWh/s), lengths in seconds.
KETTLE, MACHINE, TAP, SHOWER, HOT_WATER, COOKING, FIRM_MACHINE, FIRM_TAP, FIRM_COOKING = range(9)
RATE = np.array(
    (
        (417, 306, 250, 389),  # kettle, microwave oven, coffee and toast, hair dryer
        (667, 333, 194, 1000),  # oven, dishwasher, washing machine, tumble dryer
        (100, 75, 90, 80),  # toilet, hand basin, toilet, kitchen tap
        (130, 150, 130, 170),  # shower, washing machine, shower, bath
        (690, 480, 690, 560),  # the boiler for them
        (110, 70, 160, 90),  # hobs and an oven
        (1250, 2100, 830, 1660),  # lifts, ovens, compressors
        (100, 120, 100, 200),
        (240, 420, 180, 330),
    ),
    np.int64,
)
LENGTH = np.array(
    (
        (200, 150, 260, 300),
        (2400, 3000, 2700, 2400),
        (60, 20, 60, 50),
        (420, 330, 600, 540),
        (340, 120, 500, 420),
        (1500, 600, 2400, 900),
        (90, 240, 60, 180),
        (60, 25, 60, 40),
        (900, 1200, 600, 600),
    ),
    np.int64,
)
LONGEST = tuple(int(x) for x in LENGTH.max(axis=1))
DAY_KEY = 0x2545F4914F6CDD1D  # for the salt of a day
CAR_RATE = np.array((0, 2000, 1000, 3000), np.int64)  # 7.2, 3.6 and 10.8 kW


@njit(inline="always")
def _of_day(own, salt):
    """A customer's random bits of a day, for one multiplication: both sides are well mixed before."""
    x = (own ^ salt) * uint64(GOLDEN)
    return x ^ (x >> uint64(32))


@njit(inline="always")
def _turn(day_bits, family, j, part):
    """The turn at which the j-th event of a day begins; `part` is a turn divided by the day's number of events."""
    turned = uint64(7 * j + 11 * family) & uint64(63)
    bits = (day_bits >> turned) | (day_bits << (uint64(64) - turned & uint64(63)))
    return j * part + ((int64(bits & uint64(0xFFFFFF)) * part) >> 24)


@njit(inline="always")
def _second(moments, first, turn):
    """The second of the day of a turn; the day's moments stand in `moments` from `first` on."""
    i, rest = uint64(first + (turn >> STEP_BITS)), turn & ((1 << STEP_BITS) - 1)
    start = int64(moments[i])
    return start + (((int64(moments[i + uint64(1)]) - start) * rest) >> STEP_BITS)


@njit(inline="always")
def _extra(day_bits, family, spread):
    """How many events a day lends from the day before: what makes days differ while their sum stays known."""
    return (int64((day_bits >> uint64(3 * family)) & uint64(255)) * spread) >> 8


@njit(_nrt=False)
def _events_total(own, family, number, spread, stretch, places, at, moments):
    """What the events of a family have used up to the place that stands in `places` from `at` on."""
    day, second = int64(places[at + DAY]), int64(places[at + SECOND])
    today, tomorrow = _of_day(own, mix(DAY_KEY, day)), _of_day(own, mix(DAY_KEY, day + 1))
    lent = _extra(today, family, spread)
    events = number + _extra(tomorrow, family, spread) - lent
    before = number * day + lent
    j = (int64(places[at + TURN]) * events) >> 24
    first = max(j - 1, 0)
    done = before + first
    round_, total = int64(0), int64(0)
    for kind in range(4):
        one = RATE[family, kind] * ((LENGTH[family, kind] * stretch) >> 6)
        round_ += one
        if kind < (done & 3):
            total += one
    total += (done >> 2) * round_
    for i in range(first, min(j + 1, events)):
        begin = _second(moments, int64(places[at + MOMENTS]), _turn(today, family, i, PARTS[events]))
        kind = (before + i) & 3
        total += RATE[family, kind] * max(min(second - begin, (LENGTH[family, kind] * stretch) >> 6), 0)
    return total


@njit(inline="always")
def _events(own, today, tomorrow, family, number, spread, stretch, places_a, places_b, at, moments):
    """(what the events of a family use between two places, the second of the day until which it stays at none).

    `today` and `tomorrow` are the customer's random bits of the days; the second is 0 where events are under way.
    """
    lent = _extra(today, family, spread)
    events = number + _extra(tomorrow, family, spread) - lent
    turn_a, turn_b = int64(places_a[at + TURN]), int64(places_b[at + TURN])
    j = (turn_a * events) >> 24
    if j != (turn_b * events) >> 24 or places_a[at + DAY] != places_b[at + DAY]:
        after = _events_total(own, family, number, spread, stretch, places_b, at, moments)
        return after - _events_total(own, family, number, spread, stretch, places_a, at, moments), int64(0)
    # The usual case, a short slice: at most the event of this part of the day and the one before run in it.
    first, part = number * int64(places_a[at + DAY]) + lent, PARTS[events]
    earlier, later = _turn(today, family, j - 1, part), _turn(today, family, j, part)
    before = int64(places_a[at + BEFORE])
    # One rare branch instead of several even ones. (j - 1 may be -1: its turn is below 0 and so never after `before`.)
    ran_before, runs = (earlier > before) & (earlier <= turn_b), (later > before) & (later <= turn_b)
    if (ran_before | runs) & (events > 0):
        used = int64(0)
        if ran_before:
            used += _used(family, first + j - 1, earlier, stretch, places_a, places_b, at, moments)
        if runs:
            used += _used(family, first + j, later, stretch, places_a, places_b, at, moments)
        return used, int64(0)
    if j + 1 >= events and (later <= before or events == 0):
        return int64(0), int64(86_400)
    # Until the event of this part of the day, or once that is over until the next part.
    return int64(0), _second(moments, int64(places_a[at + MOMENTS]), later if later > before else (j + 1) * part)


@njit(inline="always")
def _used(family, which, turn, stretch, places_a, places_b, at, moments):
    """What the `which`-th event of a family, which begins at `turn` of the places' day, uses between them."""
    begin = _second(moments, int64(places_a[at + MOMENTS]), turn)
    length = (LENGTH[family, which & 3] * stretch) >> 6
    a = max(min(int64(places_a[at + SECOND]) - begin, length), 0)
    return RATE[family, which & 3] * (max(min(int64(places_b[at + SECOND]) - begin, length), 0) - a)


@njit(inline="always")
def _car(own, charger, day, second):
    """What a car has been charged with until a second after noon: every one to three nights, from late in the
    evening.
    """
    nights = 1 + int64((own >> uint64(50)) & uint64(1)) + int64((own >> uint64(51)) & uint64(1))
    length = 6000 + int64((own >> uint64(40)) & uint64(1023)) * 9
    count = day + nights + int64((own >> uint64(52)) & uint64(3))
    total = (count + nights - 1) // nights * length
    if count % nights == 0:
        total += max(min(second - 34_200 - int64((mix(own, day) >> uint64(36)) & uint64(0xFFF)) * 3, length), 0)
    return total * CAR_RATE[charger]


@njit(inline="always")
def _smooth(block, own, word, table):
    """The running total of the smooth parts of a customer's use, in 65536ths of a thousandth of the base unit."""
    size, kind = field(word, 0, 16), field(word, 20, 3)
    series, cycle = int64(own & uint64(HOME_SERIES - 1)), int64((own >> uint64(8)) & uint64(CYCLES - 1))
    if block == ELECTRICITY:
        cold = (field(word, 51, 7) << 2) * table[FRIDGE + int64((own >> uint64(54)) & uint64(CYCLES - 1))]
        if kind == 0:
            total = cold + size * table[HOME + field(word, 16, 4) * HOME_SERIES + series]
            return (
                total
                + (field(word, 25, 7) << 3) * table[COOLING + cycle]
                + (field(word, 32, 7) << 3) * table[WARMING + cycle]
            )
        return cold + size * table[FIRM + kind * HOME_SERIES + series]
    if block == GAS:
        if kind == 0:
            return (field(word, 42, 9) << 1) * table[BOILER + cycle]
        return size * table[FIRM_GAS + kind * SERIES + (series & (SERIES - 1))]
    if block == WATER:
        return int64(0) if kind == 0 else size * table[FIRM_WATER + kind * SERIES + (series & (SERIES - 1))]
    panels = (700 + int64((own >> uint64(20)) & uint64(2047))) * (1 if kind == 0 else 3)  # 256ths of a kW
    return panels * table[SUN + (cycle & (CLOUDS - 1))]


@njit(inline="always")
def _pieces(block, own, word):
    """((family, number, spread, power, row of places) twice, stretch): what happens in events at a customer."""
    kind, people = field(word, 20, 3), field(word, 39, 3)
    stretch = 44 + int64((own >> uint64(24)) & uint64(15)) + 5 * int64((own >> uint64(28)) & uint64(1))
    none = (0, 0, 0, 0, 0)
    if kind == 0:
        if block == ELECTRICITY:
            return (KETTLE, 5 + people, 4, 1, 0), (MACHINE, 1 + people // 2, 1, 1, 1), stretch
        if block == GAS:
            boiler = 1 + people if (own >> uint64(30)) & uint64(3) != 0 else 0
            return (HOT_WATER, boiler, min(2, boiler), 1, 3), (COOKING, 1 + people // 3, 1, 1, 4), stretch
        return (TAP, 6 + 7 * people, 8, 1, 2), (SHOWER, 1 + people, 2, 1, 3), stretch
    power = 1 + (field(word, 0, 16) >> 11)
    if block == ELECTRICITY:
        return (FIRM_MACHINE, 6 + 3 * people, 4, power, 4 + kind), none, stretch
    if block == GAS:
        return (FIRM_COOKING, 8 + 2 * people if kind == 3 or kind == 4 else 0, 0, power, 4 + kind), none, stretch
    return (FIRM_TAP, 20 + 10 * people, 12, 1, 4 + kind), none, stretch


# Without numba's reference counts, which it would otherwise keep of every array for every reading: half of the time.
@njit(cache=True, nogil=True, _nrt=False)
def fill(
    out, rows, channels, blocks, members, traits, quiet, households, key,
    table_a, table_b, places_a, places_b, salts, moments,
):  # fmt: skip
    """out[i] for rows i (all if rows is empty): the quantity of channels[i] between instant a and instant b.

    blocks int64[9] are the first dense indices of the eight blocks and the end; members uint32[] the customers behind
    those of the blocks from SOLAR on, one after the other. A register's and a gauge's quantity is its value at instant
    a. salts uint64[2 * shifts] are those of instant a's day and the next at each lateness.

    quiet uint64[channels before SOLAR] only saves time: the span (from << 32 | until, seconds) in which a channel was
    found to have no event. A word is written whole, so threads may share it; what it says is true whoever wrote it.
    """
    n = len(rows) if len(rows) else len(channels)
    from_, to = table_a[EVENING] * 86_400 + table_a[EVENING + 1], table_b[EVENING] * 86_400 + table_b[EVENING + 1]
    for r in range(n):
        i = int64(rows[r]) if len(rows) else r
        channel = int64(channels[i])
        block = 0
        while channel >= blocks[block + 1]:
            block += 1
        customer = channel - blocks[block]
        silent = False
        if block >= SOLAR:
            customer = int64(members[channel - blocks[SOLAR]])
        else:
            span = quiet[channel]
            silent = (int64(span >> uint64(32)) <= from_) & (to <= int64(span & uint64(0xFFFFFFFF)))
            if silent and block == WATER and customer < households:
                out[i] = 0
                continue
        word, own = traits[customer], mix(key, customer)
        if block == VOLTAGE:
            out[i] = _volts(own, from_, table_a)
            continue
        if block >= REGISTER_E:
            out[i] = _index(block - REGISTER_E, own, word, table_a, places_a, moments)
            continue
        used = (_smooth(block, own, word, table_b) >> 16) - (_smooth(block, own, word, table_a) >> 16)
        if block < SOLAR and not silent:
            shift = field(word, 16, 4)
            today, tomorrow = _of_day(own, salts[2 * shift]), _of_day(own, salts[2 * shift + 1])
            at = uint64(shift * PLACE)
            (f, number, spread, power, row), two, stretch = _pieces(block, own, word)
            place = at + uint64(row * SHIFTS * PLACE)
            use, until = _events(own, today, tomorrow, f, number, spread, stretch, places_a, places_b, place, moments)
            used += power * use
            f, number, spread, power, row = two
            place = at + uint64(row * SHIFTS * PLACE)
            use, until_two = _events(
                own, today, tomorrow, f, number, spread, stretch, places_a, places_b, place, moments
            )
            used += power * use
            left = min(until, until_two) - int64(places_a[at + SECOND])
            if left > to - from_:
                quiet[channel] = uint64(from_) << uint64(32) | uint64(from_ + left)
        charger = field(word, 23, 2)
        if block == ELECTRICITY and charger > 0:
            used += _car(own, charger, table_b[EVENING], table_b[EVENING + 1]) - _car(
                own, charger, table_a[EVENING], table_a[EVENING + 1]
            )
        out[i] = used


@njit(inline="always")
def _volts(own, seconds, table):
    """mV at a customer: the transformer's, more or less by the cable to it, and flicker."""
    flicker = int64(mix(own, seconds) >> uint64(54)) - 512
    cable = int64((own >> uint64(32)) & uint64(2047)) - 1024
    return table[VOLTS + int64((own >> uint64(8)) & uint64(CLOUDS - 1))] + cable + flicker // 2


@njit(_nrt=False)
def _index(block, own, word, table, places, moments):
    """The index of a register: all that the customer has used since 2010."""
    total = _smooth(block, own, word, table) >> 16
    shift = field(word, 16, 4)
    one, two, stretch = _pieces(block, own, word)
    f, number, spread, power, place = one
    if number > 0:
        total += power * _events_total(
            own, f, number, spread, stretch, places, (place * SHIFTS + shift) * PLACE, moments
        )
    f, number, spread, power, place = two
    if number > 0:
        total += power * _events_total(
            own, f, number, spread, stretch, places, (place * SHIFTS + shift) * PLACE, moments
        )
    charger = field(word, 23, 2)
    if block == ELECTRICITY and charger > 0:
        total += _car(own, charger, table[EVENING], table[EVENING + 1])
    return total
