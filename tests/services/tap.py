"""A tap between an MQTT client and its broker: what was delivered, and what was acknowledged, as it passed on the wire."""

from __future__ import annotations

import contextlib
import socket
import threading

import mqtt5


class Tap:
    """Listens on a port of its own and hands everything on. `acknowledged` are payloads that the client has answered with
    PUBACK, in a write that has left it."""

    def __init__(self, broker_port: int):
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.delivered: list[bytes] = []
        self.acknowledged: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    broker = socket.create_connection(("127.0.0.1", self._broker_port), 2)
                except OSError:
                    client.close()
                    continue
                broker.settimeout(None)
                under_way: dict[int, bytes] = {}
                for ends in ((broker, client), (client, broker)):
                    threading.Thread(target=self._pass_on, args=(*ends, under_way), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, under_way: dict[int, bytes]) -> None:
        seen = bytearray()
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                seen += data
                with contextlib.suppress(IndexError):  # the rest of a packet is still under way
                    while True:
                        packet, size = mqtt5.read(bytes(seen))
                        del seen[:size]
                        self._note(packet, under_way)
                to.sendall(data)
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _note(self, packet: object, under_way: dict[int, bytes]) -> None:
        if isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
            payload = bytes(packet.payload or b"")
            under_way[packet.packet_id] = payload
            self.delivered.append(payload)
        elif isinstance(packet, mqtt5.PubAckPacket) and packet.packet_id in under_way:
            self.acknowledged.append(under_way.pop(packet.packet_id))
