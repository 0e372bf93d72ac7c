"""Checks that every exported network gives PyTorch's answers: the stage `certify`."""
