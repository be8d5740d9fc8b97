"""Pictures, tables and curves; returns arrays, figures and strings."""
