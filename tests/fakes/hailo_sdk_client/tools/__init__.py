"""The compiler's own tools."""
