"""What the scripts that train policies share."""
