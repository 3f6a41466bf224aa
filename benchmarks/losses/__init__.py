"""What the benchmarks of the losses share: inputs, implementations, a float64 reference, floors, memory, processes."""
