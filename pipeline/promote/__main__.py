"""Makes the certified model the champion, or reports why not: `python -m pipeline.promote`.

Reads the model, its certificate and the test images; records in MLflow what is missing there,
registers the model, compares it with the champion and writes artifacts/promotion.json. The same
model is not judged twice in a row. With --roll-back, the previous champion is the champion again;
with --champion, a version that `adapt` has made.
"""

import argparse

from pipeline.core.stage import run_stage


def main() -> None:
    """Promote the model in artifacts/ or an adapted one, or roll back the last promotion."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.promote", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--roll-back", action="store_true", help="undo the last promotion")
    choice.add_argument(
        "--champion", type=int, metavar="VERSION", help="make an adapted version the champion"
    )
    arguments = parser.parse_args()
    if arguments.roll_back:
        command = f"{parser.prog} --roll-back"
        run_stage("promote", "pipeline.promote.roll_back:roll_back", command)
    elif arguments.champion is not None:
        command = f"{parser.prog} --champion {arguments.champion}"
        make = "pipeline.promote.champion:make_champion"
        run_stage("promote", make, command, arguments.champion)
    else:
        run_stage("promote", "pipeline.promote.promotion:promote")


if __name__ == "__main__":
    main()
