"""A training step and what it needs: looks, chunks, replay, memories, mining, norms, optimisers, monitors."""
