"""Validation: `vee rules` says what is judged and how, `vee check` judges what is stored of a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterpulse.cli.options import Csv, Data, Json, Url, city, settings
from meterpulse.cli.output import FINDINGS, put_csv, put_json, put_table, say
from meterpulse.cli.query import End, Start

if TYPE_CHECKING:
    from meterpulse.city import City
    from meterpulse.vee import Findings, Profile, Traits
    from meterpulse.vee.groups import VeeSettings

_HISTORY_DAYS, _YEAR_DAYS, _SEASON_DAYS = 60, 365, 7
_AMOUNTS = (6, 8, 9, 10, 11, 12, 14, 16, 17, 19, 21)  # rules whose evidence is in thousandths of the base unit


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(no_args_is_help=True, help="Validation: which rules there are, and what they find.")
    group.command("rules")(rules)
    group.command("check")(check)
    app.add_typer(group, name="vee")


def rules(
    channel: Annotated[str | None, typer.Option(help="What is in force for this channel instead of defaults.")] = None,
    day: Annotated[str | None, typer.Option(help="With --channel: on this local date (default: today there).")] = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """List the rules with their versions and settings, and the order of estimators."""
    from meterpulse.vee.catalogue import RuleSet
    from meterpulse.vee.catalogue import rules as known
    from meterpulse.vee.estimation import Order

    rule_set, order = RuleSet.of(), Order.of()
    if channel is not None:
        with city(data, url) as place:
            rule_set, order = _in_force(place, channel, _day(day, place.time_zone(channel)), _groups())
    chosen = {rule.id: given.model_dump(mode="json") for rule, given in rule_set.entries}
    rows: list[dict[str, Any]] = [
        {"rule": id, "name": rule.name, "version": rule.version, "on": id in chosen,
         "on_arrival": not rule.needs_history, "settings": chosen.get(id, {})}
        for id, rule in known().items()
    ]  # fmt: skip
    steps: list[dict[str, Any]] = [{"estimator": e.name, "version": e.version, "settings": given.model_dump(mode="json")}
             for e, given in order.entries]  # fmt: skip
    if as_json:
        put_json({"rules_version": rule_set.version, "order_version": order.version, "rules": rows, "order": steps})
        return
    header = ["rule", "name", "version", "on", "settings"]
    put_table([[row[n] if n != "settings" else _words(row[n]) for n in header] for row in rows], header)
    put_table(
        [[s["estimator"], s["version"], _words(s["settings"])] for s in steps], ["estimator", "version", "settings"]
    )


def check(
    channel: Annotated[str, typer.Argument(help="A channel's id.")],
    start: Start = None,
    end: End = None,
    rule: Annotated[str | None, typer.Option(help="Only this rule, as in V10.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Judge what was measured of a channel by the rules in force, without changing anything; exit code 4 with findings."""
    if start is None or end is None:
        raise typer.BadParameter("name the time that is to be judged with --start and --end")
    groups = _groups()
    with city(data, url) as place:
        found = _judged(place, channel, start, end, groups)
    rows = [row for row in found if rule in (None, row["rule"])]
    header = ("rule", "start", "end", "status", "decision", "measured", "limit", "unit")
    if as_json:
        put_json(rows)
    else:
        table = [[row[name] for name in header] for row in rows]
        put_csv(table, header) if as_csv else put_table(table, header)
    if any(row["status"] != "pass" for row in rows):
        raise typer.Exit(FINDINGS)
    say("nothing was found")


def _groups() -> VeeSettings:
    from meterpulse.vee.groups import VeeSettings

    return VeeSettings.of(settings().vee.groups)


def _words(given: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in given.items()) or "-"


def _day(text: str | None, zone: str) -> int:
    import time

    from meterpulse.model.window import day_of_text, local_day

    try:
        return local_day(zone, int(time.time() * 1000)) if text is None else day_of_text(text)
    except ValueError:
        raise typer.BadParameter(f"--day {text!r}: is no date; write it like 2026-03-08") from None


def _traits(place: City, channel: str) -> Traits:
    from decimal import Decimal
    from fractions import Fraction

    from meterpulse.model.channel import CustomerClass, Direction, Kind, Utility
    from meterpulse.model.quantity import unit_of
    from meterpulse.vee import Traits

    of = place.channel(channel)
    if of is None:
        raise typer.BadParameter(f"{channel[:200]!r} is not registered; `meterpulse sql` lists channels")
    return Traits(
        Utility[of["utility"]], Kind[of["kind"]], unit_of(of["unit"]), of["interval_seconds"], Direction[of["direction"]],
        CustomerClass[of["class"]], of["time_zone"], of["digits"], Fraction(Decimal(str(of["multiplier"]))),
    )  # fmt: skip


