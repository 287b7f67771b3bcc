"""Who is measured, where, with what: channels, usage points, customers, meters and areas, with effective dates.

A channel has a text id and a dense index, given in the order of registration and never reused. Readings, views and
stores know only the index; this folder turns ids into indices and back, at tens of millions a second.

    with Registry.open(directory) as registry:
        registry.add_area("city", kind="city", time_zone="America/New_York")
        registry.add_area("10003", parent="city", time_zone="America/New_York")
        registry.register([Channel("E-0001", "electricity", "kWh", area="10003", time_zone="America/New_York")])
        registry.table.lookup_one("E-0001")     # 0

What is small or dated is in SQL (`schema`), what there is per channel is in array files beside it (`columns`,
`texts`), and one SQL transaction says how much of them counts (`store`): a process may end at any instant, and the
next one opens a registry that holds whole registrations.
"""

from __future__ import annotations

from meterpulse.registry.areas import Area, Areas
from meterpulse.registry.registry import Registered, Registry

__all__ = ["Area", "Areas", "Registered", "Registry"]
