"""Find good settings with Optuna."""
