"""The inner loop."""
