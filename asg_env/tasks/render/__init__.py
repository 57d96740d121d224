"""Rendering solids: the embedded stand-in for VisDA-17."""
