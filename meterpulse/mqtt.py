"""A connection to an MQTT 5 broker: one thread reads and writes, other threads may hand it what is to be sent.

The packets are `mqtt5`'s, a codec without a socket: a thousand messages in the buffer become a thousand packets in 3 ms, where
clients that keep a thread, a queue and a callback for each message take ten times as long. The rest is here: connecting,
resuming the session, keeping it alive, and acknowledging only what the caller says is safe.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import mqtt5

_RECEIVE_BYTES = 256 << 10
_BUFFER_BYTES = 4 << 20
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_UNACKNOWLEDGED_MAX = 65_535  # what the protocol can count
_REFUSED = 0x80  # reason codes from here on are errors
Packet = Any


class MqttError(ConnectionError):
    """The broker refused, broke off or does not answer; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """Of `mqtt://host[:port]`, or `mqtts://` with TLS; the configuration has checked it."""
        parts = urlsplit(url)
        return cls(parts.hostname or "localhost", parts.port or _PORTS[parts.scheme], parts.scheme == "mqtts")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Account(Protocol):
    """Who we are to a broker: the settings that sources and outputs have in common."""

    client_id: str
    username: str | None
    ca_file: Path | None
    certificate_file: Path | None
    key_file: Path | None
    keep_alive_seconds: int
    session_seconds: int
    max_message_bytes: int

    def secret(self) -> str | None:
        """The password."""


