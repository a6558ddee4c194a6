"""The reference systems' models, built from scratch."""
