"""The triangles against closed forms, enumeration and matplotlib's point-in-polygon test."""

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from study.datasets import triangles
from study.errors import StudyError


def draw(n: int, seed: int = 1) -> np.ndarray:
    return triangles.vertices(n, np.random.default_rng(seed))


def shoelace_px2(vertices: np.ndarray) -> np.ndarray:
    x, y = vertices[..., 0], vertices[..., 1]
    area: np.ndarray = 0.5 * np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1))
    return area


def circumcentres(vertices: np.ndarray) -> np.ndarray:
    """The point at equal distance from the three corners: 2 (q - p) . c = |q|^2 - |p|^2."""
    sides = 2 * (vertices[:, 1:] - vertices[:, :1])
    squares = (vertices**2).sum(-1)
    return np.linalg.solve(sides, (squares[:, 1:] - squares[:, :1])[..., None])[..., 0]


def test_corners_of_the_equilateral_triangle_are_its_closed_form() -> None:
    half_side = 10.5 * np.sqrt(3) / 2
    expected = [[14, 24.5], [14 - half_side, 8.75], [14 + half_side, 8.75]]
    np.testing.assert_allclose(triangles.corners(np.array([[90.0, 210, 330]]))[0], expected)


def test_vertices_are_centred_and_on_a_circle_of_the_released_radius() -> None:
    vertices = draw(500)
    np.testing.assert_allclose(vertices.mean(1), 14, atol=1e-12)
    radii = np.linalg.norm(vertices - circumcentres(vertices)[:, None], axis=-1)
    np.testing.assert_allclose(radii, 10.5, rtol=1e-9)


def test_angles_fill_the_released_range() -> None:
    vertices = draw(50_000)
    x, y = np.moveaxis(vertices - circumcentres(vertices)[:, None], -1, 0)
    offsets_deg = (np.rad2deg(np.arctan2(y, x)) - 120 * np.arange(3) - 5) % 360 + 5
    assert offsets_deg.min() >= 10
    assert offsets_deg.max() <= 120 + 2 * np.pi
    assert offsets_deg.min() < 10.5
    assert offsets_deg.max() > 119.5 + 2 * np.pi
    # mean of 10 + 110 U + 2 pi U', U and U' uniform on (0, 1): 65 + pi
    np.testing.assert_allclose(offsets_deg.mean(0), 65 + np.pi, atol=0.6)


def test_one_rotation_serves_all_three_vertices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangles, "ANGLE_SPAN_DEG", 0.0)
    vertices = draw(20)
    np.testing.assert_allclose(shoelace_px2(vertices), 3 * np.sqrt(3) / 4 * 10.5**2)
    assert np.ptp(vertices[:, 0], axis=0).max() > 0.1


def test_half_planes_are_counted_exactly() -> None:
    left_of_10_3 = np.array([[[10.3, -1e4], [10.3, 1e4], [-1e4, 14]]])
    picture = triangles.render(left_of_10_3)[0, 0]
    assert (picture[:, :10] == 0).all()
    assert (picture[:, 11:] == 255).all()
    # in column 10 the points at 1/16 and 3/16 are inside, 2 of 8: 255 * 6/8 = 191.25
    assert (picture[:, 10] == 191).all()
    above = triangles.render(left_of_10_3[..., ::-1])[0, 0]
    np.testing.assert_array_equal(above, picture.T)


def test_the_diagonal_is_enumerated() -> None:
    picture = triangles.render(np.array([[[0.0, 0], [28, 0], [0, 28]]]))[0, 0]
    i, j = np.indices((28, 28))
    assert (picture[i + j < 27] == 0).all()
    assert (picture[i + j > 27] == 255).all()
    # on the diagonal 8 + 7 + ... + 1 = 36 of 64 points are inside: 255 * 28/64 = 111.56
    assert (picture[i + j == 27] == 112).all()


