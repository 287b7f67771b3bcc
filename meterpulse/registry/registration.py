"""Registering a batch: which rows are new and are added, which are known and change, which are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from meterpulse.model.channel import NO_AREA, NOT_FOUND, ChannelError
from meterpulse.registry.areas import Area
from meterpulse.registry.intake import REFERENCES, Intake
from meterpulse.registry.profiles import profile_of
from meterpulse.registry.store import Store


@dataclass(frozen=True)
class Outcome:
    """`indices` is uint32[rows], NOT_FOUND where a row was refused; `updated` counts accepted rows of known
    channels."""

    indices: np.ndarray
    created: int
    updated: int


def register_batch(store: Store, intake: Intake, at_ms: int | None) -> Outcome:
    """Register the rows that are fine, durably; the others get their reason in `intake.refusals`."""
    indices = store.texts["id"].view().find(intake.id.offsets, intake.id.data)
    references = {
        name: store.texts[name].add(texts.offsets, texts.data, texts.present & intake.fine)
        for name, texts in intake.references.items()
    }
    created = _create(store, intake, references, indices)
    known = intake.fine
    known[created] = False
    updated = 0
    for rows in _rounds(np.flatnonzero(known), indices):
        updated += _update(store, intake, references, rows, indices[rows], at_ms)
    indices[~intake.fine] = NOT_FOUND
    return Outcome(indices, len(created), updated)


def _create(store: Store, intake: Intake, references: dict[str, np.ndarray], indices: np.ndarray) -> np.ndarray:
    """Add the channels that are new; fills their `indices` and returns the rows that made them, one each."""
    told = intake.told
    rows = np.flatnonzero(intake.fine & (indices == NOT_FOUND))
    number = np.zeros(len(told.values), np.uint16)
    wrong: dict[int, str] = {}
    for code in np.unique(told.code[rows]).tolist():
        try:
            number[code] = store.book.number(profile_of(told.values[code]))
        except ChannelError as error:
            wrong[code] = str(error)
    intake.refusals.refuse_choices(rows, told.code[rows], wrong)
    rows = rows[intake.fine[rows]]
    if not len(rows):
        return rows
    wanted = np.zeros(intake.rows, bool)
    wanted[rows] = True
    indices[rows] = store.texts["id"].add(intake.id.offsets, intake.id.data, wanted)[rows]
    # Indices are given in order of appearance: a row made its channel if its index is above all before it.
    highest = np.maximum.accumulate(indices[rows].astype(np.int64))
    rows = rows[np.diff(highest, prepend=-1) > 0]
    profile = number[told.code[rows]]
    values = {"profile": profile, "area": _areas(store, intake, rows, profile)}
    for name in REFERENCES:
        values[name] = references[name][rows] if name in references else np.full(len(rows), NOT_FOUND, np.uint32)
    for name, column in values.items():
        store.columns[name].write(store.count, column)
    store.count += len(rows)
    store.commit()
    return rows


def _areas(store: Store, intake: Intake, rows: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """uint32: the area of each of the rows, NO_AREA where none is told. A name that is not known becomes an area of its
    own, in the time zone of the first channel in it."""
    number = np.full(len(intake.area.values) + 1, NO_AREA, np.uint32)  # the last one is for rows without
    codes, first = np.unique(intake.area.code[rows], return_index=True)
    for place in np.argsort(first):
        code = int(codes[place])
        if code >= 0:
            name = intake.area.values[code]
            area = store.area_number(name)
            if area is None:
                time_zone = store.book.rows[profile[first[place]]].time_zone
                area = store.add_area(Area(name, time_zone=time_zone))
            number[code] = area
    return number[intake.area.code[rows]]


def _rounds(rows: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
    """The rows, in rounds that hold each channel once at most, in order of channels: a channel's later rows come
    later."""
    if not len(rows):
        return []
    rows = rows[np.argsort(indices[rows], kind="stable")]
    same = np.diff(indices[rows].astype(np.int64), prepend=-1) == 0
    places = np.arange(len(rows))
    round_of = places - np.maximum.accumulate(np.where(same, 0, places))
    order = np.argsort(round_of, kind="stable")
    return np.split(rows[order], np.cumsum(np.bincount(round_of))[:-1])


def _update(
    store: Store,
    intake: Intake,
    references: dict[str, np.ndarray],
    rows: np.ndarray,
    channels: np.ndarray,
    at_ms: int | None,
) -> int:
    """Change known channels, each at most once; returns how many rows were accepted."""
    old = store.columns["profile"].view[channels]
    new = _new_profiles(store, intake, rows, old)
    accepted = intake.fine[rows]
    rows, channels, old, new = rows[accepted], channels[accepted], old[accepted], new[accepted]
    told: dict[str, np.ndarray] = {"profile": new}
    if intake.area.values:
        told["area"] = _areas(store, intake, rows, new)
    told |= {name: values[rows] for name, values in references.items()}
    redo = {}
    for name, values in told.items():
        changed = values != store.columns[name].view[channels]
        if name != "profile":
            changed &= values != NOT_FOUND  # null is "not told"
        if changed.any():
            redo[name] = (channels[changed], values[changed])
    if redo:
        history = [
            entry for name, (where, values) in redo.items() for entry in changes(store, name, where, values, at_ms)
        ]
        store.commit(history, _exchanges(store, redo, at_ms), redo)
    return len(rows)


def _new_profiles(store: Store, intake: Intake, rows: np.ndarray, old: np.ndarray) -> np.ndarray:
    """uint16: the profile of each of the rows' channels after what is told; refuses rows that may not change so."""
    told = intake.told
    pairs, place = np.unique(old * np.int64(len(told.values)) + told.code[rows], return_inverse=True)
    number = np.zeros(len(pairs), np.uint16)
    wrong: dict[int, str] = {}
    for i, pair in enumerate(pairs.tolist()):
        registered, code = divmod(pair, len(told.values))
        try:
            number[i] = store.book.number(profile_of(told.values[code], store.book.rows[registered]))
        except ChannelError as error:
            wrong[i] = str(error)
    intake.refusals.refuse_choices(rows, place, wrong)
    return number[place]


