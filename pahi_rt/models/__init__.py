"""Models: frozen one-step generators of other people, and the noise priors HI and PAHI, eqs. (1) and (3)-(9).

What training, evaluation and export share. Needs PyTorch, diffusers and transformers, which those extras bring.
"""
