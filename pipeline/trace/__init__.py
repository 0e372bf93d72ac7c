"""Walks from an answer back to the data, checking every link: `python -m pipeline.trace`."""
