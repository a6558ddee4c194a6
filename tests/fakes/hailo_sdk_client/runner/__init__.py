"""The one class that users call."""
