"""The process that answers requests: the only one, or one of several that leader.py starts."""

import gc
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue

import uvicorn

from serve.http.access import Access
from serve.http.app import App
from serve.http.connection import Connection
from serve.model.engine import Engine
from serve.model.loader import Loader, end_with_parent
from serve.model.metrics import METRICS_FOLDER
from serve.model.reload import Reloader, describe
from serve.model.sample import Sample
from serve.model.served import ServedModels
from serve.model.source import Source
from serve.process import GRACE_S, configure_log, handle_signals


def answer(
    arguments: Namespace,
    listener: socket.socket,
    loader: Loader,
    engines: list[Engine],
    hangups: SimpleQueue[int],
) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT, then finish started requests and exit 0."""
    access = Access(os.environ.get("SERVE_TOKEN"), arguments.allowed_hosts)
    samples = [
        Sample(path, engine, arguments.sample, arguments.workers) if path else None
        for path, engine in zip(arguments.memories, engines, strict=True)
    ]
    models = ServedModels(engines, samples)
    loads = [partial(loader.load, source) for source in arguments.sources]
    reloader = Reloader(loads, models, hangups, arguments.poll)
    app = App(models, access, reloader.start, arguments.log_requests)
    config = uvicorn.Config(
        app,
        http=partial(Connection, app.budget),  # type: ignore[arg-type]
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    gc.freeze()  # do not scan what stays loaded at every collection
    uvicorn.Server(config).run(sockets=[listener])


def answer_while_led(arguments: Namespace, listener: socket.socket) -> None:
    """Load the models and serve as `answer` does, until the leader ends."""
    configure_log()
    loader = Loader()
    hangups = handle_signals(loader.stop)
    end_with_parent(os.environ[METRICS_FOLDER])
    try:
        answer(arguments, listener, loader, load_engines(loader, arguments.sources), hangups)
    except Exception as error:
        sys.exit(f"error: {describe(error)}")


def load_engines(loader: Loader, sources: Sequence[Source]) -> list[Engine]:
    """Return what runs each model that a server begins with."""
    return [engine for source in sources if (engine := loader.load(source))]
