"""All that knows MLflow: the store, the runs and the registry. No other module imports it."""
