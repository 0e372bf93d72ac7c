"""The Open Inference Protocol: from the body of a request to arrays, and back to a body."""
