"""Runs the whole study: `python -m pipeline.study`."""

from pipeline.study.flow import main

if __name__ == "__main__":
    main()
