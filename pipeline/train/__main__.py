"""Trains every network of models/ and compares them: `python -m pipeline.train`.

Reads params.yaml and data/; writes weights, tables, pictures and the provenance to
artifacts/train/, and metrics/test_accuracy.json.
"""

from pipeline.core.stage import main

if __name__ == "__main__":
    main("train", "pipeline.train.trainers:run", __doc__)
