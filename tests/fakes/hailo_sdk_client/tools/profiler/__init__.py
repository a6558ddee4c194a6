"""Reports of what a compiled network is expected to do."""
