"""Runs the whole study: `python -m pipeline.study`.

Reads params.yaml and data/; writes tables, figures, verdicts and a report below artifacts/study/.
"""

from pipeline.core.stage import main

if __name__ == "__main__":
    main("study", "pipeline.study.outcome:run", __doc__)
