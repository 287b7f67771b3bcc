"""The client against a server that misbehaves as servers do."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from meterpulse.client import Client, Unreachable, find_server
from meterpulse.model.problem import Problem


class Script(BaseHTTPRequestHandler):
    """Answers each request with the next (status, headers, body) of the server's script."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.command, self.path, self.rfile.read(int(self.headers.get("content-length", 0)))))
        status, headers, body = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if headers.get("connection") == "close":
            self.close_connection = True

    do_POST = do_GET

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Script) as http:
        http.answers, http.asked = [(200, {}, b"{}")], []
        http.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def test_a_query_leaves_out_what_is_none_and_repeats_lists(server):
    Client(server.url).get("/v1/usage", {"channel": "E 1/ü", "end": None, "area": ["a", "b"]})
    assert server.asked[0][1] == "/v1/usage?channel=E+1%2F%C3%BC&area=a&area=b"


def test_an_error_keeps_the_servers_explanation(server):
    document = {"type": "urn:meterpulse:problem:bad-grain", "title": "Not a grain", "detail": "use 1h"}
    server.answers = [(400, {"content-type": "application/problem+json"}, json.dumps(document).encode())]
    with pytest.raises(Problem, match="Not a grain: use 1h") as caught:
        Client(server.url).get("/v1/usage")
    assert (caught.value.status, caught.value.kind) == (400, "bad-grain")


def test_an_error_that_is_no_problem_document_is_still_an_error(server):
    server.answers = [(502, {}, b"<html>")]
    with pytest.raises(Problem, match="Bad Gateway"):
        Client(server.url).get("/")


def test_a_body_is_sent_again_when_the_server_was_busy(server, monkeypatch):
    waits = []
    monkeypatch.setattr("meterpulse.client.time.sleep", waits.append)
    server.answers = [(503, {"retry-after": "2"}, b"{}"), (429, {}, b"{}"), (200, {}, b'{"accepted": 1}')]
    assert Client(server.url).post("/v1/readings", b"x", "text/csv") == {"accepted": 1}
    assert waits == [2, 1]
    assert [body for _, _, body in server.asked] == [b"x"] * 3


def test_a_closed_idle_connection_is_opened_again(server):
    client = Client(server.url)
    server.answers = [(200, {"connection": "close"}, b"{}"), (200, {}, b"1")]
    client.get("/")
    assert client.get("/") == b"1"


def test_a_channel_that_does_not_exist_is_none(server):
    server.answers = [(404, {}, b"{}")]
    assert Client(server.url).channel("a/b") is None
    assert server.asked[0][1] == "/v1/channels/a%2Fb"


def test_events_are_parsed_as_they_come(server):
    server.answers = [
        (200, {"content-type": "text/event-stream"}, b': hello\n\nevent: status\ndata: {"a":\ndata: 1}\n\n')
    ]
    assert list(Client(server.url).events("/v1/live")) == [("status", {"a": 1})]


def test_no_server_is_unreachable_and_says_how_to_start_one():
    with pytest.raises(Unreachable, match="meterpulse up"):
        Client("http://127.0.0.1:9").get("/health/live")


@pytest.mark.parametrize("url", ["", "ftp://host", "http://"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(Problem, match="127.0.0.1:8321"):
        Client(url)


def test_the_file_of_a_server_that_was_killed_is_no_server(tmp_path, server):
    assert find_server(tmp_path) is None
    (tmp_path / "server.json").write_text(json.dumps({"pid": 1, "url": "http://127.0.0.1:9"}))
    assert find_server(tmp_path) is None
    (tmp_path / "server.json").write_text("{")
    assert find_server(tmp_path) is None
    (tmp_path / "server.json").write_text(json.dumps({"pid": 1, "url": server.url}))
    assert find_server(tmp_path).url == server.url
