from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.image.prompt import SCENES, STYLES, plan_of
from services.image.render import Step, png_of, render


def steps_of(prompt: str, seed: int = 1, size: tuple[int, int] = (96, 64), **more: str) -> list[Step]:
    return list(render(plan_of(prompt, seed, **more), size, 4, lambda share: None))


def test_the_same_prompt_and_seed_give_the_same_bytes() -> None:
    first, second = (png_of(steps_of("sunset over mountains")[-1].pixels) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("other", [("sunset over hills", 1), ("sunset over mountains", 2), ("night mountains", 1)])
def test_another_word_or_seed_gives_another_picture(other: tuple[str, int]) -> None:
    here, there = steps_of("sunset over mountains")[-1].pixels, steps_of(*other)[-1].pixels
    assert np.abs(here.astype(int) - there.astype(int)).mean() > 3


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_is_a_picture_and_not_a_surface(scene: str) -> None:
    final = steps_of("anything", scene=scene)[-1].pixels
    assert final.shape == (64, 96, 3)
    assert len(np.unique(final.reshape(-1, 3) // 8, axis=0)) > 40


@pytest.mark.parametrize("style", STYLES)
def test_every_style_changes_the_picture(style: str) -> None:
    plain, styled = steps_of("a city", style="natural")[-1].pixels, steps_of("a city", style=style)[-1].pixels
    assert (style == "natural") == bool((plain == styled).all())


def test_words_choose_the_scene_the_colours_and_the_style() -> None:
    assert plan_of("a stormy OCEAN", 1).scene == "ocean"
    assert plan_of("galaxy, stars and a planet in the city", 1).scene == "space"
    assert plan_of("a pixel art castle", 1).style == "pixel"
    red, blue = (np.array(plan_of(f"a {word} thing", 1).palette.colours[2]) for word in ("red", "blue"))
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_steps_grow_in_size_and_come_nearer_to_the_picture() -> None:
    steps = steps_of("misty forest", size=(192, 128))
    sizes = [step.pixels.shape[0] for step in steps]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 128
    final = Image.fromarray(steps[-1].pixels)

    def error(step: Step) -> float:
        grown = np.asarray(Image.fromarray(step.pixels).resize(final.size, Image.Resampling.BILINEAR)).astype(int)
        return float(np.abs(grown - np.asarray(final)).mean())

    errors = [error(step) for step in steps]
    assert errors[0] > errors[-2] > errors[-1] == 0


def test_bands_have_no_seams() -> None:
    """A picture of several bands is the one that a single band gives."""
    import services.image.render as module

    plan, size = plan_of("ocean", 3), (128, 96)
    whole = module._paint(plan, size, range(96), 4)
    parts = np.vstack([module._paint(plan, size, range(start, start + 32), 4) for start in (0, 32, 64)])
    assert np.abs(whole.astype(int) - parts.astype(int)).max() <= 1


def test_the_work_ends_where_its_caller_says_so() -> None:
    class Enough(Exception):
        pass

    def stop(share: float) -> None:
        if share > 0.3:
            raise Enough

    with pytest.raises(Enough):
        list(render(plan_of("ocean", 3), (512, 512), 4, stop))


def test_a_png_is_a_png_of_that_size() -> None:
    data = png_of(steps_of("ocean")[-1].pixels, longest=48)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size) == ("PNG", (48, 32))
