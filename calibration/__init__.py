"""Good pictures -> memory bank and thresholds; pseudo-defects and pre-training; evaluation."""
