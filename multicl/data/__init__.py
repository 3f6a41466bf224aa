"""Rows of any data set -> batches: sources, ids, mixtures, loading, held-out rows, the cache of decoded samples."""
