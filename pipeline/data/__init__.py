"""The data set: its files, digests, shape, classes and pixel scaling."""
