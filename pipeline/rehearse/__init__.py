"""Builds, trains for two steps, saves and exports every network: the stage `rehearse`."""
