"""Embeddings of any modality in an embedded vector database (LanceDB): fill it, search it, serve it as a page."""

from multicl.search.fill import Added
from multicl.search.index import Hit, Index

__all__ = ["Added", "Hit", "Index"]
