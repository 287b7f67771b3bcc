"""SQL for people: DuckDB over the lake's files, the store's windows and the registry, all handed over as Arrow.

DuckDB itself may touch no file and no network, and its settings are locked before the statement runs. The lake's
files are read by pyarrow, which verifies page checksums. Nothing is written, so it works beside a running server;
windows that are still open in memory are not in it.
"""

from __future__ import annotations

import re
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from meterpulse.cli.windows import DAYS, VIEWS, differing, told, windows
from meterpulse.config import Config
from meterpulse.lake import LakeFile, history
from meterpulse.lake.parts import SCHEMA
from meterpulse.lake.published import published
from meterpulse.model.problem import Problem
from meterpulse.model.quantity import UNITS
from meterpulse.registry import Registry

TABLES = ("readings", "channels", "areas", *VIEWS, "differences", "intervals", history.TABLE)
_QUIET: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


def _exact(thousandths: str, name: str) -> str:
    return f"""case when u.factor is not null then {thousandths}::decimal(28, 0) * u.factor
                    else ({thousandths} / u.scale)::decimal(38, 9) end as {name}"""


_READINGS = f"""
create view readings as
select c.id as channel, r.start, r.seconds, {_exact("r.quantity", "quantity")}, c.unit, r.revision, r.quality
from lake r join channels c on c.index = r.channel join units u on u.unit = c.unit
"""
# Of a local day there may be a part in each of the UTC days that it touches. Registers and gauges do not add up.
_WINDOWS = f"""
create view {{view}} as
select c.id as channel, w.start, {_exact("case when c.kind = 'interval' then w.sum end", "quantity")}, c.unit, w.count,
       {_exact("w.min", "min")}, {_exact("w.max", "max")}, {_exact("w.last", "last")}, w.source
from (select channel, start, sum(count)::bigint as count, sum(sum) as sum, min(min) as min, max(max) as max,
             arg_max(last, part) as last, case when bool_or(batch) then 'batch' else 'speed' end as source
      from {{view}}_parts group by channel, start) w
join channels c on c.index = w.channel join units u on u.unit = c.unit
"""
_DIFFERENCES = f"""
create view differences as
select c.id as channel, d.start, d.minutes, d.cause, d.readings, {_exact("case when c.kind = 'interval' then d.speed end", "speed")},
       {_exact("case when c.kind = 'interval' then d.batch end", "batch")}, c.unit, d.found
from differing d join channels c on c.index = d.channel join units u on u.unit = c.unit
"""
# The record where it says more than "measured, and validated".
_INTERVALS = f"""
create view intervals as
select c.id as channel, i.start, i.seconds, {_exact("i.quantity", "quantity")}, {_exact("i.measured", "measured")}, c.unit,
       i.quality, i.method, i.known_from
from told i join channels c on c.index = i.channel join units u on u.unit = c.unit
"""
# Of one version that a crash made be written twice the later end holds.
_HISTORY = f"""
create view {history.TABLE} as
select c.id as channel, h.start, h.seconds, {_exact("h.quantity", "quantity")}, {_exact("h.measured", "measured")}, c.unit,
       h.quality, h.method, h.known_from, max(h.known_until) over (partition by h.channel, h.start, h.known_from) as known_until
from superseded h join channels c on c.index = h.channel join units u on u.unit = c.unit
qualify row_number() over (partition by h.channel, h.start, h.known_from order by h.known_until desc) = 1
"""


def ask(config: Config, statement: str, days: int | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one select; raises Problem with what DuckDB says.

    `days` is how many of the newest UTC days the usage tables and `intervals` reach back; None takes what each has by default.
    """
    try:
        statements = duckdb.extract_statements(statement)
        if len(statements) != 1 or statements[0].type.name not in ("SELECT", "EXPLAIN"):
            raise Problem(422, "sql", "One select at a time", f"tables are {', '.join(TABLES)}; nothing can be written")
        with duckdb.connect(config=_QUIET) as connection:
            connection.execute("set TimeZone = 'UTC'")
            _provide(connection, config, set(re.findall(r"\w+", statement.lower())), days)
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            table = connection.sql(statement).to_arrow_table()
    except duckdb.Error as error:
        raise Problem(422, "sql", "The statement failed", f"{error}\ntables are {', '.join(TABLES)}") from None
    return table.column_names, list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _provide(connection: duckdb.DuckDBPyConnection, config: Config, words: set[str], days: int | None) -> None:
    """Registers the tables whose names are among the words: a fleet's windows are not gathered for nothing."""
    with Registry.open(config.data / "registry", config.registry.url) as registry:
        views = [view for view in VIEWS if view in words]
        if views or words & {"channels", "readings", "differences", "intervals", history.TABLE}:
            connection.register("channels", registry.channels())
            connection.register("units", _units())
        if "areas" in words:
            connection.register("areas", _areas(registry))
        for view in views:
            connection.register(f"{view}_parts", windows(config, registry, view, days or DAYS[view]))
            connection.execute(_WINDOWS.format(view=view))
        if "intervals" in words:
            connection.register("told", told(config, registry, days or DAYS["intervals"]))
            connection.execute(_INTERVALS)
    if "differences" in words:
        connection.register("differing", differing(config))
        connection.execute(_DIFFERENCES)
    if history.TABLE in words:
        connection.register("superseded", _dataset(history.files_of(config.data / "lake"), history.SCHEMA))
        connection.execute(_HISTORY)
    if "readings" in words:
        connection.register("lake", _dataset(published(config.data / "lake"), SCHEMA))
        connection.execute(_READINGS)


def _dataset(found: list[LakeFile], schema: pa.Schema) -> ds.Dataset | pa.Table:
    files = [file.path for file in found]
    if not files:
        return schema.empty_table()
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.dataset(files, schema=schema, format=ds.ParquetFileFormat(default_fragment_scan_options=options))


def _areas(registry: Registry) -> pa.Table:
    areas = registry.areas
    parents = [None if parent >= len(areas) else areas.names[parent] for parent in areas.parent.tolist()]
    return pa.table(
        {
            "area": pa.array(areas.names, pa.string()),
            "title": pa.array(areas.title, pa.string()),
            "kind": pa.array(areas.kind, pa.string()),
            "parent": pa.array(parents, pa.string()),
            "time_zone": pa.array(areas.time_zone, pa.string()),
        }
    )


def _units() -> pa.Table:
    """What a thousandth of the base unit is in each unit: exact where that has at most nine decimals."""
    from decimal import Decimal

    exact = [Decimal(1) / int(unit.scale) if unit.scale == 10**unit.places else None for unit in UNITS.values()]
    return pa.table(
        {
            "unit": pa.array(list(UNITS), pa.string()),
            "factor": pa.array(exact, pa.decimal128(10, 9)),
            "scale": pa.array([float(unit.scale) for unit in UNITS.values()], pa.float64()),
        }
    )
