"""Serves the exported network by HTTP: `python -m serve`.

SIGTERM stops it once all it holds is answered; SIGHUP swaps in the model anew without losing a
request. SERVE_TOKEN, if set, is the bearer token that every request must have.
"""

import argparse
import ipaddress
import logging
import os
import socket
import sys
from pathlib import Path

from serve.workers import answer, answer_together, configure_log, load_engine

log = logging.getLogger("serve")
DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "artifacts" / "batchnorm_mlp" / "model.onnx"


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default=str(DEFAULT_MODEL), help="an ONNX file, or models:/NAME@ALIAS in MLflow")
    add("--host", default="127.0.0.1", help="the address to listen on")
    add("--port", type=int, default=8080, help="the port to listen on")
    add("--workers", type=int, default=1, help="processes to share the work, at most the cores")
    add("--poll", type=float, metavar="SECONDS", help="look for another model this often")
    add("--log-requests", action="store_true", help="log a line of JSON for each inference")
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> None:
    """End with an error if the options cannot be; warn if anybody may ask."""
    cores = os.cpu_count() or 1
    if not 1 <= arguments.workers <= cores:
        sys.exit(f"error: --workers must be from 1 to {cores}, the cores, got {arguments.workers}")
    if arguments.poll is not None and not arguments.poll > 0:
        sys.exit(f"error: --poll must be more than 0 seconds, got {arguments.poll}")
    local = arguments.host == "localhost" or ipaddress.ip_address(arguments.host).is_loopback
    if not local and not os.environ.get("SERVE_TOKEN"):
        log.warning("anybody who reaches %s may ask: set SERVE_TOKEN", arguments.host)


def main() -> None:
    """Check the model, then answer until told to stop."""
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
