"""Embeddings of any modality in a vector database (LanceDB, embedded): filled, searched, and shown as a page."""

from multicl.search.index import Added, Hit, Index

__all__ = ["Added", "Hit", "Index"]
