"""Checks that the deployed network gives PyTorch's answers: the stage `certify`."""
