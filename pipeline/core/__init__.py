"""What every stage stands on: files, parameters, provenance, and the check of its own inputs."""
