"""What happens in one optimizer step: guidance and penalties."""
