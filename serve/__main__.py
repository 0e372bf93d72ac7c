"""Serves the exported network over HTTP: `python -m serve`.

SIGTERM stops the server after it has finished the requests that have started; SIGHUP reloads the
model without dropping a request. If SERVE_TOKEN is set, all routes but the page and the health
checks require it as a bearer token.
"""

import argparse
import ipaddress
import logging
import os
import socket
import sys

from serve.model import EXPORTED
from serve.workers import answer, answer_together, configure_log, load_engine

log = logging.getLogger("serve")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default=EXPORTED, help="an ONNX file, or models:/NAME@ALIAS in MLflow")
    add("--host", default="127.0.0.1", help="the address to listen on")
    add("--port", type=int, default=8080, help="the port to listen on")
    add("--workers", type=int, default=1, help="worker processes, at most one per core")
    add("--poll", type=float, metavar="SECONDS", help="check for a new model at this interval")
    add("--log-requests", action="store_true", help="log each inference request as a line of JSON")
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> None:
    """Exit if an option is invalid; warn if the server is public and has no token."""
    cores = os.cpu_count() or 1
    if not 1 <= arguments.workers <= cores:
        sys.exit(f"error: --workers must be from 1 to {cores} (cores), got {arguments.workers}")
    if arguments.poll is not None and not arguments.poll > 0:
        sys.exit(f"error: --poll must be > 0 seconds, got {arguments.poll}")
    local = arguments.host == "localhost" or ipaddress.ip_address(arguments.host).is_loopback
    if not local and not os.environ.get("SERVE_TOKEN"):
        log.warning("%s is open to everyone who can reach it: set SERVE_TOKEN", arguments.host)


def main() -> None:
    """Load the model and serve it until stopped."""
    configure_log()
    arguments = parse_arguments()
    try:
        check(arguments)
        engine = load_engine(arguments.model)
        listener = socket.create_server((arguments.host, arguments.port), backlog=2048)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"error: {error}")
    address = f"http://{arguments.host}:{listener.getsockname()[1]}"
    print(f"{engine.name} version {engine.version} at {address}", flush=True)
    run = answer if arguments.workers == 1 else answer_together
    run(arguments, listener)


if __name__ == "__main__":
    main()
