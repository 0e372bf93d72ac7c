"""Decides whether the certified model becomes the champion: the stage `promote`."""
