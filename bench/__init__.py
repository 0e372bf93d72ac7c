"""Commands that measure speed against named peers and limits, each ratio within one run."""
