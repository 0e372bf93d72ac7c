"""Serves the exported network by HTTP: `python -m serve`."""

import argparse
import sys
from pathlib import Path

import uvicorn

from serve.app import create_app
from serve.engine import Engine

DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "artifacts" / "batchnorm_mlp" / "model.onnx"


def main() -> None:
    """Load the model, then answer until told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="an ONNX file")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="the port to listen on")
    arguments = parser.parse_args()
    try:
        engine = Engine(arguments.model)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    address = f"http://{arguments.host}:{arguments.port}/v2"
    print(f"{engine.name} version {engine.version} at {address}", flush=True)
    uvicorn.run(create_app(engine), host=arguments.host, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
