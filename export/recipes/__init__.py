"""How checkpoints are trained: a recipe per family, one training loop. `python -m nicrt.export.recipes --help`."""
