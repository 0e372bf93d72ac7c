"""Makes the certified model the champion, or reports why not: `python -m pipeline.promote`.

Reads the model, its certificate and the test images; records in MLflow what is missing there,
registers the model, compares it with the champion and writes artifacts/promotion.json. The same
model is not judged twice in a row. With --roll-back, the previous champion is the champion again.
"""

import argparse

from pipeline.core.stage import run_stage


def main() -> None:
    """Promote the model in artifacts/, or roll back the last promotion."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.promote", description=__doc__)
    parser.add_argument("--roll-back", action="store_true", help="undo the last promotion")
    if parser.parse_args().roll_back:
        command = f"{parser.prog} --roll-back"
        run_stage("promote", "pipeline.promote.roll_back:roll_back", command)
    else:
        run_stage("promote", "pipeline.promote.promotion:promote")


if __name__ == "__main__":
    main()
