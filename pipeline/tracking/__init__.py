"""All that calls MLflow: the record of a training, its run, the registry and the store."""
