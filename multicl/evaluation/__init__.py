"""Evaluation measures of embeddings, one per file: plain functions of tensors that any loop can call."""

from multicl.evaluation.clustering import adjusted_rand_index, clustering, k_means, normalized_mutual_information
from multicl.evaluation.few_shot import few_shot
from multicl.evaluation.figure import Figure, Spread, intervals, spread
from multicl.evaluation.geometry import alignment, effective_rank, modality_gap, uniformity
from multicl.evaluation.knn import knn_accuracy, knn_labels
from multicl.evaluation.linear_probe import Probe, linear_probe, logistic_regression
from multicl.evaluation.retrieval import ranks, retrieval
from multicl.evaluation.sts import spearman, sts_mean_spearman, sts_spearman
from multicl.evaluation.triplets import triplet_accuracy
from multicl.evaluation.within import retrieval_within
from multicl.evaluation.zero_shot import class_vectors, filled, zero_shot, zero_shot_accuracy

__all__ = [
    "Figure",
    "Probe",
    "Spread",
    "adjusted_rand_index",
    "alignment",
    "class_vectors",
    "clustering",
    "effective_rank",
    "few_shot",
    "filled",
    "intervals",
    "k_means",
    "knn_accuracy",
    "knn_labels",
    "linear_probe",
    "logistic_regression",
    "modality_gap",
    "normalized_mutual_information",
    "ranks",
    "retrieval",
    "retrieval_within",
    "spearman",
    "spread",
    "sts_mean_spearman",
    "sts_spearman",
    "triplet_accuracy",
    "uniformity",
    "zero_shot",
    "zero_shot_accuracy",
]
