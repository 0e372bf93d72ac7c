"""Serves ONNX models over HTTP: `python -m serve`.

SIGTERM stops the server after it has finished the requests that have started; SIGHUP reloads the
models without dropping a request. If SERVE_TOKEN is set, all routes but the pages and the health
checks require it as a bearer token.
"""

import argparse
import ipaddress
import logging
import os
import socket
import sys
import threading
from functools import partial
from multiprocessing.context import SpawnProcess

from serve.model.source import EXPORTED, exported, read_source
from serve.process import configure_log, handle_signals

log = logging.getLogger("serve")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--model",
        action="append",
        default=argparse.SUPPRESS,
        metavar="[NAME=]MODEL",
        help="an ONNX file, or models:/NAME@ALIAS in MLflow; may be given more than once "
        f"(default: {EXPORTED})",
    )
    add("--host", default="127.0.0.1", help="the address to listen on")
    add("--port", type=int, default=8080, help="the port to listen on")
    add("--workers", type=int, default=1, help="worker processes, at most one per core")
    add("--poll", type=float, metavar="SECONDS", help="check for new models at this interval")
    add(
        "--allowed-hosts",
        nargs="+",
        default=["localhost"],
        metavar="NAME",
        help="names besides IP addresses that the Host header may have; * allows all",
    )
    add(
        "--sample",
        type=int,
        metavar="ROWS",
        help="keep a random sample of the served rows in memory, at most so many per model",
    )
    add("--log-requests", action="store_true", help="log each inference request as a line of JSON")
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> None:
    """Warn if the server is public and has no token.

    Raises:
        ValueError: an option or SERVE_TOKEN is invalid.
    """
    cores = os.cpu_count() or 1
    if not 1 <= arguments.workers <= cores:
        raise ValueError(f"--workers must be from 1 to {cores} (cores), got {arguments.workers}")
    if arguments.poll is not None and not 0 < arguments.poll < threading.TIMEOUT_MAX:
        raise ValueError(f"--poll must be > 0 seconds, got {arguments.poll}")
    if arguments.sample is not None and arguments.sample < 1:
        raise ValueError(f"--sample must be >= 1 row, got {arguments.sample}")
    from serve.http.access import check_token

    check_token(os.environ.get("SERVE_TOKEN"))
    local = arguments.host == "localhost" or ipaddress.ip_address(arguments.host).is_loopback
    if not local and not os.environ.get("SERVE_TOKEN"):
        log.warning("%s is open to everyone who can reach it: set SERVE_TOKEN", arguments.host)


def main() -> None:
    """Load the models and serve them until stopped."""
    arguments = parse_arguments()
    from serve.leader import Leader  # here and below, as --help needs none of it
    from serve.model.loader import Loader
    from serve.model.memory import allocate
    from serve.model.reload import describe
    from serve.model.served import check_names
    from serve.worker import answer, answer_while_led, load_engines

    loader = Loader()
    hangups = handle_signals(loader.stop)
    configure_log()
    try:
        check(arguments)
        given = getattr(arguments, "model", None)
        arguments.sources = [read_source(model) for model in given] if given else exported()
        engines = load_engines(loader, arguments.sources)
        check_names(engines)
        rows, workers = arguments.sample, arguments.workers
        arguments.memories = [rows and allocate(engine, rows, workers) for engine in engines]
        family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
        address = (arguments.host, arguments.port)
        listener = socket.create_server(address, family=family, backlog=2048)
    except Exception as error:  # of any type: MLflow and its storage raise many
        sys.exit(f"error: {describe(error)}")
    host = f"[{arguments.host}]" if family == socket.AF_INET6 else arguments.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    for engine in engines:
        print(f"{engine.name} version {engine.version} at {url}", flush=True)
    if arguments.workers == 1:
        answer(arguments, listener, loader, engines, hangups)
    else:
        loader.stop()  # each worker has its own
        create = partial(SpawnProcess, target=answer_while_led, args=[arguments, listener])
        sys.exit(Leader(arguments.workers, create, hangups).lead())


if __name__ == "__main__":
    main()
