"""Predictions, what-ifs, their check and results."""
