"""Trains every network of models/ on the data set, all at once: the stage `train`."""
