"""Ten ways to corrupt images, each with one fixed strength and always with the same result.

Each takes images (N, height, width) uint8, 0 black background to 255 white, and returns new ones.
Images with channels are not supported: the study, which corrupts images, has networks for 28 × 28.

Source: the kinds are after Mu and Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision",
2019, https://arxiv.org/abs/1906.02337; the strengths are ours
"""

import numpy as np
from scipy import ndimage

ANGLE = np.deg2rad(30)


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Return grey levels as uint8, cut off at 0 and 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def brightness(images: np.ndarray) -> np.ndarray:
    """Make every pixel 60 grey levels brighter."""
    return to_pixels(images + 60.0)


def contrast(images: np.ndarray) -> np.ndarray:
    """Bring every pixel nearer to middle grey, to 0.4 of its distance."""
    return to_pixels(127 + 0.4 * (images - 127.0))


def fog(images: np.ndarray) -> np.ndarray:
    """Halve every pixel, and add bright clouds of another shape for each image."""
    noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    clouds = ndimage.gaussian_filter(noise, (0, 4, 4), mode="wrap")
    clouds /= clouds.std()
    return to_pixels(0.5 * images + 80 + 12 * clouds)


def noise(images: np.ndarray) -> np.ndarray:
    """Add normally distributed noise with a standard deviation of 50 grey levels."""
    return to_pixels(images + np.random.default_rng(0).normal(0, 50, images.shape))


def blur(images: np.ndarray) -> np.ndarray:
    """Smooth with a Gaussian of standard deviation 2 pixels."""
    return to_pixels(ndimage.gaussian_filter(images.astype(np.float32), (0, 2, 2)))


def stripe(images: np.ndarray) -> np.ndarray:
    """Invert the left and the right quarter."""
    quarter = images.shape[2] // 4
    striped = images.copy()
    striped[:, :, :quarter] = 255 - striped[:, :, :quarter]
    striped[:, :, -quarter:] = 255 - striped[:, :, -quarter:]
    return striped


def warp(images: np.ndarray, source: list[list[float]]) -> np.ndarray:
    """Fill each pixel from `source` times its (row, column) distance from the center."""
    matrix = np.eye(3)
    matrix[1:, 1:] = source
    center = np.array([0, *images.shape[1:]]) / 2 - [0, 0.5, 0.5]
    values = images.astype(np.float32)
    return to_pixels(ndimage.affine_transform(values, matrix, center - matrix @ center, order=1))


def translate(images: np.ndarray) -> np.ndarray:
    """Shift by 2 pixels to the right."""
    return to_pixels(ndimage.shift(images, (0, 0, 2), order=0))


def rotate(images: np.ndarray) -> np.ndarray:
    """Turn by 30° counterclockwise."""
    cosine, sine = np.cos(ANGLE), np.sin(ANGLE)
    return warp(images, [[cosine, sine], [-sine, cosine]])


def shear(images: np.ndarray) -> np.ndarray:
    """Slant to the right: each row is shifted by 0.5 pixels more than the row below it."""
    return warp(images, [[1, 0], [0.5, 1]])


def scale(images: np.ndarray) -> np.ndarray:
    """Shrink to 0.7 of the size."""
    return warp(images, [[1 / 0.7, 0], [0, 1 / 0.7]])


# By the names of the functions.
PHOTOMETRIC = {f.__name__: f for f in (brightness, contrast, fog, noise, blur, stripe)}
GEOMETRIC = {f.__name__: f for f in (translate, rotate, shear, scale)}
CORRUPTIONS = PHOTOMETRIC | GEOMETRIC
