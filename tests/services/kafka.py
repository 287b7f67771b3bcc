"""Real Kafka brokers on loopback, KRaft, without containers: Maven brings the jars, each node is one Java process.

>>> with require("kafka").Kafka(tmp_path, nodes=3) as kafka:
...     kafka.bootstrap
...     kafka.kill(kafka.leader_of("electricity"))
'127.0.0.1:40001,127.0.0.1:40003,127.0.0.1:40005'

One node is ready in 2 to 4 s, three in 7 to 11, at 200 to 350 MB each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.services.process import Server, free_port

POM = Path(__file__).with_suffix(".pom.xml")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterpulse-services" / "kafka-4.4.0"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_HEAP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=128m", "-XX:TieredStopAtLevel=1")
_CLUSTER_ID = "bWV0ZXJwdWxzZS10ZXN0cw"
_LOG4J = """\
appender.console.type = Console
appender.console.name = STDOUT
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c{1})%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = STDOUT
"""


def missing() -> str | None:
    """Why brokers cannot be started on this machine; None where they can."""
    if shutil.which("java") is None:
        return "Java 17 is not installed: apt-get install openjdk-17-jre-headless"
    if not (CACHE / ".done").exists():
        return "Kafka's jars are not there: make services (it needs Maven)"
    return None


def fetch() -> None:
    """Brings the jars into the cache (44, 43 MB, about 30 s the first time). Raises OSError."""
    if (CACHE / ".done").exists():
        return
    if shutil.which("mvn") is None:
        raise OSError("Maven is not installed: apt-get install maven openjdk-17-jre-headless")
    fresh = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", POM, _COPY, "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise OSError(f"Maven could not bring Kafka: {(done.stdout + done.stderr)[-800:]}")
    (fresh / "log4j2.properties").write_text(_LOG4J)
    (fresh / ".done").touch()
    shutil.rmtree(CACHE, ignore_errors=True)
    with contextlib.suppress(OSError):  # somebody else was quicker
        fresh.rename(CACHE)
    shutil.rmtree(fresh, ignore_errors=True)


class Kafka:
    """A cluster of `nodes` brokers, numbered from 1; each is a controller too."""

    def __init__(self, folder: Path, nodes: int = 1):
        self.folder, self.nodes = Path(folder), range(1, nodes + 1)
        self._ports = {node: free_port() for node in self.nodes}
        self._controllers = {node: free_port() for node in self.nodes}
        self._brokers = {node: _Broker(self.folder / f"node{node}", self._ports[node]) for node in self.nodes}

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    def __enter__(self) -> Kafka:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Formats and starts all nodes, and returns when they have found each other; raises TimeoutError."""
        for node, broker in self._brokers.items():
            (broker.folder / "node.properties").write_text(self._properties(node))
        with ThreadPoolExecutor(len(self.nodes)) as together:
            list(together.map(lambda broker: broker.format(), self._brokers.values()))
            list(together.map(lambda broker: broker.start(), self._brokers.values()))
        self.ready()

    def start_node(self, node: int) -> None:
        """After `kill`."""
        self._brokers[node].start()

    def ready(self, timeout_seconds: float = 120) -> None:
        """Returns when every node has joined and there is a controller; raises TimeoutError."""
        from confluent_kafka import KafkaException

        admin, give_up = self._admin(), time.monotonic() + timeout_seconds
        while time.monotonic() < give_up:
            with contextlib.suppress(KafkaException):
                cluster = admin.list_topics(timeout=1)
                if len(cluster.brokers) == len(self.nodes) and cluster.controller_id > 0:
                    return
            time.sleep(0.1)
        raise TimeoutError(f"Kafka is not ready: {[broker.log[-600:] for broker in self._brokers.values()]}")

    def make_topics(self, *names: str, partitions: int = 3) -> None:
        """Topics with a copy on every node."""
        from confluent_kafka.admin import NewTopic

        admin = self._admin()
        for made in admin.create_topics([NewTopic(name, partitions, len(self.nodes)) for name in names]).values():
            made.result(30)

    def leader_of(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition now."""
        return int(self._admin().list_topics(topic, timeout=30).topics[topic].partitions[partition].leader)

    def kill(self, node: int) -> None:
        """SIGKILL, as when its machine is gone."""
        self._brokers[node].kill()

    def pause(self, node: int) -> None:
        """It holds its connections and answers nothing, until `resume`."""
        self._brokers[node].signal(signal.SIGSTOP)

    def resume(self, node: int) -> None:
        """It goes on where it was stopped."""
        self._brokers[node].signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends all nodes; what they wrote is of no use to anybody."""
        for broker in self._brokers.values():
            broker.kill()

    def _admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200,
             "socket.timeout.ms": 5000}
        )  # fmt: skip

    def _properties(self, node: int) -> str:
        """Everything small: three of them run beside the tests."""
        copies = min(len(self.nodes), 3)
        voters = ",".join(f"{n}@127.0.0.1:{self._controllers[n]}" for n in self.nodes)
        return "\n".join(f"{name}={value}" for name, value in {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{self._ports[node]},CONTROLLER://127.0.0.1:{self._controllers[node]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._ports[node]}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": "data",
            "num.network.threads": 2,
            "num.io.threads": 4,
            "num.recovery.threads.per.data.dir": 1,
            "background.threads": 2,
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "min.insync.replicas": max(copies - 1, 1),
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 3,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(copies - 1, 1),
            "transaction.state.log.num.partitions": 3,
            "share.coordinator.state.topic.replication.factor": copies,
            "group.initial.rebalance.delay.ms": 0,
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 3000,
            "log.cleaner.dedupe.buffer.size": 16 << 20,
        }.items())  # fmt: skip


class _Broker(Server):
    ready_seconds = 120.0

    def __init__(self, folder: Path, port: int):
        super().__init__(folder)
        self._port = port

    def command(self) -> Sequence[str]:
        return [*self._java(), "kafka.Kafka", "node.properties"]

    def format(self) -> None:
        """Gives its storage the id of the cluster, once."""
        arguments = ["format", "--ignore-formatted", "-t", _CLUSTER_ID, "-c", "node.properties"]
        command = [*self._java(), "kafka.tools.StorageTool", *arguments]
        subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False

    def signal(self, signal: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal)

    @staticmethod
    def _java() -> list[str]:
        return ["java", *_HEAP, f"-Dlog4j2.configurationFile={CACHE / 'log4j2.properties'}", "-cp", f"{CACHE}/*"]
