"""Models: the frozen published generators of eq. (1), and the noise priors HI and PAHI of eqs. (3)-(9).

Training, evaluation and export share this package. It needs PyTorch, diffusers and transformers, which their extras
install.
"""
