"""Reads and writes MLflow: the store, the runs and the registry. Other rooms use only its types."""
