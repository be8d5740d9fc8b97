"""Turn a command line into objects: Hydra, the allow-list, the schema of each key."""
