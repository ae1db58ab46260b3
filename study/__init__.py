"""A PyTorch reproduction of "Are GANs Created Equal? A Large-Scale Study" (Lucic et al. 2018)."""

__version__ = "0.2.0"
