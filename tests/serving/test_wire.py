"""Small bodies go the short way, and nobody can tell but by the speed."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from meterpulse.config import load
from meterpulse.model.channel import Channel
from meterpulse.pipeline import Pipeline, answer, replay_quarantine
from meterpulse.serving.wire import Head, head_of, query_of

HEAD = b"POST /v1/readings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    import uvicorn

    from meterpulse.serving.http import create_app, with_intake
    from meterpulse.serving.intake import Intake
    from meterpulse.serving.quick import QuickUsage
    from meterpulse.serving.together import Together
    from meterpulse.serving.wire import protocol_of

    data: Path = tmp_path_factory.mktemp("city")
    with Pipeline.open(load({"data": str(data)})) as p:
        p.registry.register([Channel(f"E-{i}", "electricity", "kWh") for i in range(100)], at_ms=0)
        intake = Intake(p, answer)
        app = with_intake(create_app(p, answer_of=answer, replay=replay_quarantine), p, answer, intake)
        listener = socket.create_server(("127.0.0.1", 0))
        settings = uvicorn.Config(
            app, http=protocol_of(intake, Together(p, answer), QuickUsage(p)), log_level="warning", lifespan="on"
        )
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def reading(channel: str, quantity: str = "0.5") -> bytes:
    start = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(time.time() - 60))
    return f'{{"channel":"{channel}","start":"{start}","quantity":{quantity}}}'.encode()


def request(body: bytes, more: bytes = b"") -> bytes:
    return HEAD + str(len(body)).encode() + b"\r\n" + more + b"\r\n" + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict]]:
    """The next answers on a kept connection."""
    got, found = b"", []
    while len(found) < count:
        head, end, rest = got.partition(b"\r\n\r\n")
        length = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
        if not end or len(rest) < length:
            part = connection.recv(65536)
            assert part, got
            got += part
            continue
        found.append((int(head[9:12]), json.loads(rest[:length])))
        got = rest[length:]
    return found


def talk(port: int, *parts: bytes, count: int = 1) -> list[tuple[int, dict]]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)
        return answers(connection, count)


def test_one_reading_is_accepted(port: int) -> None:
    assert talk(port, request(reading("E-1"))) == [(200, {"accepted": 1, "quarantined": 0, "reasons": {}})]


def test_a_request_in_pieces_is_answered_as_one_in_one_piece(port: int) -> None:
    whole = request(reading("E-2"))
    for cut in (3, 20, len(HEAD) + 1, len(whole) - 1):
        assert talk(port, whole[:cut], whole[cut:])[0][1]["accepted"] == 1


def test_requests_sent_ahead_are_answered_in_order(port: int) -> None:
    bad, good = request(b'{"channel":"nobody"}'), request(reading("E-3"))
    found = talk(port, good + bad + good + bad[:40], bad[40:] + good, count=5)
    assert [a["accepted"] for _, a in found] == [1, 0, 1, 0, 1]


def test_other_requests_share_the_connection(port: int) -> None:
    get = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(3):
            body = reading("E-4")
            chunked = HEAD.rpartition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"
            chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            for sent in (request(body), get, chunked):
                connection.sendall(sent)
                assert answers(connection, 1)[0][0] == 200


def test_a_bad_neighbour_costs_nobody_else_anything(port: int) -> None:
    bodies = [reading(f"E-{i}") if i % 7 else reading("stranger") for i in range(60)]
    open_now = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in bodies]
    for connection, body in zip(open_now, bodies, strict=True):
        connection.sendall(request(body))
    found = [answers(connection, 1)[0] for connection in open_now]
    for connection in open_now:
        connection.close()
    assert [a["accepted"] for _, a in found] == [1 if i % 7 else 0 for i in range(60)]
    assert all(a["reasons"] == ({} if i % 7 else {"unknown_channel": 1}) for i, (_, a) in enumerate(found))


def test_a_problem_is_told_as_one(port: int) -> None:
    body = b"not json"
    assert [(s, a["status"]) for s, a in talk(port, request(body))] == [(400, 400)]
    kind = HEAD.replace(b"application/json", b"text/html")
    assert talk(port, kind + b"4\r\n\r\n{}{}")[0][0] == 415


@pytest.mark.parametrize(
    "unusual",
    [
        b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"content-encoding: gzip\r\n", b"connection: close\r\n",
        b" folded: 1\r\n", b"a b: c\r\n", b"nothing\r\n", b"x: \x01\r\n",
    ],
)  # fmt: skip
def test_an_unusual_head_is_left_to_the_parser(unusual: bytes) -> None:
    plain = HEAD + b"10"
    assert head_of(plain) == Head(10, "application/json", "http", "canonical")
    assert head_of(plain + b"\r\n" + unusual.removesuffix(b"\r\n")) is None


def large(rows: int) -> tuple[bytes, bytes]:
    """An Arrow stream and an NDJSON body of the same rows."""
    now = int(time.time()) // 5 * 5 - 1200
    at = [(now + i // 100 * 5) * 1000 for i in range(rows)]
    table = pa.table(
        {
            "channel": pa.array([i % 100 for i in range(rows)], pa.uint32()),
            "start": pa.array(at, pa.timestamp("ms", "UTC")),
            "seconds": pa.array([5] * rows, pa.int32()),
            "quantity": pa.array(range(rows), pa.int64()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    stamps = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000)) for ms in at]
    lines = [f'{{"channel":"E-{i % 100}","start":"{stamps[i]}","quantity":{i}}}' for i in range(rows)]
    return sink.getvalue().to_pybytes(), "\n".join(lines).encode()


@pytest.mark.parametrize("cuts", [[], [7], [1, 2, 3, 60_000], [-1], [30_000, 30_001, -9]])
def test_a_large_body_in_any_pieces_counts_once_and_what_is_behind_it_is_answered(port: int, cuts: list[int]) -> None:
    arrow, lines = large(5_000)
    for kind, body in ((b"application/vnd.apache.arrow.stream", arrow), (b"application/x-ndjson", lines)):
        head = HEAD.replace(b"application/json", kind) + str(len(body)).encode() + b"\r\n\r\n"
        whole = head + body + request(reading("E-5"))
        places = [0, len(head), *sorted(len(head) + c % len(body) for c in cuts), len(whole)]
        parts = [whole[low:high] for low, high in itertools.pairwise(places)]
        assert [a["accepted"] for _, a in talk(port, *parts, count=2)] == [5_000, 1]


def test_a_body_that_breaks_off_leaves_nothing_behind(port: int) -> None:
    arrow, _ = large(5_000)
    head = HEAD.replace(b"application/json", b"application/vnd.apache.arrow.stream")
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head + b"60000000\r\n\r\n" + arrow)
    assert talk(port, request(reading("E-6")))[0][0] == 200
    assert talk(port, head + b"%d\r\n\r\n" % len(arrow) + arrow)[0][1]["accepted"] == 5_000


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(port: int) -> None:
    assert talk(port, HEAD + b"99999999999\r\n\r\n{")[0][0] == 413


@pytest.mark.parametrize("length", [b"", b"0", b"-1", b"+5", b"5 5", b"1_0", b"9" * 30])
def test_a_length_that_is_not_plain_is_left_to_the_parser(length: bytes) -> None:
    assert head_of(HEAD + length) is None


def test_a_usage_query_has_one_answer_on_both_ways(port: int) -> None:
    for channel in ("E-1", "E-9"):
        talk(port, request(reading(channel, "123456.000007")))
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + s)) for s in (-7200, 600)]
    for asked in (
        "channel=E-1",
        "channel=E-1&channel=E-9",
        "channel=E-1&grain=5m",
        "channel=nobody",
        "channel=E-1&grain=1m",
    ):
        line = f"GET /v1/usage?{asked}&start={times[0]}&end={times[1]} HTTP/1.1\r\nhost: x\r\n".encode()
        short, long = talk(port, line + b"\r\n")[0], talk(port, line + b"x:\x80\r\n\r\n")[0]
        for found in (short, long):
            for document in found[1].get("channels", [found[1]]):
                document.pop("fresh_until", None)
        assert short == long
        assert short[0] == (200 if "E-1" in asked and "1m" not in asked else 404 if "nobody" in asked else 422)


def test_a_query_with_anything_unusual_is_left_to_the_parser() -> None:
    line = b"GET /v1/usage?channel=E-1 HTTP/1.1\r\n"
    assert query_of(line + b"host: x\r\n\r\n") == b"channel=E-1"
    for rest in (b"\r\n", b"host: x\r\ncontent-length: 3\r\n\r\n", b"host: x\r\n\r\nGET /\r\n\r\n", b"host: x\r\n"):
        assert query_of(line + rest) is None
    assert query_of(b"GET /v1/usage?a b HTTP/1.1\r\nhost: x\r\n\r\n") is None
    assert query_of(b"GET /v1/usage?a#b HTTP/1.1\r\nhost: x\r\n\r\n") is None
