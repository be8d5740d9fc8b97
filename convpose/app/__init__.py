"""A web page to try networks on."""
