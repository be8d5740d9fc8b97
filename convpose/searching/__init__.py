"""The search for good settings: Optuna's studies, shared by many workers."""
