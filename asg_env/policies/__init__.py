"""Policies: the protocol, schedules, learned networks, their files."""
