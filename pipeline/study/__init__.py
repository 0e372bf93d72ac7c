"""What batch normalisation buys: its claims put to the test with many seeds, and a report."""
