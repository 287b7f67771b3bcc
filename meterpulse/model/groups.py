"""Which totals a channel adds to: one group per area, utility and direction; areas add up to the areas above them.

Only interval channels add up. Group 0 is nobody's.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from meterpulse.model.channel import NO_AREA, ChannelTable, Kind

A_GROUP = 6  # groups per area: three utilities in two directions


def group_index(area: int, utility: int, direction: int = 0) -> int:
    """The group of an area (dense index), a utility and a direction."""
    return 1 + area * A_GROUP + utility * 2 + direction


def groups_of(table: ChannelTable, first: int = 0) -> np.ndarray:
    """uint32[count - first]: the group of each channel from dense index `first` on."""
    p = table.profiles
    part = np.where(p.kind == Kind.interval, p.utility.astype(np.int64) * 2 + p.direction, -1)
    own = part[table.profile[first : table.count]]
    area = np.asarray(table.area[first : table.count])
    group = 1 + area.astype(np.int64) * A_GROUP + own
    group[(own < 0) | (area == NO_AREA)] = 0
    return group.astype(np.uint32)


def fold_up(rows: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Adds to rows int64[groups, steps, 4], which hold what areas have themselves, what lies below them: in place, and returned.

    parents uint32[areas], NO_AREA at the top; cycles are the registry's to refuse. Rows of areas that are younger than `rows`
    are added, or what lies below them would be nobody's.
    """
    if len(rows) < 1 + A_GROUP * len(parents):
        rows = np.concatenate([rows, np.zeros((1 + A_GROUP * len(parents) - len(rows), *rows.shape[1:]), np.int64)])
    depth = np.zeros(len(parents), np.int64)
    for area in range(len(parents)):
        at = int(parents[area])
        while at != NO_AREA:
            depth[area] += 1
            at = int(parents[at])
    deepest_first = np.argsort(-depth, kind="stable")
    _fold_up(rows, parents.astype(np.int64), deepest_first, NO_AREA)
    return rows


@njit(nogil=True, cache=True)
def _fold_up(rows, parents, order, none):
    for area in order:
        parent = parents[area]
        if parent == none:
            continue
        for part in range(6):
            g, to = 1 + area * 6 + part, 1 + parent * 6 + part
            if g >= rows.shape[0] or to >= rows.shape[0]:
                continue
            for s in range(rows.shape[1]):
                row, total = rows[g, s], rows[to, s]
                if row[0] == 0:
                    continue
                if total[0] == 0:
                    total[2], total[3] = row[2], row[3]
                total[0] += row[0]
                total[1] += row[1]
                total[2] = min(total[2], row[2])
                total[3] = max(total[3], row[3])
