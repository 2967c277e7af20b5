"""Accuracy and attack-detection reports, calibration, benchmarks."""
