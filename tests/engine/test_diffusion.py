from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_trainings import SETTINGS, At, crash, run
from torch import Tensor

from anchorlab.engine import Population, Run, TrainingPlan
from anchorlab.engine.diffusion import DiffusionMember, DiffusionProblem, NoiseSchedule, Pictures, Target
from anchorlab.errors import InputError
from anchorlab.models.denoiser import Denoiser, build_denoiser, draw_uniform, load_denoiser

SCHEDULE = NoiseSchedule(20, 1e-3, 0.3)
FEW = TrainingPlan(steps=12, evaluate_every=2, checkpoint_every=4)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def member(seed: int, rate: float = 0.5, rows: int = 12) -> DiffusionMember:
    def initialize(denoiser: Denoiser) -> None:
        draw_uniform(denoiser, rate, generator(seed))

    pictures = Pictures(torch.rand(rows, 3, 8, 8, generator=generator(seed)), torch.eye(4)[torch.arange(rows) % 4])
    return DiffusionMember({"train": pictures}, initialize, noise_seed=seed)


def problem(seeds: list[int], batch_size: int = 4, target: Target = "noise", rows: int = 12) -> DiffusionProblem:
    members = [member(seed, rate=0.4 + 0.1 * seed, rows=rows) for seed in seeds]
    denoiser = build_denoiser(8, 8, 1, (3, 1))
    return DiffusionProblem(denoiser, members, schedule=SCHEDULE, target=target, batch_size=batch_size)


def test_noising_step_by_step_has_the_closed_forms_mean_and_variance() -> None:
    # x_t = sqrt(1 - b) x_(t-1) + sqrt(b) e, one step after another, against the jump from x_0 to x_t.
    image = torch.full((20_000, 1, 1, 1), 3.0, dtype=torch.float64)
    random, stepped = generator(0), image.clone()
    for step, beta in enumerate(torch.linspace(1e-3, 0.3, 20, dtype=torch.float64), start=1):
        noise = torch.randn(stepped.shape, dtype=torch.float64, generator=random)
        stepped = (1 - beta).sqrt() * stepped + beta.sqrt() * noise
        steps = torch.full((len(image),), step)
        mean = SCHEDULE.noised(image, torch.zeros_like(image), steps)[0, 0, 0, 0]
        deviation = SCHEDULE.noised(torch.zeros_like(image), torch.ones_like(image), steps)[0, 0, 0, 0]
        assert stepped.mean().item() == pytest.approx(mean.item(), abs=0.03)
        assert stepped.std().item() == pytest.approx(deviation.item(), rel=0.03)
        assert mean.item() ** 2 / 9 + deviation.item() ** 2 == pytest.approx(1)


def test_every_image_is_noised_to_its_own_step() -> None:
    images, noise = torch.randn(3, 2, 2, 2, 2, generator=generator(0))[:2].unbind(0)
    together = SCHEDULE.noised(images, noise, torch.tensor([1, 20]))
    for row, step in enumerate((1, 20)):
        alone = SCHEDULE.noised(images[row : row + 1], noise[row : row + 1], torch.tensor([step]))
        assert torch.equal(together[row : row + 1], alone)


@pytest.mark.parametrize("target", ["noise", "image"])
def test_sampling_with_the_truth_about_one_image_gives_that_image(target: Target) -> None:
    image = torch.rand(3, 4, 4, generator=generator(1))

    def oracle(images: Tensor, times: Tensor, concepts: Tensor) -> Tensor:
        kept = SCHEDULE.kept[(times * 20).round().long() - 1].float()[:, None, None, None]
        return (images - kept.sqrt() * image) / (1 - kept).sqrt() if target == "noise" else image.expand_as(images)

    made = SCHEDULE.sample(oracle, target, torch.zeros(5, 4), (3, 4, 4), generator(2))
    torch.testing.assert_close(made, image.expand(5, 3, 4, 4), atol=1e-5, rtol=0)


