"""Embeddings of any modality in a vector database (LanceDB, embedded): filled, searched, and shown as a page."""

from multicl.search.fill import Added
from multicl.search.index import Hit, Index

__all__ = ["Added", "Hit", "Index"]
