"""Where readings go, and that they arrive as they were."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterpulse.ingest import decode
from meterpulse.ingest.files import read
from meterpulse.model.channel import Channel
from meterpulse.model.reading import Readings
from meterpulse.model.window import instant_ms
from meterpulse.registry import Registry
from meterpulse.simulator import City, Faults, deliver_http, heartbeats, simulate, sweeps
from meterpulse.simulator.deliver import DeliveryError, decimals, target_of
from meterpulse.simulator.deliver_http import HttpTarget

START = instant_ms("2026-01-14T22:00:00Z")
END = START + 15_000


@pytest.mark.parametrize("name", ["day.parquet", "day.csv", "day.ndjson"])
def test_a_file_read_back_with_the_channels_beside_it_is_the_city(city, tmp_path, name):
    target = target_of(str(tmp_path / name))
    for _ in simulate(city, START, END, target=target, faults={"clock_drift": 0.2}):
        pass
    target.close()
    beside = next(tmp_path.glob("day.channels.*"))
    with Registry.open(tmp_path / "registry") as registry:
        if beside.suffix == ".parquet":
            done = registry.register(pq.read_table(beside))
        else:
            done = registry.register(Channel.from_dict(json.loads(line)) for line in beside.read_bytes().splitlines())
        assert done.created == city.count
        batches = [decode(b.body, b.media_type, registry.table, END) for b in read(tmp_path / name)]
    assert not any(b.rejected for b in batches)
    sent = list(sweeps(city, START, END, faults=Faults(city, {"clock_drift": 0.2}, START, END, 5)))
    assert Readings.concat([b.readings for b in batches]) == Readings.concat(sent)


def test_quantities_are_written_in_exact_decimals():
    values = [0, 1, -1, 999_999, 1_000_000, 2**62]
    texts = decimals(np.array(values, np.int64), 10**6).to_pylist()
    assert [Decimal(t) * 10**6 for t in texts] == values
    assert not any("E" in t for t in texts)


@pytest.mark.parametrize("to", ["day.xml", "nowhere/day.csv", "http://"])
def test_a_target_that_is_none_is_refused(to, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeliveryError):
        target_of(to)


class Server(ThreadingHTTPServer):
    """Speaks the public face as far as a delivery needs it; `answers` come before the true ones, None hangs up."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ids: list[str] = ["E-stranger"]
        self.bodies: list[bytes] = []
        self.answers: list[tuple[int, dict[str, str]] | None] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def received(self) -> Readings:
        tables = [pa.ipc.open_stream(body).read_all() for body in self.bodies]
        table = pa.concat_tables(tables)
        start = table["start"].cast(pa.int64()).to_numpy()
        return Readings.of(
            table["channel"].to_numpy(), start, table["seconds"].to_numpy(), table["quantity"].to_numpy()
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.answers:
            answer = self.server.answers.pop(0)
            if answer is None:
                self.close_connection = True
                return
            return self.put(answer[0], b'{"detail":"too many meters"}', answer[1])
        if self.path == "/v1/channels":
            self.server.ids += pa.ipc.open_stream(body).read_all()["id"].to_pylist()
            return self.put(200, b"{}")
        self.server.bodies.append(body)
        rows = pa.ipc.open_stream(body).read_all().num_rows
        self.put(200, json.dumps({"accepted": rows - 1, "quarantined": 1, "reasons": {"future": 1}}).encode())

    def do_GET(self) -> None:
        query = {k: int(v) for k, v in parse_qsl(urlsplit(self.path).query)}
        ids = self.server.ids[query["after"] :][: query["limit"]]
        first = query["after"]
        table = pa.table(
            {"index": pa.array(np.arange(first, first + len(ids), dtype=np.uint32)), "id": pa.array(ids, pa.string())}
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table, max_chunksize=100)
        self.put(200, sink.getvalue().to_pybytes())

    def put(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_gets_every_reading_under_its_own_indices_over_one_connection(city, server, monkeypatch):
    monkeypatch.setattr(deliver_http, "_CHANNELS_PER_PAGE", 500)
    target = HttpTarget(server.url, rows_per_body=700)
    steps = list(simulate(city, START, END, target=target))
    target.close()
    sent = Readings.concat(list(sweeps(city, START, END)))
    got = server.received()
    assert np.array_equal(got.channel, sent.channel + 1)  # a stranger was there before
    assert np.array_equal(got.quantity, sent.quantity) and np.array_equal(got.start, sent.full("start"))
    assert server.connections == 1
    assert target.accepted == steps[-1].readings - len(server.bodies)
    assert target.quarantined == len(server.bodies) and target.reasons == {"future": len(server.bodies)}


def test_a_busy_or_broken_server_gets_the_same_body_again(server):
    city, slept = City(households=10, seed=1), []
    target = HttpTarget(server.url, sleep=slept.append)
    target.prepare(city)
    server.answers = [(429, {"Retry-After": "7"}), None, (503, {}), (507, {"Retry-After": "2.5"})]
    batch = heartbeats(city, START)
    target.send(batch)
    assert np.array_equal(server.received().quantity, batch.quantity)
    assert slept == [7, 0.1, 1, 2.5]
    assert target.waited == 4


def test_a_refused_body_and_a_silent_server_say_why(server):
    city = City(households=10, seed=1)
    target = HttpTarget(server.url)
    server.answers = [(401, {})]
    with pytest.raises(DeliveryError, match="answered with 401: too many meters"):
        target.prepare(city)
    port = server.server_port
    silent = HttpTarget(f"http://127.0.0.1:{port}", tries=2, sleep=lambda _: None)
    server.answers = [None] * 2
    with pytest.raises(DeliveryError, match="cannot be reached"):
        silent.prepare(city)
