"""Scripts that measure, pretrain and replay, and what they share."""
