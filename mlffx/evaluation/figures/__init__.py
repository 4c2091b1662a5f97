"""Figures: made from plain arrays, legible at a glance, colour-blind safe, written as PDF and PNG."""
