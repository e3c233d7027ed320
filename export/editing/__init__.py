"""Code editing: the encoder improves the latents of one picture by gradient descent (Yang et al., NeurIPS 2020; Gao et
al., NeurIPS 2022). The decoder needs nothing for it."""

from .optimise import edit

__all__ = ["edit"]
