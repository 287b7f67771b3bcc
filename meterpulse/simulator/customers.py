"""What is particular about a customer, in one 64-bit word each: size, rhythm, equipment. Drawn from the seed and the
borough.
"""

from __future__ import annotations

import numpy as np
from numba import int64, njit, uint64

from meterpulse.simulator.chance import mix

# field: lowest bit, bits
SIZE = (0, 16)  # 256ths: of a household's or a business's usual base use
SHIFT = (16, 4)  # how late they are, see load.SHIFT_SECONDS
KIND = (20, 3)  # habits.KINDS
CAR = (23, 2)  # 0 none, else an electric car and its charger
COOL = (25, 7)  # 32nds of a usual air conditioner
WARM = (32, 7)  # 32nds of a usual electric heating
PEOPLE = (39, 3)
BOILER = (42, 9)  # 128ths of a usual gas heating
COLD = (51, 7)  # 64ths of a usual refrigerator

# 64 quantiles of a log-normal (sigma 0.5) whose mean is 256
SPREAD = np.array(
    (
        68,
        84,
        94,
        102,
        108,
        114,
        120,
        125,
        130,
        135,
        139,
        143,
        148,
        152,
        156,
        160,
        164,
        168,
        172,
        176,
        179,
        183,
        187,
        191,
        195,
        199,
    )
    + (
        203,
        207,
        212,
        216,
        220,
        224,
        229,
        233,
        238,
        243,
        248,
        253,
        258,
        263,
        269,
        274,
        280,
        286,
        293,
        299,
        306,
        314,
        321,
        330,
        339,
    )
    + (348, 358, 370, 382, 395, 411, 428, 449, 473, 505, 547, 612, 759),
    np.int64,
)
PEOPLE_OF_100 = np.repeat(np.arange(1, 6), (32, 31, 16, 13, 8))  # households by size, New York
KIND_OF_100 = np.repeat(np.arange(1, 7), (22, 34, 20, 8, 5, 11))  # businesses
KIND_SIZE = np.array((0, 1500, 900, 1500, 5200, 4600, 2900), np.int64)  # 256ths, the usual size of a kind
HOUSEHOLD_SIZE = 212  # 256ths of a kilowatt: calibrated so that a household averages 901 kWh a month
BOROUGH_SIZE = {"Manhattan": 220, "Brooklyn": 250, "Queens": 272, "Bronx": 244, "Staten Island": 350}  # 256ths, homes


@njit(inline="always")
def field(word, low, bits):
    """One field of a word as int64."""
    return int64((word >> uint64(low)) & uint64((1 << bits) - 1))


@njit(inline="always")
def _draw(bits, limit):
    """int64 in [0, limit) from the upper half of a hash."""
    return int64(((bits >> uint64(32)) * uint64(limit)) >> uint64(32))


@njit(cache=True, nogil=True)
def draw(key, first, households, size_of_area, area, electric_cars, out):
    """Fill out uint64[n] for customers first, first + 1, ...: households come first. electric_cars is a share in
    65536ths.
    """
    for i in range(len(out)):
        customer = first + i
        own = mix(key, customer)
        a, b, c = mix(own, 1), mix(own, 2), mix(own, 3)
        many = SPREAD[int64(a & uint64(63))]
        half = (a >> uint64(6)) & uint64(127)
        cold = 40 + (int64((a >> uint64(14)) & uint64(255)) * 40 >> 8)
        if customer < households:
            people = PEOPLE_OF_100[_draw(b, 100)]
            home = size_of_area[area[i]]
            size = min(HOUSEHOLD_SIZE * many * home * (140 + 50 * people) >> 24, 800)
            shift = 8 + (_draw(c, 9) + _draw(mix(own, 4), 9) - 8) * 7 // 8
            car = 1 + _draw(mix(own, 5), 3) if int64(mix(own, 6) >> uint64(48)) < electric_cars else 0
            cool = (
                0
                if b & uint64(7) == 0
                else min((10 + int64(half) * 44 // 128) * home * (300 + 20 * people) // 90_000, 80)
            )
            warm = 16 + int64(half) * 40 // 128 if (b >> uint64(3)) & uint64(7) == 0 else 0
            boiler = 0
            if warm == 0 and (b >> uint64(6)) & uint64(3) != 0:
                boiler = min((70 + int64(half)) * home * many // 65_536, 320)
            kind = 0
        else:
            kind = KIND_OF_100[_draw(b, 100)]
            people, car, warm, cool, boiler = 1 + _draw(mix(own, 5), 5), 0, 0, 0, 0
            size = min(KIND_SIZE[kind] * (many * many >> 8) * 200 >> 16, 20_000)
            shift = 6 + _draw(c, 5)
        word = uint64(size) | uint64(shift) << uint64(16) | uint64(kind) << uint64(20) | uint64(car) << uint64(23)
        word |= uint64(cool) << uint64(25) | uint64(warm) << uint64(32) | uint64(people) << uint64(39)
        out[i] = word | uint64(boiler) << uint64(42) | uint64(cold) << uint64(51)