def test_sampling_with_the_true_noise_of_a_normal_law_gives_that_law() -> None:
    # For x_0 ~ N(m, s^2) the best guess of the noise is linear in x_t; no image is told to the sampler.
    fine, mean, variance = NoiseSchedule(400, 1e-4, 0.03), 0.7, 0.25

    def oracle(images: Tensor, times: Tensor, concepts: Tensor) -> Tensor:
        kept = fine.kept[(times * 400).round().long() - 1].float()[:, None, None, None]
        return (1 - kept).sqrt() * (images - kept.sqrt() * mean) / (kept * variance + 1 - kept)

    made = fine.sample(oracle, "noise", torch.zeros(5_000, 1), (1, 1, 1), generator(3))
    assert made.mean().item() == pytest.approx(mean, abs=0.03)
    assert made.var().item() == pytest.approx(variance, rel=0.1)


def test_batches_hold_training_pictures_with_the_noise_that_was_added() -> None:
    one = problem([0, 1])
    batch = one.batch([0, 1], 7)
    assert batch.images.shape == (2, 4, 3, 8, 8)
    steps = (batch.times * 20).round().long()
    assert steps.min() >= 1
    assert steps.max() <= 20
    for index in (0, 1):
        pictures = member(index).splits["train"]
        for image, noise, step, concept in zip(
            batch.images[index], batch.wanted[index], steps[index], batch.concepts[index], strict=True
        ):
            kept = SCHEDULE.kept[step - 1].float()
            clean = (image - (1 - kept).sqrt() * noise) / kept.sqrt()
            distances = (pictures.images - clean).abs().amax((1, 2, 3))
            assert distances.min() < 1e-4
            assert torch.equal(pictures.concepts[distances.argmin()], concept)


def test_batches_for_images_want_the_clean_pictures() -> None:
    noise, image = problem([0]).batch([0], 3), problem([0], target="image").batch([0], 3)
    assert torch.equal(noise.images, image.images)
    kept = SCHEDULE.kept[(image.times[0] * 20).round().long() - 1].float()[:, None, None, None]
    mixed = kept.sqrt() * image.wanted[0] + (1 - kept).sqrt() * noise.wanted[0]
    torch.testing.assert_close(mixed, image.images[0])


def test_batches_follow_from_seed_and_step_alone() -> None:
    one, other = problem([0, 1, 2]), problem([0, 1, 2])
    one.batch([0, 1, 2], 3)
    for a, b in zip(one.batch([1], 8), other.batch([0, 1, 2], 8), strict=True):
        assert torch.equal(a[0], b[1])
    assert not torch.equal(one.batch([1], 8).wanted, one.batch([1], 9).wanted)
    assert not torch.equal(one.batch([1], 8).wanted, one.batch([2], 8).wanted)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    (trained,) = run(problem([0]), tmp_path_factory.mktemp("trained"))
    return trained


def test_loss_is_the_squared_error_of_the_saved_denoiser(trained: Run) -> None:
    denoiser = load_denoiser(trained.folder / "model")
    batch = problem([0]).batch([0], 99)
    with torch.no_grad():
        error = (denoiser(batch.images[0], batch.times[0], batch.concepts[0]) - batch.wanted[0]).square().mean()
    stacked = {name: value[None] for name, value in denoiser.named_parameters()}
    assert problem([0]).loss(stacked, batch).item() == pytest.approx(error.item(), rel=1e-6)


def test_training_finds_more_of_the_noise(trained: Run) -> None:
    losses = trained.metrics().query("split == 'train' and metric == 'loss'").value
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


