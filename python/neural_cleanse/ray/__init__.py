"""Scans over a Ray cluster: one model with a thousand classes, or a thousand models.

A model's classes are divided into blocks, and each block is a task. What comes of a class depends on nothing but the
class and the seed, so that the verdict is that of one machine.
"""

from ._run import Failure, Summary, scan

__all__ = ["Failure", "Summary", "scan"]
