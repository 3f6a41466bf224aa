"""What surrounds the loop: a run's folder, checkpoints, log, trackers, progress, validation, warnings."""
