"""The served models: where they come from, how they run and reload, and their metrics."""
