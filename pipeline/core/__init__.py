"""Shared by all stages: files, parameters, provenance, Prefect, and how a stage runs."""
