"""The chroma and difference keyers on drawn screens and plates, with and without a network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidmatte.errors import UsageError
from vidmatte.models.keyer import (
    ChromaKeyer,
    CleanPlate,
    DifferenceSettings,
    KeySettings,
    Screen,
    add_core,
    combine_with_plate,
    find_screen,
)

WIDTH, HEIGHT = 640, 360
GREEN, BLUE = (0.10, 0.62, 0.18), (0.08, 0.2, 0.65)


def soft_subject() -> np.ndarray:
    """An alpha with a hard body and thin strands, (H, W) float32."""
    big = np.zeros((4 * HEIGHT, 4 * WIDTH), np.uint8)
    cv2.ellipse(big, (1280, 900), (320, 520), 0, 0, 360, 255, -1)
    for angle in np.linspace(0, np.pi, 40):
        end = int(1280 + 480 * np.cos(angle)), int(600 - 440 * np.sin(angle))
        cv2.line(big, (1280, 600), end, 255, 6)
    return cv2.resize(big.astype(np.float32) / 255, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


ALPHA = soft_subject()


def light() -> np.ndarray:
    """Uneven light over a screen, (H, W) float32."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    fall = 1.1 - 0.5 * ((x / WIDTH - 0.4) ** 2 + (y / HEIGHT - 0.35) ** 2)
    return fall * (0.8 + 0.3 * x / WIDTH)


