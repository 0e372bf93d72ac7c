"""Adapts the champion to the requests that a server has sampled: `python -m pipeline.adapt URL`.

URL is a server's that serves the champion with --sample and --poll; SERVE_TOKEN is its token. The
running statistics of batch normalization are estimated again from one half of the sample, and the
other half judges, without labels. The result becomes the challenger, or the champion if
adapt.unattended is true in params.yaml.
"""

import argparse
import sys
from pkgutil import resolve_name

from pipeline.core import files


def main() -> None:
    """Adapt once, or at every alarm until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.adapt", description=__doc__)
    add = parser.add_argument
    add("url", metavar="URL", help="of the server, such as http://127.0.0.1:8080")
    add("--fresh", action="store_true", help="empty the sample first, and wait until it is full")
    add("--watch", type=float, metavar="SECONDS", help="look for an alarm at this interval")
    arguments = parser.parse_args()
    if arguments.watch is not None and not 0 < arguments.watch < 86_400:
        parser.error(f"--watch must be from 0 to 86400 seconds, got {arguments.watch}")
    try:
        files.check_disk()
        if arguments.watch:
            resolve_name("pipeline.adapt.watch:watch")(arguments.url, arguments.watch)
        else:
            if arguments.fresh:  # it fills while the flow is imported
                resolve_name("pipeline.adapt.traffic:empty_sample")(arguments.url)
            run_flow = resolve_name("pipeline.core.flows:run_flow")
            run_flow("pipeline.adapt.flow:adapt", arguments.url)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing is lost, and the command can be run again")


if __name__ == "__main__":
    main()
