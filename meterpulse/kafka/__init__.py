"""What log, ingest and outputs share about Kafka: how to connect, how topics are made, and what its errors mean here.

Whoever can reach the brokers and may write is one of us, so a cluster for more than one machine wants TLS and SASL: they are
given as client properties in a file of their own, under the names that librdkafka gives them (`security.protocol`,
`sasl.username`, `ssl.ca.location`, ...), and never on a command line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

_log = logging.getLogger("meterpulse.kafka")
PATIENCE_SECONDS = 30.0
# What this program's promises rest on is not for a properties file to say.
_OURS = frozenset((
    "acks", "auto.offset.reset", "bootstrap.servers", "enable.auto.commit", "enable.auto.offset.store",
    "enable.idempotence", "enable.partition.eof", "group.id", "isolation.level", "request.required.acks",
    "transactional.id",
))  # fmt: skip


class KafkaDown(OSError):
    """The brokers did not answer, or refused; the message says what and what to do."""


class Connection:
    """The settings of a client. `properties` is a file of librdkafka's properties, `name=value` a line, # for comments;
    `password` is that of SASL, where it is not in the file. `is_lost`: no broker could be reached at some time."""

    def __init__(self, servers: str, properties: Path | None = None, password: str | None = None):
        self.servers, self.is_lost = servers, False
        self._given = read_properties(properties) if properties else {}
        if password is not None:
            self._given["sasl.password"] = password
        self._said = ""

    @classmethod
    def of(cls, settings: Any) -> Connection:
        """Of a section of the configuration (config.Kafka) that has servers. Raises OSError, ValueError."""
        secret = settings.sasl_password
        return cls(settings.servers, settings.client_properties, None if secret is None else secret.get_secret_value())

    def client(self, **own: Any) -> dict[str, Any]:
        """The configuration of one client; names of `own` have _ for Kafka's dots."""
        return {
            **self._given,
            "bootstrap.servers": self.servers,
            "reconnect.backoff.max.ms": 1000,
            "topic.metadata.refresh.interval.ms": 30_000,
            "log_level": 2,
            "logger": _log,
            "error_cb": self._hear,
            **{name.replace("_", "."): value for name, value in own.items()},
        }

    def admin(self) -> AdminClient:
        """A client for topics."""
        return AdminClient(self.client())

    def brokers(self, patience_seconds: float = 5.0) -> int:
        """How many there are; raises KafkaDown."""
        admin = self.admin()
        found = self.within(patience_seconds, lambda: admin.list_topics(timeout=2), "it does not answer")
        return len(found.brokers)

    def _hear(self, error: KafkaError) -> None:
        self._said = error.str()
        self.is_lost |= error.code() == KafkaError._ALL_BROKERS_DOWN
        _log.debug("%s", error)

    def down(self, what: str) -> KafkaDown:
        """The error for `what`, with the last thing that the client heard."""
        said = f" ({self._said})" if self._said else ""
        return KafkaDown(f"Kafka at {self.servers}: {what}{said}; check that the brokers run and can be reached")

    def within(self, seconds: float, call: Callable[[], Any], what: str) -> Any:
        """The result of a call that may have to wait for brokers; raises KafkaDown when the time is over."""
        give_up = time.monotonic() + seconds
        while True:
            try:
                return call()
            except KafkaException as error:
                if not _passes(error.args[0]) or time.monotonic() >= give_up:
                    raise self.down(f"{what}: {error.args[0].str()}") from None
                time.sleep(0.2)


def _passes(error: KafkaError) -> bool:
    """Whether it may be different in a moment."""
    return error.retriable() or error.code() in (
        KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE,
        KafkaError._WAIT_COORD, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT, KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.NETWORK_EXCEPTION,
        KafkaError._DESTROY,  # a broker's connection was given up while it was asked
    )  # fmt: skip


def read_properties(path: Path) -> dict[str, str]:
    """Raises OSError where the file cannot be read, ValueError where it says what is not its to say."""
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, is_pair, value = text.partition("=")
        if not is_pair:
            raise ValueError(f"{path}, line {number}: write name=value, as in security.protocol=SASL_SSL")
        if name.strip() in _OURS:
            raise ValueError(f"{path}, line {number}: {name.strip()} is set by this program; take the line out")
        found[name.strip()] = value.strip()
    return found


def make_topics(
    connection: Connection, names: Sequence[str], *, partitions: int, copies: int, config: Mapping[str, str]
) -> str:
    """Makes the topics that do not exist yet; the id of the cluster. Of those that exist, `config` must hold where it says
    how long messages are kept: raises KafkaDown where a topic would forget."""
    admin = connection.admin()
    cluster = connection.within(PATIENCE_SECONDS, lambda: admin.list_topics(timeout=2), "it does not answer")
    there = [name for name in names if name in cluster.topics]
    wanted = [NewTopic(name, partitions, copies, config=dict(config)) for name in names if name not in there]
    if wanted:
        for name, made in admin.create_topics(wanted, operation_timeout=30).items():
            try:
                made.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise connection.down(f"topic {name} cannot be made: {error.args[0].str()}") from None
    _check_kept(connection, admin, there, config)
    return str(cluster.cluster_id)


def _check_kept(connection: Connection, admin: AdminClient, names: Sequence[str], config: Mapping[str, str]) -> None:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    for resource, answer in (admin.describe_configs(resources) if resources else {}).items():
        found = connection.within(PATIENCE_SECONDS, answer.result, "it does not describe its topics")
        for name in ("retention.ms", "retention.bytes", "cleanup.policy"):
            if name in config and name in found and found[name].value != config[name]:
                raise connection.down(
                    f"topic {resource.name} has {name}={found[name].value} and would forget; set it to {config[name]}"
                )


__all__ = ["Connection", "KafkaDown", "PATIENCE_SECONDS", "make_topics", "read_properties"]
