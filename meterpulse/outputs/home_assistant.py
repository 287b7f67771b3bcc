"""Home Assistant: chosen channels as its sensors, by discovery over MQTT.

Each channel is a device. One that is measured in intervals has today's use so far, the last whole hour, and how much flows now;
a register has its index, a gauge its value. What is not known is told as null, and never as 0. The broker itself remembers
what was announced: what it has of ours and is not wanted any more is taken back.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow.compute as pc

from meterpulse.model.channel import NOT_FOUND
from meterpulse.model.quantity import UNITS, Unit
from meterpulse.model.window import HOUR_MS, WINDOW_MS, iso, local_day, local_day_bounds
from meterpulse.mqtt import Address, Link, MqttError, Retained, Will
from meterpulse.outputs import Output
from meterpulse.serving.answers import numbers
from meterpulse.serving.queries import UsageQuery, usage

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_UNACKNOWLEDGED_MAX = 500
_QUIET_SECONDS = 0.5  # without another kept message: these were all
_FRESH_MS = 3 * WINDOW_MS  # what flows now is told of the newest window, unless it is older than that and two intervals
_UNIT_NAMES = {"m3": "m³", "ft3": "ft³", "ccf": "CCF", "kVAh": None, "VAh": None, "therm": None}
_GAUGES = {
    "power": "power",
    "voltage": "voltage",
    "current": "current",
    "reactive power": "reactive_power",
    "apparent power": "apparent_power",
}
_FLOWS = {"W": "power", "L/min": "volume_flow_rate", "m³/h": "volume_flow_rate"}
_TITLES = {"today": "Today", "last_hour": "Last hour", "now": "Now", "total": "Total"}


@dataclass(frozen=True, slots=True)
class Sensor:
    """One number of a channel, as Home Assistant is told of it; `unit` is its name there."""

    key: str
    unit: str | None
    device_class: str | None
    state_class: str | None


class HomeAssistant(Output):
    """See Output; settings in config.HomeAssistant."""

    def __init__(self, settings: Any, pipeline: Pipeline):
        super().__init__(settings, pipeline)
        self._topic = f"{settings.topic}/{settings.node}"
        self._channels: dict[str, dict[str, Any]] = {}
        self._told: dict[str, bytes] = {}
        self._published = 0

    def facts(self) -> dict[str, Any]:
        return {"channels": len(self._channels), "published": self._published}

    def run(self) -> None:
        """See Output."""
        availability = f"{self._topic}/availability"
        link = Link(Address.of(self.settings.url), self.settings, Will(availability, b"offline"))
        try:
            self._told.clear()
            self._channels.clear()
            stale = self._announced(link)
            version = -1
            while not self.stopping.is_set():
                if version != self.pipeline.registry.version:
                    version = self.pipeline.registry.version
                    wanted = self._announce(link)
                    for topic in set(stale) - wanted:
                        self._forget(link, topic, stale.pop(topic))
                self._tell(link)
                self._publish(link, availability, b"online")
                self._wait(link)
            self._publish(link, availability, b"offline")
            self._settle(link, 0)
        finally:
            link.close()

    # -- what is announced -----------------------------------------------------------------------------------------------

    def _announced(self, link: Link) -> dict[str, bytes]:
        """Topic to payload of what the broker has kept of ours."""
        found: dict[str, bytes] = {}
        link.subscribe([f"{self.settings.discovery_prefix}/sensor/{self.settings.node}/+/config"], Retained.always)
        # What comes in several pieces, and our own acknowledgements, make a call return with nothing: it is not the end yet.
        quiet_from = time.monotonic()
        while time.monotonic() < quiet_from + _QUIET_SECONDS:
            messages = link.receive(0.1)
            if not messages:
                continue
            quiet_from = time.monotonic()
            found |= {message.topic: message.payload for message in messages if message.payload}
            link.acknowledge([message.packet_id for message in messages if message.packet_id is not None])
        return found

    def _announce(self, link: Link) -> set[str]:
        """The topics of all sensors that there should be."""
        topics: set[str] = set()
        self._channels = dict(self._chosen())
        for channel in self._channels.values():
            for sensor in sensors(channel):
                topic = self._config_topic(channel["id"], sensor.key)
                topics.add(topic)
                self._publish(link, topic, orjson.dumps(self._config(channel, sensor)))
        return topics

    def _chosen(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The channels that the patterns name, up to the limit."""
        p, left = self.pipeline, self.settings.max_channels
        for pattern in self.settings.channels:
            for id in self._ids(pattern):
                if left == 0:
                    return
                if (channel := p.registry.channel(id)) is not None:
                    left -= 1
                    yield id, channel

    def _ids(self, pattern: str) -> Iterator[str]:
        if not {"*", "?"} & set(pattern):
            if self.pipeline.registry.table.lookup_one(pattern) != NOT_FOUND:
                yield pattern
            return
        like = re.sub(r"([%_\\])", r"\\\1", pattern).replace("*", "%").replace("?", "_")
        for batch in self.pipeline.registry.channel_batches():
            ids = batch.column("id")
            yield from ids.filter(pc.match_like(ids, like)).to_pylist()

    def _config_topic(self, id: str, key: str) -> str:
        return f"{self.settings.discovery_prefix}/sensor/{self.settings.node}/{slug(id)}_{key}/config"

    def _state_topic(self, id: str) -> str:
        return f"{self._topic}/{slug(id)}/state"

    def _config(self, channel: Mapping[str, Any], sensor: Sensor) -> dict[str, Any]:
        node, name = self.settings.node, slug(channel["id"])
        device = {
            "identifiers": [f"{node}_{name}"],
            "name": f"{channel['utility']} {channel['id']}",
            "manufacturer": "meterpulse",
            "model": f"{channel['direction']} {channel['kind']}",
            "serial_number": channel.get("meter"),
            "suggested_area": channel.get("area"),
        }
        what = {
            "name": _TITLES[sensor.key],
            "unique_id": f"{node}_{name}_{sensor.key}",
            "state_topic": self._state_topic(channel["id"]),
            "value_template": f"{{{{ value_json.{sensor.key} }}}}",
            "json_attributes_topic": self._state_topic(channel["id"]),
            "json_attributes_template": "{{ {'fresh_until': value_json.fresh_until, 'newest': value_json.newest} | tojson }}",
            "unit_of_measurement": sensor.unit,
            "device_class": sensor.device_class,
            "state_class": sensor.state_class,
            "availability_topic": f"{self._topic}/availability",
            "device": {key: value for key, value in device.items() if value is not None},
            "origin": {"name": "meterpulse"},
        }
        return {key: value for key, value in what.items() if value is not None}

    def _forget(self, link: Link, topic: str, payload: bytes) -> None:
        """Nothing, kept, is how an announcement is taken back; and the state with the last of its sensors."""
        self._publish(link, topic, b"")
        try:
            state = orjson.loads(payload).get("state_topic", "")
        except (ValueError, AttributeError):
            return
        if state.startswith(self._topic + "/") and state not in {self._state_topic(id) for id in self._channels}:
            self._publish(link, state, b"")

    # -- what is told ----------------------------------------------------------------------------------------------------

    def _tell(self, link: Link) -> None:
        for id, channel in self._channels.items():
            if self.stopping.is_set():
                return
            self._publish(link, self._state_topic(id), orjson.dumps(state(self.pipeline, channel)))

    def _publish(self, link: Link, topic: str, payload: bytes) -> None:
        """Kept by the broker; only what is new."""
        if self._told.get(topic) == payload:
            return
        self._settle(link, _UNACKNOWLEDGED_MAX)
        link.publish(topic, payload, retain=True)
        self._told[topic] = payload
        self._published += 1

    def _settle(self, link: Link, most: int) -> None:
        """Waits until the broker has taken all but so many."""
        most = min(most, link.receive_max - 1)
        deadline_ms = self.pipeline.clock() + 30_000
        while link.unacknowledged > most:
            self._hear(link, 0.2)
            if self.pipeline.clock() > deadline_ms:
                raise MqttError("the broker does not acknowledge what we publish")

    def _wait(self, link: Link) -> None:
        left = float(self.settings.every_seconds)
        while left > 0 and not self.stopping.is_set():
            self._hear(link, min(left, 0.5))
            left -= 0.5

    @staticmethod
    def _hear(link: Link, seconds: float) -> None:
        """Our own announcements come back to us; they only want to be acknowledged."""
        link.acknowledge([message.packet_id for message in link.receive(seconds) if message.packet_id is not None])


