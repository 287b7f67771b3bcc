"""Real Kafka brokers on loopback, KRaft, without containers: Maven brings the jars, each node is one Java process.

    with Kafka(nodes=3) as kafka:
        kafka.bootstrap          # "127.0.0.1:40001,127.0.0.1:40003,..."
        kafka.kill(kafka.leader_of("electricity"))

One node is ready in 2 to 4 s, three in 7 to 11, at 200 to 350 MB each. Everything a broker writes is in a folder of its own
that `stop` removes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

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
    """A cluster of `nodes` brokers, numbered from 1; each is its own controller."""

    def __init__(self, nodes: int = 1):
        self.nodes = range(1, nodes + 1)
        self.folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        ports = _free_ports(2 * nodes)
        self._ports = dict(zip(self.nodes, ports[:nodes], strict=True))
        self._controllers = dict(zip(self.nodes, ports[nodes:], strict=True))
        self._processes: dict[int, subprocess.Popen] = {}

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
        """Formats and starts all nodes, and returns when they answer."""
        formats = []
        for node in self.nodes:
            (self.folder / f"node{node}.properties").write_text(self._properties(node))
            arguments = ["-t", _CLUSTER_ID, "-c", self.folder / f"node{node}.properties"]
            formats.append(self._java(node, "kafka.tools.StorageTool", "format", "--ignore-formatted", *arguments))
        if any(process.wait() for process in formats):
            raise OSError(f"Kafka's storage was not formatted: {self._said()}")
        for node in self.nodes:
            self.start_node(node)
        self.ready()

    def start_node(self, node: int) -> None:
        """Starts one node, the first time or after `kill`."""
        self._processes[node] = self._java(node, "kafka.Kafka", self.folder / f"node{node}.properties")

    def ready(self, timeout_seconds: float = 120) -> None:
        """Returns when every node has joined and there is a controller; raises OSError."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200,
             "socket.timeout.ms": 2000}
        )  # fmt: skip
        give_up = time.monotonic() + timeout_seconds
        while time.monotonic() < give_up:
            with contextlib.suppress(KafkaException):
                cluster = admin.list_topics(timeout=1)
                if len(cluster.brokers) == len(self.nodes) and cluster.controller_id > 0:
                    return
            if any(process.poll() is not None for process in self._processes.values()):
                break
            time.sleep(0.1)
        raise OSError(f"Kafka is not ready: {self._said()}")

    def leader_of(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition now."""
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return admin.list_topics(topic, timeout=30).topics[topic].partitions[partition].leader

    def kill(self, node: int) -> None:
        """SIGKILL, as when its machine is gone."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def pause(self, node: int) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def resume(self, node: int) -> None:
        """It goes on where it was stopped."""
        self._processes[node].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends all nodes and removes what they wrote."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _java(self, node: int, *arguments: str | Path) -> subprocess.Popen:
        command = ["java", *_HEAP, f"-Dlog4j2.configurationFile={CACHE / 'log4j2.properties'}", "-cp", f"{CACHE}/*"]
        with open(self.folder / f"node{node}.log", "ab") as log:
            return subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def _said(self) -> str:
        return "\n".join((self.folder / f"node{node}.log").read_text()[-600:] for node in self.nodes)

    def _properties(self, node: int) -> str:
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
            "log.dirs": self.folder / f"data{node}",
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


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
