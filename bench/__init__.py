"""Speed, measured beside named peers and limits, each ratio in one run."""
