"""What the hot path knows of all channels: the model's ChannelTable, as of one moment, over the registry's files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from meterpulse.model.channel import Profiles
from meterpulse.registry.texts import TextView


@dataclass(frozen=True, slots=True)
class Table:
    """The first `count` channels as of one moment; it never changes. A later one comes from `Registry.table`."""

    count: int
    profile: np.ndarray  # uint16[count]
    area: np.ndarray  # uint32[count], NO_AREA where there is none
    profiles: Profiles
    names: TextView

    def lookup(self, offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
        """uint32[n]: dense indices of ids in Arrow's string layout (int32 or int64 offsets[n + 1], bytes), else
        NOT_FOUND."""
        return self.names.find(offsets, data)

    def lookup_one(self, id: str) -> int:
        """The dense index of one id, or NOT_FOUND."""
        return self.names.find_one(id)

    def ids(self, indices: np.ndarray) -> pa.Array:
        """The text ids of dense indices, null for NOT_FOUND; raises IndexError for an index that was not given yet."""
        return self.names.texts(indices)
