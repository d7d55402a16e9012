"""Export: a diffusers model -> one ONNX graph for each number of steps -> parity gate -> bundle -> plans for GPUs.

`exporter.export_bundle` needs the `export` extra (torch, diffusers, transformers, onnx). `plans.add_plans` needs
TensorRT alone, so that plans can be built where a bundle is used.
"""
