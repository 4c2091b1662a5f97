"""Active learning: which structures to label next, from what a run does not know yet."""
