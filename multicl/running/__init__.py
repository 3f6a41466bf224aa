"""What surrounds the training loop: a run's folder, checkpoints, log, trackers, progress, validation, warnings."""
