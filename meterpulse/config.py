"""Settings: flags > `METERPULSE_*` > ./meterpulse.toml > defaults. A wrong key or value is refused with what to do.

Every setting has a heading in docs/how-to/configure.md (a test holds that), and its name is the same everywhere:
`speed.watermark_delay_seconds` in text, `[speed] watermark_delay_seconds` in the file, and
`METERPULSE_SPEED__WATERMARK_DELAY_SECONDS` in the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from meterpulse.model import crashpoint
from meterpulse.model.window import zone
from meterpulse.plugins import available

PREFIX = "METERPULSE_"
FILE = "meterpulse.toml"
DAY_MS = 86_400_000
_UNITS_MS = {"h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS, "y": 365 * DAY_MS}


class ConfigError(ValueError):
    """A setting that cannot be used: which one, where it came from, and what it takes."""


def engine_of(folder: str) -> AfterValidator:
    """Accepts the names of the plugins of a folder."""

    def check(name: str) -> str:
        if name not in available(folder):
            raise ValueError(f"no such engine; built in: {', '.join(available(folder)) or 'none'}")
        return name

    return AfterValidator(check)


def keep_ms(text: str) -> int | None:
    """Milliseconds of `36h`, `30d`, `8w` or `2y` (of 365 days); None for `forever`. Raises ValueError."""
    number, unit = text[:-1], text[-1:]
    if text == "forever":
        return None
    if not (number.isdecimal() and int(number) > 0 and unit in _UNITS_MS):
        raise ValueError("takes a time such as 36h, 30d, 8w or 2y, or the word forever")
    return int(number) * _UNITS_MS[unit]


def _is_keep(text: str) -> str:
    keep_ms(text)
    return text


Keep = Annotated[str, AfterValidator(_is_keep)]


def secret_of(secret: SecretStr | None, file: Path | None) -> str | None:
    """A secret given as a setting (best in the environment), else the first line of its file. Raises OSError."""
    if secret is not None:
        return secret.get_secret_value()
    return None if file is None else file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")


def _is_broker(url: str | None) -> str | None:
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/"):
            raise ValueError("takes mqtt://host, mqtt://host:1883, or mqtts://host:8883 for TLS")
        if "@" in parts.netloc:
            raise ValueError(
                "takes no user and password: username, and password or password_file, are settings beside it"
            )
    return url


def _is_zone(name: str) -> str:
    zone(name)
    return name


class Section(BaseModel):
    """A frozen group of settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(Section):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: int = Field(8321, ge=0, le=65_535)
    max_body_bytes: int = Field(64 << 20, ge=1024, le=1 << 30)
    max_waiting_bytes: int = Field(256 << 20, ge=1 << 20)
    shutdown_seconds: float = Field(2.0, gt=0, le=60)
    areas_geojson: Path | None = None


class Kafka(Section):
    """How to reach a Kafka cluster. Secrets are in the file of client properties."""

    servers: str | None = None
    client_properties: Path | None = None
    sasl_password: SecretStr | None = None

    @property
    def is_on(self) -> bool:
        """Whether there are brokers to reach."""
        return self.servers is not None


class LogKafka(Kafka):
    """The log in Kafka."""

    topic_prefix: str = Field("meterpulse", pattern=r"^[a-zA-Z0-9._-]{1,200}$")
    replication_factor: int = Field(3, ge=1, le=3)
    min_insync_replicas: int = Field(2, ge=1, le=3)
    timeout_seconds: int = Field(60, ge=5, le=600)


class Log(Section):
    """The durable log."""

    engine: Annotated[str, engine_of("log")] = "lmdb"
    max_bytes: int = Field(64 << 30, ge=16 << 20)
    kafka: LogKafka = LogKafka()


class Speed(Section):
    """The views that answer now."""

    engine: Annotated[str, engine_of("speed")] = "embedded"
    watermark_delay_seconds: int = Field(10, ge=0, le=86_400)
    allowed_lateness_seconds: int = Field(600, ge=0, le=604_800)
    idle_seconds: int = Field(5, ge=1, le=86_400)
    max_open_bytes: int = Field(6 << 30, ge=16 << 20)
    max_lag_readings: int = Field(100_000_000, ge=10_000)
    checkpoint_seconds: int = Field(60, ge=1, le=3600)


class Lake(Section):
    """The master data."""

    engine: Annotated[str, engine_of("lake")] = "delta"
    commit_seconds: int = Field(10, ge=1, le=3600)


def _is_clock(text: str) -> str:
    if text != "off" and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError("takes a time of day such as 02:30, or the word off")
    return text


class Batch(Section):
    """The rebuild of dirty days, and of the newest days every night."""

    engine: Annotated[str, engine_of("batch")] = "embedded"
    quiet_seconds: int = Field(2, ge=0, le=3600)
    threads: int = Field(2, ge=1, le=64)
    max_bytes: int = Field(2 << 30, ge=16 << 20)
    nightly: Annotated[str, AfterValidator(_is_clock)] = "02:30"
    nightly_days: int = Field(2, ge=1, le=400)
    zone: Annotated[str, AfterValidator(_is_zone)] = "UTC"


