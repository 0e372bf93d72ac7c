"""Deploys the model with Triton or KServe, or the server in a container."""
