"""What is right about pictures of composed captions, by a judge that sees what it is told to, and by the colours."""

import json
from pathlib import Path

import torch

from emoji_model import composition, judge
from emoji_model.painting import paint
from emoji_model.scenes import COLOURS, WORN, Scene, Thing
from pahi_rt.bench import markdown
from pahi_rt.bench.reports import generator

GROUNDS = torch.tensor([[0.97, 0.97, 0.97], [0.97, 0.9, 0.8]])


class Seer(judge.Judge):
    """Sees concept 0, two things, no hat, whatever it looks at."""

    def forward(self, views: torch.Tensor) -> judge.Answers:
        logits = [
            torch.nn.functional.one_hot(torch.tensor([row] * len(views)), size).float()
            for row, size in zip((0, 1, len(WORN)), self.sizes, strict=True)
        ]
        return judge.Answers(*logits)


def painter(scene: Scene, ground: torch.Tensor) -> torch.Tensor:
    """Two concepts, gray squares of two sizes, in one style."""
    drawings = torch.zeros(2, 1, 4, 128, 128, dtype=torch.uint8)
    drawings[0, 0, :, 32:96, 32:96], drawings[1, 0, :, 48:80, 48:80] = 128, 128
    drawings[:, :, 3] = drawings[:, :, 3].clamp(max=1) * 255
    return paint(scene, drawings, {}, ground)


def right(scene: Scene, shown: Scene) -> dict[str, bool]:
    """What the Seer says of pictures of `shown` where `scene` is asked for."""
    pictures = torch.cat([painter(shown, ground) for ground in GROUNDS])
    found = composition.judged(Seer(20), scene, pictures, composition.repaint(scene, painter, GROUNDS))
    assert all(len(values) == len(GROUNDS) for values in found.values())
    return {idea: bool(values.all()) for idea, values in found.items()}


def test_right_is_what_the_scene_asks_for() -> None:
    scene = Scene((Thing(0, "blue"),), number=2, background="red")
    ideas = dict.fromkeys(("thing", "number", "background", "colour"), True)
    assert right(scene, scene) == ideas | {"all": True}
    assert right(scene, Scene((Thing(0, "blue"),), number=2)) == ideas | {"background": False, "all": False}
    assert right(scene, Scene((Thing(0),), number=2, background="red")) == ideas | {"colour": False, "all": False}
    assert right(Scene((Thing(0), Thing(1))), Scene((Thing(0), Thing(1)))) == {
        "thing": False, "number": True, "all": False,
    }  # fmt: skip


def test_of_two_things_both_must_have_their_colours() -> None:
    scene = Scene((Thing(0, "blue"), Thing(1, "green")))
    assert right(scene, scene)["colour"]
    assert not right(scene, Scene((Thing(0, "blue"), Thing(1, "red"))))["colour"]
    assert not right(scene, Scene((Thing(0, "green"), Thing(1, "blue"))))["colour"]


def test_a_colour_is_one_of_all_and_of_none() -> None:
    scenes = composition.recoloured(Scene((Thing(0, "blue"),)))["colour 0"]
    assert [scene.things[0].colour for scene in scenes][0] == "blue"
    assert {scene.things[0].colour for scene in scenes} == {*COLOURS, None}
    assert composition.recoloured(Scene((Thing(0),))) == {}


def test_shares_are_counted_by_idea_and_by_kind() -> None:
    def given(*values: bool) -> torch.Tensor:
        return torch.tensor(values)

    rows = [("colour", {"thing": given(True, False), "all": given(True, False)}), ("pair", {"all": given(False)})]
    assert composition.shares(rows) == {"thing": 0.5, "all": 0.3333, "all colour": 0.5, "all pair": 0.0}


def test_the_report_of_the_generator_holds_the_shares() -> None:
    """`package` writes it, and the documents' tables read it."""
    path = Path(generator.__file__).parents[1] / "results" / "emoji-generator.json"
    measured = {"prompts": 200, "seeds": 4} | dict.fromkeys(("one_step", "two_steps", "drawings"), {"all": 0.5})
    report = json.loads(path.read_text()) | {"composition": measured}
    read = generator.GeneratorReport.from_dict(report)
    assert read.composition is not None
    assert read.composition.drawings == {"all": 0.5}


def test_the_table_has_every_idea_and_every_kind() -> None:
    path = Path(generator.__file__).parents[1] / "results" / "emoji-generator.json"
    ideas = ("thing", "colour", "background", "number", "worn", "all", *(f"all {kind}" for kind in composition.KINDS))
    columns = {name: dict.fromkeys(ideas, share) for name, share in (("one_step", 0.8), ("two_steps", 0.7))}
    measured = {"prompts": 200, "seeds": 4, "drawings": dict.fromkeys(ideas, 1)} | columns
    lines = markdown.TABLES["composition"](json.loads(path.read_text()) | {"composition": measured}).splitlines()
    assert lines[2] == "| each thing | 80.0 % | 70.0 % | 100.0 % |"
    assert len(lines) == 2 + len(ideas)