def slug(id: str) -> str:
    """An id as a level of a topic and in a unique_id: letters, digits, _ and -; what had to be changed gets a mark.

    >>> slug("E-0001"), slug("boiler:energy")
    ('E-0001', 'boiler_energy_100a0c')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", id)
    return plain if plain == id else f"{plain[:100]}_{hashlib.sha256(id.encode()).hexdigest()[:6]}"


def sensors(channel: Mapping[str, Any]) -> list[Sensor]:
    """What is told of a channel (in its public shape)."""
    unit = UNITS[channel["unit"]]
    name = _UNIT_NAMES.get(unit.name, unit.name)
    if channel["kind"] == "gauge":
        return [Sensor("now", name, _GAUGES.get(unit.dimension), "measurement")]
    device_class = _device_class(channel["utility"], unit, name)
    if channel["kind"] == "register":
        return [Sensor("total", name or unit.name, device_class, "total_increasing")]
    found = [
        Sensor("today", name or unit.name, device_class, "total_increasing"),
        Sensor("last_hour", name or unit.name, device_class, None),
    ]
    if (flow := _flow(unit, channel["utility"])) is not None:
        found.append(Sensor("now", flow[0], _FLOWS[flow[0]], "measurement"))
    return found


def _device_class(utility: str, unit: Unit, name: str | None) -> str | None:
    if name is None:
        return None
    if unit.dimension == "volume":
        return utility if utility in ("gas", "water") else None
    return {"energy": "energy", "reactive energy": "reactive_energy"}.get(unit.dimension)


def _flow(unit: Unit, utility: str) -> tuple[str, Unit, int] | None:
    """(Home Assistant's unit, ours with the same thousandths, seconds that a rate is told for)."""
    if unit.dimension == "energy":
        return "W", UNITS["W"], 3_600
    if unit.dimension == "volume":
        return ("m³/h", UNITS["m3"], 3_600) if utility == "gas" else ("L/min", UNITS["L"], 60)
    return None


def state(p: Pipeline, channel: Mapping[str, Any]) -> dict[str, Any]:
    """What a channel's sensors show now; null is what nobody knows."""
    unit, now_ms, kind = UNITS[channel["unit"]], p.clock(), channel["kind"]
    look_ms = max(
        _FRESH_MS, 2 * int(channel["interval_seconds"]) * 1000 + WINDOW_MS
    )  # a long interval is told at its end
    near = usage(p, _query(channel, "5m", now_ms - look_ms, now_ms + WINDOW_MS))
    rows = near.rows
    facts: dict[str, Any] = {
        "fresh_until": near.fresh_until,
        "newest": iso(int(rows.start[-1])) if len(rows.start) else None,
    }
    if kind == "gauge":
        return facts | {"now": _number(int(rows.rows[-1, 4]), unit) if len(rows.start) else None}
    if kind == "register":
        if not len(rows.start):
            rows = usage(p, UsageQuery(channel=channel["id"], grain="1d")).rows
        return facts | {"total": _number(int(rows.rows[-1, 4]), unit) if len(rows.start) else None}
    hour_ms = now_ms // HOUR_MS * HOUR_MS
    low, high = local_day_bounds(channel["time_zone"], local_day(channel["time_zone"], now_ms))
    today = usage(p, _query(channel, "1d", low, high)).rows
    hour = usage(p, _query(channel, "1h", hour_ms - HOUR_MS, hour_ms)).rows
    facts |= {
        "today": _number(int(today.rows[0, 1]), unit) if len(today.start) else None,
        "last_hour": _number(int(hour.rows[0, 1]), unit) if len(hour.start) else None,
    }
    flow = _flow(unit, channel["utility"])
    if flow is None:
        return facts
    rate = None
    if len(rows.start):
        seconds = int(rows.rows[-1, 0]) * int(channel["interval_seconds"])
        rate = _number(round(Fraction(int(rows.rows[-1, 1]) * flow[2], seconds)), flow[1])
    return facts | {"now": rate}


def _query(channel: Mapping[str, Any], grain: str, low_ms: int, high_ms: int) -> UsageQuery:
    return UsageQuery(channel=channel["id"], grain=grain, start=iso(low_ms), end=iso(high_ms))


def _number(quantity: int, unit: Unit) -> Any:
    return numbers(np.array([quantity], np.int64), unit)[0]
