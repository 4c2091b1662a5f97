"""A study: many runs of one plan (crystals, kinds of potential, levels), trained, evaluated and told on one page."""
