"""Pairs and rectangles: what is asked for, cut into calls. Pure."""
