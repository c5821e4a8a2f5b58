"""Blocks that three or more architectures use unchanged, and generation."""
