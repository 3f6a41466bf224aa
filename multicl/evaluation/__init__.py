"""Measures of embeddings, one a file: plain functions of tensors that any loop can call."""

from multicl.evaluation.geometry import alignment, effective_rank, modality_gap, uniformity
from multicl.evaluation.knn import knn_accuracy
from multicl.evaluation.linear_probe import Probe, linear_probe, logistic_regression
from multicl.evaluation.retrieval import ranks, retrieval
from multicl.evaluation.sts import spearman, sts_mean_spearman, sts_spearman
from multicl.evaluation.zero_shot import class_vectors, filled, zero_shot

__all__ = [
    "Probe",
    "alignment",
    "class_vectors",
    "effective_rank",
    "filled",
    "knn_accuracy",
    "linear_probe",
    "logistic_regression",
    "modality_gap",
    "ranks",
    "retrieval",
    "spearman",
    "sts_mean_spearman",
    "sts_spearman",
    "uniformity",
    "zero_shot",
]