class VeeGroup(Section):
    """What is judged and estimated otherwise than by default, for the channels that fit all of its conditions."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(min_length=1, max_length=100)
    priority: int = Field(0, ge=-1000, le=1000)
    utilities: tuple[Literal["electricity", "gas", "water"], ...] = ()
    classes: tuple[Literal["household", "business"], ...] = ()
    channels: tuple[str, ...] = ()
    from_: date | None = Field(None, alias="from")
    until: date | None = None
    rules: dict[str, dict[str, Any]] = {}
    arrival: bool | None = None
    order: tuple[str, ...] | None = None
    estimators: dict[str, dict[str, Any]] = {}


class Vee(Section):
    """Validation, estimation, editing: the record of effective values."""

    record: bool = True
    groups: tuple[VeeGroup, ...] = ()


class Stores(Section):
    """Where closed windows wait to be read."""

    engine: Annotated[str, engine_of("stores")] = "lmdb"
    max_bytes: int = Field(256 << 30, ge=16 << 20)


class Registry(Section):
    """Customers, usage points, meters, channels and areas."""

    url: str | None = None


class Broker(Section):
    """An MQTT broker and who we are to it."""

    url: Annotated[str | None, AfterValidator(_is_broker)] = None
    client_id: str = Field("meterpulse", min_length=1, max_length=200)
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    keep_alive_seconds: int = Field(30, ge=1, le=3600)
    session_seconds: int = Field(604_800, ge=0, le=4_294_967_294)
    max_message_bytes: int = Field(1 << 20, ge=1024, le=64 << 20)

    @property
    def is_on(self) -> bool:
        """Whether there is a broker to talk to."""
        return self.url is not None

    def secret(self) -> str | None:
        """The password: the setting, else what the file holds. Raises OSError."""
        return secret_of(self.password, self.password_file)


class Mqtt(Broker):
    """Readings from an MQTT broker."""

    topics: tuple[str, ...] = ("meterpulse/readings/#",)
    dialects: tuple[str, ...] = ()
    unknown_channels: Literal["quarantine", "register"] = "quarantine"
    time_zone: Annotated[str, AfterValidator(_is_zone)] = "UTC"


class IngestKafka(Kafka):
    """Readings from topics of a Kafka cluster."""

    topics: tuple[str, ...] = Field(("electricity", "gas", "water"), min_length=1)
    group: str = Field("meterpulse", min_length=1, max_length=100)
    start: Literal["earliest", "latest"] = "earliest"
    unknown_channels: Literal["quarantine", "register"] = "quarantine"
    time_zone: Annotated[str, AfterValidator(_is_zone)] = "UTC"
    avro_schema: Path | None = None
    quarantine_topic: str | None = Field(None, pattern=r"^[a-zA-Z0-9._-]{1,249}$")


def _is_p1(url: str | None) -> str | None:
    if url is not None:
        parts = urlsplit(url)
        is_tcp = parts.scheme == "tcp" and parts.hostname and parts.port and not parts.path.strip("/")
        if not is_tcp and not (parts.scheme == "serial" and not parts.netloc and parts.path.startswith("/")):
            raise ValueError("takes tcp://host:port of a gateway, or serial:///dev/ttyUSB0")
    return url


class P1(Section):
    """The customer port of one meter."""

    url: Annotated[str | None, AfterValidator(_is_p1)] = None
    baud: Literal[115_200, 9_600] = 115_200
    unknown_channels: Literal["quarantine", "register"] = "register"

    @property
    def is_on(self) -> bool:
        """Whether there is a port to read."""
        return self.url is not None


class Ingest(Section):
    """Where readings come from besides HTTP: one section per source."""

    kafka: IngestKafka = IngestKafka()
    mqtt: Mqtt = Mqtt()
    p1: P1 = P1()


class HomeAssistant(Broker):
    """Channels as sensors of Home Assistant, through its MQTT broker."""

    client_id: str = Field("meterpulse-home-assistant", min_length=1, max_length=200)
    session_seconds: int = Field(0, ge=0, le=4_294_967_294)
    channels: tuple[str, ...] = ()
    max_channels: int = Field(1_000, ge=1, le=100_000)
    every_seconds: int = Field(30, ge=1, le=86_400)
    discovery_prefix: str = Field("homeassistant", pattern=r"^[^#+/\s][^#+\s]{0,99}$")
    topic: str = Field("meterpulse/home_assistant", pattern=r"^[^#+/\s][^#+\s]{0,99}$")
    node: str = Field("meterpulse", pattern=r"^[a-zA-Z0-9_-]{1,64}$")


View = Literal["usage_5m", "usage_1h", "area_1m", "area_1h"]


class OutputsKafka(Kafka):
    """Closed windows as messages in topics of a Kafka cluster."""

    views: tuple[View, ...] = Field(("usage_5m", "usage_1h", "area_1m", "area_1h"), min_length=1)
    topic_prefix: str = Field("views", pattern=r"^[a-zA-Z0-9._-]{1,200}$")
    format: Literal["json", "arrow"] = "json"
    partitions: int = Field(3, ge=1, le=1000)
    replication_factor: int = Field(3, ge=1, le=3)
    timeout_seconds: int = Field(60, ge=5, le=600)


class Outputs(Section):
    """What the city tells others: one section per output."""

    kafka: OutputsKafka = OutputsKafka()
    home_assistant: HomeAssistant = HomeAssistant()


class Worklist(Section):
    """Exceptions and edits. What a unit is worth puts exceptions of different utilities in one order; it is no price."""

    url: str | None = None
    worth_kwh: float = Field(0.25, ge=0, le=1e6)
    worth_gas_m3: float = Field(1.0, ge=0, le=1e6)
    worth_water_m3: float = Field(3.0, ge=0, le=1e6)


class Retention(Section):
    """How long each table is kept."""

    readings: Keep = "forever"
    quarantine: Keep = "90d"
    differences: Keep = "2y"
    intervals_history: Keep = "forever"
    usage_5m: Keep = "30d"
    usage_1h: Keep = "forever"
    usage_1d: Keep = "forever"
    area_1m: Keep = "30d"
    area_1h: Keep = "forever"
    area_1d: Keep = "forever"

    def keep_ms(self, table: str) -> int | None:
        """Milliseconds that `table` is kept, None for ever."""
        return keep_ms(getattr(self, table))


class Demo(Section):
    """The demo city."""

    enabled: bool = True
    households: int = Field(10_000, ge=1, le=10_000_000)
    seed: int = Field(1, ge=0, lt=1 << 63)
    heartbeat_seconds: int = Field(5, ge=1, le=3600)
    history_days: int = Field(1, ge=0, le=400)
    keep_readings: Keep = "3d"


class Config(BaseSettings):
    """All settings, frozen. Made by `load`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    data: Path = Path("meterpulse-data")
    server: Server = Server()
    log: Log = Log()
    speed: Speed = Speed()
    lake: Lake = Lake()
    batch: Batch = Batch()
    vee: Vee = Vee()
    stores: Stores = Stores()
    registry: Registry = Registry()
    worklist: Worklist = Worklist()
    retention: Retention = Retention()
    ingest: Ingest = Ingest()
    outputs: Outputs = Outputs()
    demo: Demo = Demo()

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, **_):  # type: ignore[override]
        """Only what `load` has put together: it reads the sources itself, to remember where each value came from."""
        return (init_settings,)


