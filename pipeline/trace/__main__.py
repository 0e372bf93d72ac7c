"""Walks from an answer back to the data: `python -m pipeline.trace WHAT`.

WHAT is a model file, the URL of a running server, a saved response, the id of an MLflow run,
`champion` or `challenger`. Each link is computed again from its bytes: those in artifacts/ and
data/ if the model is the one there, or else MLflow's. The exit status is 1 if a link is broken or
missing.
"""

import argparse
from pathlib import Path
from pkgutil import resolve_name


def main() -> None:
    """Print the chain; the exit status is 1 if a link is broken or missing."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.trace", description=__doc__)
    parser.add_argument("what", metavar="WHAT", help="where the walk starts")
    parser.add_argument("--request", type=Path, metavar="FILE", help="a saved response's request")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    print_chain = resolve_name("pipeline.trace.chain:print_chain")  # takes seconds to import
    print_chain(arguments.what, arguments.request, arguments.json)


if __name__ == "__main__":
    main()
