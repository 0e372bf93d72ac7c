"""Puts the claims about batch normalization to the test, with many seeds: the stage `study`."""
