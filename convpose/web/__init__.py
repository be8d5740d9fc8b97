"""The web page of `convpose.app`."""