def test_x_runs_along_columns_and_y_down_rows() -> None:
    top_right = triangles.render(np.array([[[27.0, 0], [28, 0], [28, 1]]]))[0, 0]
    assert np.argwhere(top_right < 255).tolist() == [[0, 27]]


def test_pixels_equal_matplotlibs_point_in_polygon() -> None:
    vertices = draw(6, seed=2)
    axis = (np.arange(224) + 0.5) / 8
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    for triangle, picture in zip(vertices, triangles.render(vertices)[:, 0], strict=True):
        inside = Polygon(triangle).contains_points(points).reshape(28, 8, 28, 8)
        np.testing.assert_array_equal(picture, np.rint(255 * (1 - inside.mean((1, 3)))))


def test_darkness_is_the_polygons_area() -> None:
    vertices = draw(400, seed=3)
    dark_px2 = (1 - triangles.render(vertices) / 255).sum((1, 2, 3))
    error_px2 = dark_px2 - shoelace_px2(vertices)
    # an edge along the grid, at most 21 px long, is off by up to half a subpixel of 1/8 px
    assert np.abs(error_px2).max() < 21 / 16
    assert abs(error_px2.mean()) < 0.02


def test_either_way_round_and_any_chunk_draws_the_same() -> None:
    vertices = draw(triangles.CHUNK + 3)
    pictures = triangles.render(vertices)
    assert pictures.shape == (triangles.CHUNK + 3, 1, 28, 28)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(triangles.render(vertices[:, ::-1]), pictures)
    for one, picture in zip(vertices, pictures, strict=True):
        np.testing.assert_array_equal(triangles.render(one[None])[0], picture)


def test_a_triangle_without_area_leaves_the_picture_white() -> None:
    assert (triangles.render(np.full((1, 3, 2), 14.0)) == 255).all()


def test_size_scales_the_canvas() -> None:
    assert triangles.render(draw(1), size=40).shape == (1, 1, 40, 40)
    np.testing.assert_array_equal(
        triangles.render(draw(1), size=40)[..., :28, :28], triangles.render(draw(1))
    )


def test_the_first_triangles_do_not_depend_on_how_many_are_drawn() -> None:
    np.testing.assert_array_equal(draw(5), draw(100)[:5])
    assert not np.array_equal(draw(5, seed=1), draw(5, seed=2))


def test_splits_have_the_released_sizes_and_share_no_triangle() -> None:
    parts = [triangles.split_vertices(split) for split in ("train", "held_out", "hold_out")]
    assert [part.shape for part in parts] == [(60_000, 3, 2), (10_000, 3, 2), (10_000, 3, 2)]
    assert len(np.unique(np.concatenate(parts).reshape(-1, 6), axis=0)) == 80_000
    np.testing.assert_array_equal(triangles.split_vertices("held_out"), parts[1])


def test_the_set_itself_is_pinned() -> None:
    """Fails where a change moves the data: then VERSION must be raised, or caches go stale."""
    assert triangles.VERSION == 1
    first = [[19.408236469, 23.062065878], [7.762618003, 16.345236126], [14.829145528, 2.592697996]]
    last = [[14.617174978, 23.187285966], [4.095186874, 7.027724714], [23.287638148, 11.78498932]]
    np.testing.assert_allclose(triangles.split_vertices("train")[0], first, atol=1e-8)
    np.testing.assert_allclose(triangles.split_vertices("hold_out")[-1], last, atol=1e-8)


def test_bad_input_is_told_in_one_line() -> None:
    with pytest.raises(StudyError, match=r"unknown split 'test'.*train, held_out, hold_out"):
        triangles.split_vertices("test")
    with pytest.raises(StudyError, match=r"shape \(3, 2\); allowed: \(n, 3, 2\)"):
        triangles.render(np.zeros((3, 2)))
    with pytest.raises(StudyError, match="all finite"):
        triangles.render(np.full((1, 3, 2), np.nan))
