"""Figures of the paper: arrays and data frames in, a matplotlib Figure out. No disk, no torch."""
