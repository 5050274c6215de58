"""One HTTP call: the session, its limits, the classification of what goes wrong, the token."""
