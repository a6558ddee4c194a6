"""Reading of model scripts."""
