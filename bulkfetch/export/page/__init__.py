"""A page about an export: one HTML file that needs nothing else, drawn from the journal alone."""