def test_a_member_trains_among_others_as_alone() -> None:
    together = Population(problem([0, 1, 2]), [SETTINGS] * 3)
    together.advance(0, 10)
    alone = Population(problem([1]), [SETTINGS])
    alone.advance(0, 10)
    for name, value in alone.member_parameters(0).items():
        torch.testing.assert_close(value, together.member_parameters(1)[name], atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two members that were trained without a break."""
    return run(problem([0, 1]), tmp_path_factory.mktemp("whole"), FEW)


@pytest.mark.parametrize("step", [2, 8])
def test_crash_and_resume_is_bit_identical(whole: list[Run], tmp_path: Path, step: int) -> None:
    broken = replace(FEW, observers=(At(step, crash),))
    with pytest.raises(RuntimeError, match="went away"):
        run(problem([0, 1]), tmp_path, broken)
    for a, b in zip(run(problem([0, 1]), tmp_path, FEW), whole, strict=True):
        assert a.metrics().equals(b.metrics())
        found = weights(a)
        assert all(torch.equal(found[name], value) for name, value in weights(b).items())


def weights(opened: Run) -> dict[str, Tensor]:
    return dict(load_denoiser(opened.folder / "model").state_dict())


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_weights_are_uniform_within_the_fan_in_bound(rate: float) -> None:
    denoiser = build_denoiser(16, 32, 2, (2, 1, 3))
    draw_uniform(denoiser, rate, generator(0))
    parameters = dict(denoiser.named_parameters())
    # name: fan-in, as PyTorch counts it
    for name, fan_in in {"first.3": 32 * 9, "down_coarse.0": 32 * 9, "up_fine.0": 32 * 4, "time_fine.2": 32}.items():
        bound = fan_in**-rate
        values = parameters[f"{name}.weight"]
        assert bound * 0.98 < values.abs().max() <= bound
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert 0.7 * bound < parameters[f"{name}.bias"].abs().max() <= bound
    assert (parameters["first.1.gain"] == 1).all()
    assert (parameters["first.1.shift"] == 0).all()


def test_two_rates_give_the_same_weights_up_to_scale() -> None:
    small, large = (build_denoiser(8, 8, 1, (3, 1)) for _ in range(2))
    draw_uniform(small, 0.9, generator(4))
    draw_uniform(large, 0.5, generator(4))
    torch.testing.assert_close(small.time_fine[2].weight * 8**0.4, large.time_fine[2].weight)


def test_the_brightness_of_an_image_reaches_the_prediction() -> None:
    denoiser = build_denoiser(8, 8, 1, (3, 1))
    draw_uniform(denoiser, 0.5, generator(0))
    dark, time, concepts = torch.full((1, 3, 8, 8), -1.0), torch.tensor([0.5]), torch.ones(1, 4)
    with torch.no_grad():
        change = denoiser(dark + 2, time, concepts) - denoiser(dark, time, concepts)
    assert change.mean((2, 3)).abs().max() > 1e-2


def test_the_prediction_for_an_image_depends_on_its_own_concepts_and_time_only() -> None:
    denoiser = build_denoiser(8, 8, 1, (3, 1))
    draw_uniform(denoiser, 0.5, generator(0))
    images, times = torch.randn(4, 3, 8, 8, generator=generator(1)), torch.tensor([0.1, 0.5, 0.5, 0.5])
    concepts = torch.tensor([[1, 0, 0, 1.0], [1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 2]])
    with torch.no_grad():
        together = denoiser(images, times, concepts)
        for row in range(4):
            one = slice(row, row + 1)
            torch.testing.assert_close(denoiser(images[one], times[one], concepts[one]), together[one])
        same = denoiser(images[:1].expand(4, -1, -1, -1), times, concepts)
    assert all((same[0] - same[row]).abs().max() > 1e-4 for row in (1, 2, 3))
    assert (same[1] - same[2]).abs().max() > 1e-4
    assert (same[1] - same[3]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseSchedule(1, 0.1, 0.2), "noise_steps=1: must be at least 2"),
        (lambda: NoiseSchedule(10, 0.2, 0.1), "noise=0.2..0.1: must rise"),
        (lambda: NoiseSchedule(10, 0.0, 0.1), "noise=0..0.1: must rise between 0 and 1"),
        (lambda: NoiseSchedule(10, 0.1, 1.0), "noise=0.1..1: must rise between 0 and 1"),
        (lambda: build_denoiser(10, 8, 1, (1,)), "pixels=10: must be a positive multiple of 4"),
        (lambda: build_denoiser(8, 0, 1, (1,)), "channels: must be an integer of at least 1, got 0"),
        (lambda: load_denoiser(Path("nowhere")), "folder: nowhere holds no saved denoiser"),
        (lambda: build_denoiser(8, 8, 0, (1,)), "depth: must be an integer of at least 1, got 0"),
        (lambda: problem([0], batch_size=0), "batch_size=0: must be at least 1"),
        (lambda: problem([0], rows=0), "splits: there is no picture in 'train'"),
    ],
)
def test_wrong_values_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
