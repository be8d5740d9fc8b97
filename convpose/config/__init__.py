"""From the command line to objects: Hydra, the allow-list, the schema of each key."""
