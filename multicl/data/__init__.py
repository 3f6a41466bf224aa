"""Rows of any data set -> batches: sources, ids, mixtures, loading, what is held out, what is kept in memory."""
