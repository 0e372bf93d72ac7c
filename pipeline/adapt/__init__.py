"""Adapts a trained network to images of another kind, without labels."""
