"""Metrics, the ALOE loop, the report and the viewer."""
