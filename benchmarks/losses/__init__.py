"""Shared by the loss benchmarks: inputs, implementations, a float64 reference, floors, memory, worker processes."""
