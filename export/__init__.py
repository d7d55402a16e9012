"""Export: a diffusers model -> one ONNX graph for each number of steps -> parity gate -> bundle.

Needs the `export` extra (torch, diffusers, transformers, onnx).
"""

from pahi_rt.export.bundle import export_bundle

__all__ = ["export_bundle"]
