"""The data set: all that the rest of the pipeline knows of MNIST is defined here."""
