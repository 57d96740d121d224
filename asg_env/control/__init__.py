"""What the agent sees and does: the meter, observations, actions and windows."""