def changes(
    store: Store, column: str, channels: np.ndarray, values: np.ndarray, at_ms: int | None
) -> list[dict[str, Any]]:
    """The history entries of channels of which a column is about to get new values."""
    before = store.columns[column].view[channels]
    if column == "profile":
        return [
            {"channel": channel, "at_ms": at_ms, "field": field, "old": _text(was[field]), "new": _text(now)}
            for channel, a, b in zip(channels.tolist(), before.tolist(), values.tolist(), strict=True)
            for was in (store.book.rows[a].fields(),)
            for field, now in store.book.rows[b].fields().items()
            if now != was[field]
        ]
    return [
        {"channel": channel, "at_ms": at_ms, "field": column, "old": a, "new": b}
        for channel, a, b in zip(
            channels.tolist(), _names(store, column, before), _names(store, column, values), strict=True
        )
    ]


def _exchanges(store: Store, redo: dict[str, tuple[np.ndarray, np.ndarray]], at_ms: int | None) -> list[dict[str, Any]]:
    """The meter exchanges in a change: a usage point's channel had a meter and gets another."""
    if "meter" not in redo:
        return []
    channels, meters = redo["meter"]
    points = store.columns["usage_point"].view[channels]
    if "usage_point" in redo:
        moved, there = redo["usage_point"]
        place = np.searchsorted(moved, channels)
        place[place == len(moved)] = 0
        points = np.where(moved[place] == channels, there[place], points)
    before = store.columns["meter"].view[channels]
    exchanged = (before != NOT_FOUND) & (points != NOT_FOUND)
    rows = zip(
        _names(store, "usage_point", points[exchanged]),
        _names(store, "meter", before[exchanged]),
        _names(store, "meter", meters[exchanged]),
        strict=True,
    )
    return [
        {"usage_point": point, "old_meter": old, "new_meter": new, "at_ms": at_ms}
        for point, old, new in dict.fromkeys(rows)
    ]


def _names(store: Store, column: str, values: np.ndarray) -> list[str | None]:
    if column == "area":
        return [None if area == NO_AREA else store.area_rows[area].name for area in values.tolist()]
    return store.texts[column].view().texts(values).to_pylist()


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
