"""Engines for exported networks, one file each; an engine is imported when it is used."""
