"""Records in MLflow what the stages wrote and MLflow lacks: `python -m pipeline.tracking`."""

import argparse
import sqlite3
import sys

from pipeline.tracking.addresses import correct_addresses
from pipeline.tracking.runs import record_files
from pipeline.tracking.store import DATABASE, open_store, shown_uri


def main() -> None:
    """Record every training and the study, and print their runs."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tracking", description=__doc__)
    parser.add_argument(
        "--moved", action="store_true", help="first correct the store after the project was moved"
    )
    arguments = parser.parse_args()
    try:
        if arguments.moved and DATABASE.exists():
            correct_addresses(DATABASE)
        with open_store() as client:
            for name, run_id in record_files(client).items():
                print(f"{name}: MLflow run {run_id}")
    except (OSError, ValueError, sqlite3.Error) as error:
        sys.exit(f"error: {error}")
    print(f"compare them with `make ui`; the store is {shown_uri()}")


if __name__ == "__main__":
    main()
