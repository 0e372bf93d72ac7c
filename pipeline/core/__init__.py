"""Shared by all stages: files, parameters, provenance, and the check of its own inputs."""