def on_screen(
    colour: tuple[float, float, float],
    body: tuple[float, float, float] = (0.7, 0.5, 0.4),
    noise: float = 3,
    shadow: float = 0.0,
) -> np.ndarray:
    """A composite of the subject over an unevenly lit screen, (H, W, 3) uint8."""
    shade = cv2.GaussianBlur(np.roll(ALPHA, (12, 60), (0, 1)), (0, 0), 18) * shadow
    ground = np.float32(colour) * (light() * (1 - shade))[..., None]
    picture = np.float32(body) * ALPHA[..., None] + ground * (1 - ALPHA[..., None])
    random = np.random.default_rng(0)
    noisy = picture * 255 + random.normal(0, noise, picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def mad(alpha: np.ndarray, truth: np.ndarray = ALPHA) -> float:
    return 1000 * float(np.abs(alpha - truth).mean())


@pytest.mark.parametrize(("colour", "name"), [(GREEN, "green"), (BLUE, "blue")])
def test_the_screen_is_found(colour: tuple[float, float, float], name: str):
    screen = find_screen(on_screen(colour))
    assert screen.primary == name
    assert screen.difference == pytest.approx(Screen(*colour).difference, rel=0.25)


@pytest.mark.parametrize("colour", [GREEN, BLUE], ids=["green", "blue"])
def test_uneven_light_is_compensated(colour: tuple[float, float, float]):
    picture = on_screen(colour)
    local = ChromaKeyer().alpha(picture)
    flat = ChromaKeyer(settings=KeySettings(local=False, low=0.12)).alpha(picture)
    assert mad(local) < 4
    assert mad(local) < 0.6 * mad(flat)
    assert local[:40, :200].max() < 0.02
    assert local[200:280, 300:340].min() > 0.98


def test_strands_stay_soft():
    alpha = ChromaKeyer().alpha(on_screen(GREEN))
    band = (ALPHA > 0.2) & (ALPHA < 0.8)
    assert np.abs(alpha - ALPHA)[band].mean() < 0.17
    assert np.corrcoef(alpha[band], ALPHA[band])[0, 1] > 0.7


def test_noise_on_the_screen_does_not_show():
    noisy = ChromaKeyer().alpha(on_screen(GREEN, noise=9))
    assert (noisy[:60, :200] > 0.02).mean() < 0.02


def test_shadows_are_dropped_or_kept():
    picture = on_screen(GREEN, shadow=0.5)
    dropped = ChromaKeyer().alpha(picture)
    kept = ChromaKeyer(settings=KeySettings(keep_shadows=True)).alpha(picture)
    shaded = np.s_[300:350, 412:440]
    assert dropped[shaded].mean() < 0.05
    assert kept[shaded].mean() > dropped[shaded].mean() + 0.05


def test_green_clothes_need_the_networks_core():
    picture = on_screen(GREEN, body=(0.25, 0.55, 0.25))
    key = ChromaKeyer().alpha(picture)
    repaired = add_core(key, ALPHA)
    assert mad(repaired) < 0.5 * mad(key)
    outside = ALPHA == 0
    assert np.abs(repaired - key)[outside].max() < 0.01


def test_a_missing_screen_is_reported_in_one_line():
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    with pytest.raises(UsageError, match="no green or blue screen"):
        ChromaKeyer().alpha(grey)
    with pytest.raises(UsageError, match="neither green nor blue enough"):
        ChromaKeyer(Screen(0.5, 0.5, 0.5))
    with pytest.raises(UsageError, match="low < high"):
        KeySettings(low=0.9, high=0.2)


def test_a_given_screen_colour_is_used():
    picture = on_screen(GREEN)
    picture[:30], picture[:, :30], picture[:, -30:] = (
        128,
        128,
        128,
    )  # the border shows something else
    alpha = ChromaKeyer(Screen(*GREEN)).alpha(picture)
    assert mad(alpha[60:-20, 60:-60], ALPHA[60:-20, 60:-60]) < 12


def scene(
    noise: float = 3, gain: float = 1.0, faint: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A frame with the subject, and its plate; ``gain``: of the frame's light. faint: a subject
    of nearly the background's colour."""
    random = np.random.default_rng(1)
    coarse = random.uniform(0.2, 0.8, (9, 16, 3)).astype(np.float32)
    ground = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    body = ground + np.float32((0.12, -0.08, 0.1)) if faint else np.float32((1.0, 0.0, 0.0))
    picture = gain * (body * ALPHA[..., None] + ground * (1 - ALPHA[..., None]))
    frame, plate = (
        np.clip(np.rint(p * 255 + random.normal(0, noise, p.shape)), 0, 255).astype(np.uint8)
        for p in (picture, ground)
    )
    return frame, plate


def blind_network() -> np.ndarray:
    """The true alpha, with the lower body missing and a false piece of background."""
    alpha = ALPHA.copy()
    alpha[250:] = 0
    alpha[20:80, 20:100] = 0.6
    return alpha


def test_a_plate_repairs_what_the_network_missed():
    frame, plate = scene()
    network = blind_network()
    result = combine_with_plate(network, CleanPlate(plate).difference(frame, network))
    assert mad(result) < 0.35 * mad(network)
    assert result[20:80, 20:100].mean() < 0.05
    assert result[260:340, 280:360].mean() > 0.9


def test_a_plate_does_no_harm_where_the_network_is_right():
    frame, plate = scene()
    result = combine_with_plate(ALPHA, CleanPlate(plate).difference(frame, ALPHA))
    assert mad(result) < 4


def test_a_change_of_light_is_fitted():
    frame, plate = scene(gain=1.2, faint=True)
    fitted = CleanPlate(plate).difference(frame, ALPHA)
    plain = CleanPlate(plate, DifferenceSettings(fit_light=False)).difference(frame, ALPHA)
    outside = cv2.dilate((ALPHA > 0).astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
    inside = ALPHA > 0.99
    assert fitted[outside].mean() < 0.01
    assert fitted[inside].mean() > plain[inside].mean() + 0.2


def test_a_plate_of_one_colour_and_of_another_size():
    flat = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    assert CleanPlate(flat).difference(flat).max() == 0
    with pytest.raises(UsageError, match="clean plate is 640x360"):
        CleanPlate(flat).difference(flat[:100])
    with pytest.raises(UsageError, match="shape"):
        CleanPlate(flat[..., 0])
