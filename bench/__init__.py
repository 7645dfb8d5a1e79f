"""Measures what the README says about speed: `python -m bench`. Nothing here is a test; machines differ."""
