"""Proves that the deployed network answers as PyTorch does: the stage `certify`."""
