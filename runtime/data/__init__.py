"""Streams of images in batches and image blocks."""
