"""Playing, comparing and replaying policies."""
