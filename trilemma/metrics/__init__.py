"""Metrics: plain functions of arrays (reference, samples) that return a value with its interval."""
