"""Serve a web page to try networks on."""
