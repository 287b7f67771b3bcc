"""`meterpulse up`: the pipeline, the API and the pages behind one listening socket, until Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any

import uvicorn

from meterpulse.config import Config
from meterpulse.model.priority import switch_often
from meterpulse.serving.http import create_app, with_intake
from meterpulse.serving.intake import Intake
from meterpulse.serving.quick import QuickUsage
from meterpulse.serving.together import Together
from meterpulse.serving.wire import protocol_of
from meterpulse.web import mount


def run(
    p: Any, listener: socket.socket, config: Config, answer_of: Any, replay: Any, on_ready: Any = lambda url: None
) -> None:
    """Serves until SIGINT or SIGTERM; open event streams do not hold it up."""
    switch_often()
    app = create_app(p, answer_of=answer_of, replay=replay)
    mount(app, areas_geojson=config.server.areas_geojson)
    intake = Intake(p, answer_of)
    front = with_intake(app, p, answer_of, intake)
    settings = uvicorn.Config(
        front,
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http=protocol_of(intake, Together(p, answer_of), QuickUsage(p)),
        lifespan="on",
        backlog=2048,
        timeout_graceful_shutdown=int(max(1, config.server.shutdown_seconds)),
        timeout_keep_alive=75,
    )
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    p.announce(url)
    on_ready(url)
    server = uvicorn.Server(settings)
    # An event stream that is cut at the end is how it should be.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing response" not in record.getMessage()
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
