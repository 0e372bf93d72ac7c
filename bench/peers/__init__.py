"""Other servers for bench.serving, each run in an environment of its own."""
