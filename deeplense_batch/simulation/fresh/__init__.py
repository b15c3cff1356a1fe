"""Images that are simulated as a network trains on them, so that it sees none of them twice."""

from __future__ import annotations
