"""A second implementation of bundles and `.nic` files, written from docs/BUNDLE.md and docs/FORMAT.md alone.

It shares no line with nicrt and imports nothing but NumPy and the standard library: where the two disagree, the
documents are unclear or one of them is wrong. Slow and plain on purpose; it decodes and does not encode.
"""
