"""Answers: batch up to its boundary and speed after it, merged per window, over HTTP and in Python."""
