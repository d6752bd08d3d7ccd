"""Enrolment, agents, operators' keys."""
