"""OpenVINO GenAI's Text2ImagePipeline: openvino_genai_pipeline.py MODEL f32|bf16.

optimum-intel 2.2 cannot convert a tiny autoencoder ("latent_dist"), so the components are converted here, by OpenVINO
itself, with the names that GenAI expects. Its shapes are fixed, which is its fastest.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import openvino  # type: ignore[import-untyped]
import openvino_genai  # type: ignore[import-not-found]
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from openvino_tokenizers import convert_tokenizer  # type: ignore[import-not-found]
from serving import picture_size, serve  # type: ignore[import-not-found]
from transformers import CLIPTextModel, CLIPTokenizer


class Text(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(input_ids)
        return output.last_hidden_state, output.pooler_output


class Unet(Text):
    def forward(  # type: ignore[override]
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        return self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Decoder(Text):
    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.model.decode(latent_sample, return_dict=False)[0]


def main(model: str, precision: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        convert(Path(model), Path(folder))
        pipeline = openvino_genai.Text2ImagePipeline(folder)
        size = picture_size(model)
        pipeline.reshape(1, size, size, 1.0)
        pipeline.compile("CPU", INFERENCE_PRECISION_HINT=precision)

        def draw(prompt: str, seed: int) -> object:
            random = openvino_genai.CppStdGenerator(seed)
            options = {"width": size, "height": size, "num_inference_steps": 1, "guidance_scale": 1.0}
            return pipeline.generate(prompt, generator=random, **options).data

        serve(draw, version=f"openvino-genai {openvino_genai.__version__}", decoder="AutoencoderTiny")


@torch.no_grad()
def convert(model: Path, folder: Path) -> None:
    """The diffusers folder as GenAI reads it; each component is freed before the next."""
    text = Text(CLIPTextModel.from_pretrained(model / "text_encoder"))
    _save(text, {"input_ids": torch.zeros(1, 77, dtype=torch.int64)}, model, folder, "text_encoder")
    del text
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    sample = torch.zeros(1, 4, unet.config.sample_size, unet.config.sample_size)
    states = torch.zeros(1, 77, unet.config.cross_attention_dim)
    inputs = {"sample": sample, "timestep": torch.tensor([999]), "encoder_hidden_states": states}
    _save(Unet(unet), inputs, model, folder, "unet")
    del unet
    vae = AutoencoderTiny.from_pretrained(model / "vae")
    _save(Decoder(vae), {"latent_sample": sample}, model, folder, "vae_decoder", "vae")
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    converted = convert_tokenizer(tokenizer, max_length=77, use_max_padding=True)
    openvino.save_model(converted, folder / "tokenizer" / "openvino_tokenizer.xml")
    shutil.copytree(model / "scheduler", folder / "scheduler")
    index = json.loads((model / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderKL"]  # the only one that GenAI knows; it runs whatever decoder is there
    (folder / "model_index.json").write_text(json.dumps(index))


def _save(module: torch.nn.Module, inputs: dict[str, Any], model: Path, folder: Path, name: str, of: str = "") -> None:
    converted = openvino.convert_model(torch.export.export(module.eval(), (), kwargs=inputs))
    openvino.save_model(converted, folder / name / "openvino_model.xml", compress_to_fp16=False)
    config = json.loads((model / (of or name) / "config.json").read_text())
    (folder / name / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main(*sys.argv[1:])
