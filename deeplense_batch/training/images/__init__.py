"""What a job learns from on this machine: loaders of its images, checked and normalised alike."""

from __future__ import annotations
