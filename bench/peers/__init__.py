"""The servers that bench.serving compares with ours."""
