"""Agents: scripts that also import. They know the environments by ``gymnasium.make`` only."""