class Retained(Enum):
    """Whether messages that the broker has kept come with a subscription: each time, once, when it is new, or never."""

    always = mqtt5.RetainHandling.SEND_ALWAYS
    once = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
    never = mqtt5.RetainHandling.SEND_NEVER


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for us when we are gone without a word."""

    topic: str
    payload: bytes


class Link:
    """Open from the start; `receive`, `publish` and `close` belong to one thread, `acknowledge` and `wake` to any."""

    def __init__(self, address: Address, account: Account, will: Will | None = None, timeout_seconds: float = 10.0):
        self._keep_alive, self._max_bytes = account.keep_alive_seconds, account.max_message_bytes
        self._buffer, self._is_full = bytearray(), False
        self._early: list[Packet] = []
        self._acknowledged: deque[Sequence[int]] = deque()
        self._waiting: dict[int, Packet] = {}  # published, not acknowledged by the broker
        self._next_id = 0
        self._asked: float = time.monotonic()
        self._pong = True
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        try:
            self._socket = _connected(address, account, timeout_seconds)
        except (OSError, ValueError) as error:
            self._ear.close()
            self._bell.close()
            raise MqttError(f"the broker at {address} is out of reach: {error}") from error
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        try:
            self._greet(account, will, timeout_seconds)
        except BaseException:
            self._let_go()
            raise

    def _greet(self, account: Account, will: Will | None, timeout_seconds: float) -> None:
        last = None
        if will is not None:
            last = mqtt5.Will(will.topic, payload=will.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=True)
        secret = account.secret()
        hello = mqtt5.ConnectPacket(
            account.client_id, username=account.username, password=None if secret is None else secret.encode(),
            clean_start=False, will=last, keep_alive=self._keep_alive,
            session_expiry_interval=account.session_seconds, receive_max=_UNACKNOWLEDGED_MAX,
            max_packet_size=self._max_bytes + 65_536,
        )  # fmt: skip
        self._write(hello.write())
        answer = self._expect(mqtt5.ConnAckPacket, timeout_seconds)
        self.session_present = bool(answer.session_present)
        if answer.server_keep_alive is not None:
            self._keep_alive = answer.server_keep_alive
        self.receive_max = answer.receive_max
        self.shares = bool(answer.shared_subscription_available)

    def subscribe(self, patterns: Iterable[str], retained: Retained, timeout_seconds: float = 10.0) -> None:
        """At least once; raises MqttError where the broker does not allow it."""
        wanted = list(patterns)
        filters = [
            mqtt5.TopicFilter(
                pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_as_published=False,
                retain_handling=retained.value,
            )
            for pattern in wanted
        ]  # fmt: skip
        self._write(mqtt5.SubscribePacket(self._id(), filters).write())
        answer = self._expect(mqtt5.SubAckPacket, timeout_seconds)
        for pattern, code in zip(wanted, answer.reason_codes, strict=True):
            if int(code) >= _REFUSED:
                raise MqttError(f"the broker does not let us subscribe to {pattern!r}: {_words(code)}")

    def receive(self, timeout_seconds: float) -> list[Packet]:
        """The messages (`topic`, `payload`, `packet_id`, `retain`) that are here, within about that time; none is an empty
        list. Raises MqttError where the connection has ended."""
        patience = min(timeout_seconds, self._keep_alive / 4 or timeout_seconds)
        for key, _ in self._selector.select(0 if self._early or self._is_full else patience):
            if key.fileobj is self._ear:
                self._hear()
            else:
                self._read()
        if self._is_full:  # TLS may hold bytes of which the socket does not know any more
            self._read()
        self._flush()
        self._stay_alive()
        early, self._early = self._early, []
        return early + self._packets()

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """These messages are safe with us; the broker may forget them. From any thread."""
        self._acknowledged.append(packet_ids)
        self.wake()

    def wake(self) -> None:
        """Makes `receive` return soon. From any thread."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody waits
            self._bell.send(b"\0")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """At least once; the number of messages that the broker has not acknowledged yet, this one included."""
        number = self._id()
        packet = mqtt5.PublishPacket(
            topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=retain, packet_id=number
        )  # fmt: skip
        self._waiting[number] = packet
        self._write(packet.write())
        return len(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """Published messages that the broker has not taken yet."""
        return len(self._waiting)

    def close(self) -> None:
        """In order: the broker keeps the session, and does not publish the will."""
        with contextlib.suppress(OSError, ValueError):
            self._flush()
            self._write(mqtt5.DisconnectPacket().write())
        self._let_go()

    # -- below -----------------------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        self._selector.close()
        for each in (self._socket, self._ear, self._bell):
            each.close()

    def _id(self) -> int:
        while True:
            self._next_id = self._next_id % _UNACKNOWLEDGED_MAX + 1
            if self._next_id not in self._waiting:
                return self._next_id

    def _expect(self, kind: type[Any], timeout_seconds: float) -> Packet:
        """The answer of that kind; messages that come before it are kept for `receive`."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self._selector.select(0.2):
                self._read()
            packets = self._packets()
            self._early += [packet for packet in packets if type(packet) is not kind]
            for packet in packets:
                if type(packet) is kind:
                    return packet
        raise MqttError(f"the broker did not answer within {timeout_seconds:g} s")

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def _read(self) -> None:
        self._is_full = False
        while len(self._buffer) < self._max_bytes + _BUFFER_BYTES:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError as error:
                raise MqttError(f"the connection to the broker broke: {error}") from error
            if not data:
                self._packets()  # its last word says why, and is raised
                raise MqttError("the broker closed the connection")
            self._buffer += data
            if len(data) < _RECEIVE_BYTES and not isinstance(self._socket, ssl.SSLSocket):
                return
        self._is_full = True

    def _packets(self) -> list[Packet]:
        found: list[Packet] = []
        view, at = memoryview(self._buffer), 0
        read, publish = mqtt5.read, mqtt5.PublishPacket
        try:
            while at < len(view):
                packet, size = read(view[at:])
                at += size
                if type(packet) is publish or not self._handled(packet):
                    found.append(packet)
        except IndexError:
            pass  # the rest of it is still under way
        except ValueError as error:
            raise MqttError(f"the broker sent what is no MQTT 5 packet: {error}") from None
        finally:
            view.release()
            del self._buffer[:at]
        return found

    def _handled(self, packet: Packet) -> bool:
        if isinstance(packet, mqtt5.PingRespPacket):
            self._pong = True
        elif isinstance(packet, mqtt5.PubAckPacket):
            self._waiting.pop(packet.packet_id, None)
            if int(packet.reason_code) >= _REFUSED:
                raise MqttError(f"the broker does not take what we publish: {_said(packet)}")
        elif isinstance(packet, mqtt5.ConnAckPacket) and int(packet.reason_code) >= _REFUSED:
            raise MqttError(f"the broker refused us: {_said(packet)}")
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise MqttError(f"the broker ended the connection: {_said(packet)}")
        else:
            return False
        return True

    def _flush(self) -> None:
        """Sends what was acknowledged meanwhile: four bytes a message, in one write."""
        parts = []
        while self._acknowledged:
            parts += [b"\x40\x02" + number.to_bytes(2, "big") for number in self._acknowledged.popleft()]
        if parts:
            self._write(b"".join(parts))

    def _stay_alive(self) -> None:
        now = time.monotonic()
        if not self._keep_alive:
            return
        if now - self._asked >= self._keep_alive / 2:
            if not self._pong:
                raise MqttError("the broker does not answer any more")
            self._asked, self._pong = now, False
            self._write(mqtt5.PingReqPacket().write())

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        deadline = time.monotonic() + 30
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                # A broker that waits for us to read must not wait for ever while we wait to write.
                self._read()
                with selectors.DefaultSelector() as ready:
                    ready.register(self._socket, selectors.EVENT_WRITE)
                    ready.select(0.05)
                if time.monotonic() > deadline:
                    raise MqttError("the broker does not take what we send") from None
            except OSError as error:
                raise MqttError(f"the connection to the broker broke: {error}") from error


def _connected(address: Address, account: Account, timeout_seconds: float) -> socket.socket:
    plain = socket.create_connection((address.host, address.port), timeout_seconds)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found: socket.socket = plain
        if address.tls:
            context = ssl.create_default_context(cafile=account.ca_file and str(account.ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if account.certificate_file is not None:
                context.load_cert_chain(account.certificate_file, account.key_file)
            found = context.wrap_socket(plain, server_hostname=address.host)
        found.setblocking(False)
        return found
    except BaseException:
        plain.close()
        raise


def _said(packet: Packet) -> str:
    why = _words(packet.reason_code)
    return f"{why} ({packet.reason_str})" if packet.reason_str else why


def _words(code: Any) -> str:
    return str(code.name).lower().replace("_", " ")