def load(flags: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> Config:
    """The effective settings. `flags` is nested like the file; None means "not given". Raises ConfigError.

    >>> load({"server": {"port": 9000}}).server.port
    9000
    """
    return load_with_origins(flags, folder=folder)[0]


def load_with_origins(
    flags: Mapping[str, Any] | None = None, *, folder: Path | None = None
) -> tuple[Config, dict[str, str]]:
    """The effective settings, and for each dotted name where its value came from."""
    origins: dict[str, str] = {}
    values: dict[str, Any] = {}
    for layer, origin_of in (
        (_file(folder or Path.cwd()), _in_file),
        (_environment(), _in_environment),
        (flags or {}, _in_flags),
    ):
        for name, value in _flat(layer):
            _put(values, name, value)
            origins[name] = origin_of(name)
    try:
        config = Config(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, origins) for problem in error.errors())) from None
    return config, {name: origins.get(name, "default") for name, _ in settings(config)}


def settings(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as (dotted name, value), in the order of declaration."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _in_file(name: str) -> str:
    return FILE


def _in_environment(name: str) -> str:
    return PREFIX + name.upper().replace(".", "__")


def _in_flags(name: str) -> str:
    return "command line"


def _file(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; mend or remove it") from None


def _environment() -> dict[str, Any]:
    found = EnvSettingsSource(Config)()
    known = {_in_environment(name) for name in [*Config.model_fields, *(name for name, _ in settings(Config()))]}
    known.add(crashpoint.VARIABLE)  # no setting: for tests that kill
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(f"{name}: no such setting{_near(name, known)}; `meterpulse config show` lists them")
    return found


def _flat(layer: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in layer.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{section} = {inner!r}: is a section; write [{section}] and settings below it")
        values = inner
    values[last] = value


def _explain(problem: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    where = origins.get(name, "") or origins.get(".".join(str(part) for part in problem["loc"][:2]), "")
    place = f" (from {where})" if where and where != "default" else ""
    if problem["type"] == "extra_forbidden":
        groups = [f"vee.groups.{field.alias or name}" for name, field in VeeGroup.model_fields.items()]
        known = [known for known, _ in settings(Config())] + list(Config.model_fields) + groups
        return f"{name}: no such setting{place}{_near(name, known)}; `meterpulse config show` lists them"
    said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "takes")
    return f"{name} = {problem['input']!r}: {said}{place}"


def _near(name: str, known: Collection[str]) -> str:
    """A hint: the same setting of another section, else what is spelt most alike."""
    last = name.removeprefix(PREFIX).replace("__", ".").rpartition(".")[2]
    same = sorted(other for other in known if other.endswith((f".{last}", f"__{last}")))
    near = same or get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
