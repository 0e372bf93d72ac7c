"""Records in MLflow what the stages wrote and MLflow lacks, and prints where the runs can be seen:
`python -m pipeline.tracking`."""

import argparse
import sqlite3
import sys


def main() -> None:
    """Record every training and the study, and print the address of the curves."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tracking", description=__doc__)
    parser.add_argument(
        "--moved", action="store_true", help="first correct the store after the project was moved"
    )
    arguments = parser.parse_args()
    from rich.console import Console

    from pipeline.core.damage import explain
    from pipeline.core.params import load_params
    from pipeline.tracking import store  # which takes seconds to import
    from pipeline.tracking.runs import record_files

    try:
        if arguments.moved and store.DATABASE.exists():
            store.correct_addresses(store.DATABASE)
        with store.open_store() as client:
            record_files(client)
            experiment_id = store.open_experiment(client, load_params().tracking.experiment)
    except (OSError, ValueError, sqlite3.Error) as error:
        sys.exit(f"error: {explain(error)}")
    view = "compareRunsMode=CHART&workflowType=machine_learning"
    console = Console(highlight=False)  # unlike `print`, it lets its reader leave
    console.out(f"the store is {store.shown_uri()}; `make ui` serves it")
    console.out(f"the curves: {store.ui_url()}/#/experiments/{experiment_id}/runs?{view}")


if __name__ == "__main__":
    main()
