"""Costs as ratios to a raw SDK span measured in the same process and run; `make bench` prints them, nothing is gated on them."""
