"""Puts the model behind Triton or KServe, or the server into a container."""
