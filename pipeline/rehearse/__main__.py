"""Builds, trains for two steps, saves and exports every network: `python -m pipeline.rehearse`.

So what cannot work is refused before the first network is trained. Writes metrics/parameters.json,
the number of parameters of each network.
"""

from pipeline.core.stage import main

if __name__ == "__main__":
    main("rehearse", "pipeline.rehearse.rehearsal:rehearse", __doc__)
