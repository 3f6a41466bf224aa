"""Pages for people to look at: a run's report, a space of embeddings, a gallery of views."""