def _in_force(place: City, channel: str, day: int, groups: VeeSettings) -> tuple[Any, Any]:
    import pyarrow as pa

    [(_, rule_set, order)] = groups.for_channels(_traits(place, channel), 1, lambda: pa.array([channel]), day)
    return rule_set, order


def _judged(place: City, channel: str, start: str, end: str, groups: VeeSettings) -> list[dict[str, Any]]:
    """Findings in words. The rules in force on the last day are used for all of it."""
    from datetime import UTC, datetime, timedelta

    from meterpulse.model.window import DAY_MS, local_day
    from meterpulse.vee import Context
    from meterpulse.vee.runner import judge

    traits = _traits(place, channel)
    low, high = (place.instant_ms(moment, channel) for moment in (start, end))
    if high <= low:
        raise typer.BadParameter("--end is not after --start")

    def at(ms: int) -> str:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat().replace("+00:00", "Z")

    # Local days may begin and end outside of what is judged.
    table = place.intervals(channel, start=at(low - 2 * DAY_MS), end=at(high + DAY_MS))
    profile = _profile(table, traits, low, high)
    if profile is None:
        return []
    last = local_day(traits.zone, high - 1)
    rule_set, _ = _in_force(place, channel, last, groups)
    findings = judge(profile, Context(history=_history(place, channel, traits, low, at)), rule_set).findings
    return list(_shown(findings, profile, at))


def _profile(table: Any, traits: Traits, low: int, high: int) -> Profile | None:
    import numpy as np

    from meterpulse.model.quality import RAW
    from meterpulse.model.quantity import to_thousandths
    from meterpulse.model.window import DAY_MS
    from meterpulse.vee import MISSING, Profile

    if not table.num_rows:
        return None
    step = int(table["seconds"][0].as_py()) * 1000
    base, columns = (low - 2 * DAY_MS) // step * step, (high - low + 3 * DAY_MS) // step + 1
    quantity, quality = np.zeros((1, columns), np.int64), np.full((1, columns), MISSING, np.int32)
    for start, value in zip(table["start"].cast("int64").to_pylist(), table["measured"].to_pylist(), strict=True):
        column = (start - base) // step
        if value is not None and 0 <= column < columns:
            quantity[0, column], quality[0, column] = to_thousandths(value, traits.unit), RAW
    first, after = -(-(low - base) // step), (high - base) // step
    return Profile(traits, np.zeros(1, np.uint32), base, step, quantity, quality, first, max(first, after))


def _history(place: City, channel: str, traits: Traits, low: int, at: Any) -> Any:
    """Whole days of the two months before, and of a fortnight a year ago."""
    import numpy as np

    from meterpulse.model.channel import Kind
    from meterpulse.model.quantity import to_thousandths
    from meterpulse.model.window import DAY_MS, local_day, local_day_bounds
    from meterpulse.vee import UNKNOWN, History

    if traits.kind is not Kind.interval:
        return None
    spans = ((_YEAR_DAYS + _SEASON_DAYS + 1, _YEAR_DAYS - _SEASON_DAYS - 2), (_HISTORY_DAYS + 1, 0))
    days: dict[int, int] = {}
    for begin, end in spans:
        table = place.usage(channel, start=at(low - begin * DAY_MS), end=at(low - end * DAY_MS), grain="1d")
        for start, value, count in zip(
            table["start"].cast("int64").to_pylist(), table["quantity"].to_pylist(), table["count"].to_pylist(), strict=True
        ):  # fmt: skip
            day = local_day(traits.zone, start)
            day_low, day_high = local_day_bounds(traits.zone, day)
            whole = value is not None and count * traits.interval_seconds * 1000 == day_high - day_low
            days[day] = to_thousandths(value, traits.unit) if whole else UNKNOWN
    order = sorted(days)
    return History(np.array(order, np.int32), np.array([[days[day] for day in order]], np.int64))


def _shown(findings: Findings, profile: Profile, at: Any) -> Any:
    from meterpulse.model.quantity import decimal_text
    from meterpulse.vee import Decision, Status

    unit = profile.traits.unit
    for k in range(len(findings)):
        number = int(findings.rule[k])
        is_amount = number in _AMOUNTS
        measured, limit = (
            decimal_text(int(value), unit) if is_amount else str(int(value))
            for value in (findings.measured[k], findings.limit[k])
        )
        yield {
            "rule": f"V{number:02d}",
            "start": at(profile.start_ms + int(findings.first[k]) * profile.step_ms),
            "end": at(profile.start_ms + int(findings.after[k]) * profile.step_ms),
            "status": Status(int(findings.status[k])).name.lower(),
            "decision": Decision(int(findings.decision[k])).name.lower() if findings.decision[k] else None,
            "measured": measured,
            "limit": limit,
            "unit": unit.name if is_amount else None,
        }
