"""The judge looks where the scene's things are, and is told what they are."""

import json
from pathlib import Path

import torch

from emoji_model import composition, judge
from emoji_model.scenes import COLOURS, WORN, Scene, Thing
from pahi_rt.bench import markdown
from pahi_rt.bench.reports import generator

PICTURES = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def test_a_single_thing_is_one_view_that_answers_everything() -> None:
    views, answers = judge.views_of(Scene((Thing(7, "blue"),), background="red", worn="crown"), PICTURES)
    assert views.shape == (3, 3, 64, 64)
    assert answers.concept.tolist() == [7] * 3
    assert answers.colour.tolist() == [list(COLOURS).index("blue")] * 3
    assert answers.ground.tolist() == [list(COLOURS).index("red")] * 3
    assert answers.number.tolist() == [0] * 3
    assert answers.worn.tolist() == [list(WORN).index("crown")] * 3


def test_two_things_are_a_whole_and_two_places() -> None:
    views, answers = judge.views_of(Scene((Thing(7), Thing(8, "red"))), PICTURES)
    assert views.shape == (9, 3, 64, 64)
    assert torch.equal(views[3:6], PICTURES[:, :, 32:96, :64])
    assert torch.equal(views[6:9], PICTURES[:, :, 32:96, 64:])
    assert answers.concept.tolist() == [judge.NONE] * 3 + [7] * 3 + [8] * 3
    assert answers.number.tolist() == [1] * 3 + [judge.NONE] * 6
    assert answers.ground.tolist() == [len(COLOURS)] * 9


def test_a_judge_answers_every_question() -> None:
    torch.manual_seed(0)
    answers = judge.Judge(20)(judge.whole(PICTURES))
    assert [part.shape[1] for part in vars(answers).values()] == [20, 12, 12, 3, 4]


class Seer(judge.Judge):
    """Sees concept 7 in blue on red, two things, no hat, whatever it looks at."""

    def forward(self, views: torch.Tensor) -> judge.Answers:
        blue, red = (list(COLOURS).index(word) for word in ("blue", "red"))
        rows = (7, blue, red, 1, len(WORN))
        logits = [
            torch.nn.functional.one_hot(torch.tensor([row] * len(views)), size).float()
            for row, size in zip(rows, self.sizes, strict=True)
        ]
        return judge.Answers(*logits)


def test_right_is_what_the_scene_asks_for() -> None:
    seer = Seer(20)
    right = composition.judged(seer, Scene((Thing(7, "blue"),), number=2, background="red"), PICTURES)
    assert {name: bool(values.all()) for name, values in right.items()} == {
        "thing": True, "number": True, "colour": True, "background": True, "all": True,
    }  # fmt: skip
    wrong = composition.judged(seer, Scene((Thing(7), Thing(8))), PICTURES)
    assert {name: bool(values.any()) for name, values in wrong.items()} == {
        "thing": False, "number": True, "all": False,
    }  # fmt: skip


def test_shares_are_counted_by_idea_and_by_kind() -> None:
    def right(*values: bool) -> torch.Tensor:
        return torch.tensor(values)

    rows = [("colour", {"thing": right(True, False), "all": right(True, False)}), ("pair", {"all": right(False)})]
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
