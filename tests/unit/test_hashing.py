"""Hash families: buckets, probes, and their bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.errors import CollectionError, UsageError
from simdist.hashing import (
    FAMILIES,
    GaussianFamily,
    HashFamily,
    HyperplanesFamily,
    KMeansFamily,
    dump_family,
    fit_family,
    lloyd,
    load_family,
    sample_size,
)
from simdist.hashing.kmeans import MAX_CENTROIDS, VECTORS_A_CENTROID, centroids_for
from simdist.hashing.projection import rounded
from simdist.hashing.signs import ranked_buckets
from simdist.vectors.checks import normalised


def clustered(count: int, *, dim: int = 32, seed: int = 1) -> NDArray[np.float32]:
    """Unit vectors around 20 centres."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((20, dim))
    vectors = centres[generator.integers(0, 20, count)] + generator.standard_normal((count, dim))
    return normalised(vectors.astype(np.float32))


def in_many_clusters(count: int, *, seed: int) -> NDArray[np.float32]:
    """Unit vectors in 64 dimensions around 400 centres, which are themselves around 20."""
    generator = np.random.default_rng(0)
    tops = generator.standard_normal((20, 64))
    centres = np.repeat(tops, 20, axis=0) + 0.7 * generator.standard_normal((400, 64))
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(0, 400, count)]
    vectors = vectors + 0.5 * generator.standard_normal((count, 64))
    return normalised(vectors.astype(np.float32))


FITTED: dict[str, HashFamily] = {}


@pytest.fixture(params=["kmeans", "kmeans in cells", "hyperplanes", "gaussian"])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> HashFamily:
    name = str(request.param)
    if name not in FITTED:
        if name == "kmeans in cells":
            monkeypatch.setattr(lloyd, "FLAT", 50)
            FITTED[name] = KMeansFamily.fit(clustered(2000), centroids=100)
        else:
            size = 62 if name == "kmeans" else 6
            FITTED[name] = fit_family(clustered(1000), kind=name, images=1000, size=size)
    return FITTED[name]


class TestEveryFamily:
    def test_first_probe_is_the_own_bucket(self, family: HashFamily) -> None:
        vectors = clustered(200, seed=2)
        buckets = family.buckets(vectors)
        assert buckets.shape == (200, family.tables)
        assert buckets.dtype == np.uint32
        np.testing.assert_array_equal(family.probes(vectors, 5)[:, :, 0], buckets)

    def test_all_probes_are_all_buckets_once(self, family: HashFamily) -> None:
        probes = family.probes(clustered(20, seed=3), family.size + 10)
        assert probes.shape == (20, family.tables, family.size)
        expected = np.broadcast_to(np.arange(family.size), probes.shape)
        np.testing.assert_array_equal(np.sort(probes, axis=2), expected)

    def test_fewer_probes_are_the_head_of_more(self, family: HashFamily) -> None:
        """In cells, but for a few: those for more probes are looked for in more cells."""
        vectors = clustered(50, seed=4)
        many, few = family.probes(vectors, 12), family.probes(vectors, 3)
        in_cells = isinstance(family, KMeansFamily) and len(family.cells) > 1
        assert (many[:, :, :3] == few).mean() >= (0.9 if in_cells else 1)

    def test_probes_find_neighbours_better_than_chance(self, family: HashFamily) -> None:
        """Probed buckets hold far more of a query's true neighbours than their share of rows."""
        stored, queries = clustered(2000, seed=5), clustered(100, seed=6)
        buckets, probes = family.buckets(stored), family.probes(queries, 4)
        nearest = np.argsort(-(queries @ stored.T), axis=1)[:, :10]
        read = np.stack(
            [(buckets[None, :, t, None] == probes[:, None, t]).any(2) for t in range(family.tables)]
        ).any(axis=0)
        recall = np.take_along_axis(read, nearest, axis=1).mean()
        assert recall > 1.8 * read.mean()

    def test_bytes_make_the_same_family(self, family: HashFamily) -> None:
        again = load_family(dump_family(family), dim=32)
        vectors = clustered(100, seed=7)
        np.testing.assert_array_equal(again.probes(vectors, 8), family.probes(vectors, 8))

    def test_no_vectors(self, family: HashFamily) -> None:
        none = np.empty((0, 32), np.float32)
        assert family.buckets(none).shape == (0, family.tables)
        assert family.probes(none, 4).shape == (0, family.tables, 4)


def test_kmeans_is_deterministic_and_puts_a_vector_at_its_nearest_centroid() -> None:
    sample = clustered(800)
    family, again = KMeansFamily.fit(sample), KMeansFamily.fit(sample)
    assert dump_family(family) == dump_family(again)
    assert family.size == 800 // VECTORS_A_CENTROID
    points = family.projection.points(*rounded(sample))
    distances = np.linalg.norm(points[:, None] - family.points[None], axis=2)
    own = np.take_along_axis(distances, family.buckets(sample).astype(np.intp), axis=1)
    np.testing.assert_allclose(own[:, 0], distances.min(axis=1), rtol=1e-4)
    assert dump_family(KMeansFamily.fit(sample, seed=1)) != dump_family(family)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 33])
def test_kmeans_of_few_images(count: int) -> None:
    family = KMeansFamily.fit(clustered(count))
    assert family.size == max(1, count // VECTORS_A_CENTROID)
    assert family.buckets(clustered(5)).max() < family.size


@pytest.mark.parametrize("size", [4, 600])
@pytest.mark.parametrize("different", [1, 5])
def test_kmeans_of_equal_images(size: int, different: int) -> None:
    """No two centroids are the same, one by one and in cells."""
    sample = np.repeat(clustered(different), 640 // different, axis=0)
    family = KMeansFamily.fit(sample, centroids=size)
    assert family.size == min(size, different)
    assert np.isfinite(family.points).all()
    assert len(np.unique(family.buckets(sample))) == family.size


def test_kmeans_of_what_no_axis_sees() -> None:
    """A centroid without length is nobody's nearest but of what has none either."""
    flat = KMeansFamily.of(
        np.eye(3, 4, dtype=np.int8),
        np.ones(3, np.float32),
        np.array([[0, 0, 0], [127, 0, 0]], np.int8),
        np.zeros((1, 3), np.float32),
        np.array([0, 2]),
    )
    vectors = np.eye(4, dtype=np.float32)[[0, 3]]
    assert flat.buckets(vectors).ravel().tolist() == [1, 0]
    assert flat.probes(vectors, 2)[:, 0].tolist() == [[1, 0], [0, 1]]
    sample = np.repeat(vectors[1:], 20, axis=0)
    assert np.isfinite(KMeansFamily.fit(sample).points).all()


def test_kmeans_gives_many_copies_of_an_image_no_more_centroids_than_one() -> None:
    sample = clustered(400)
    copies = np.concatenate([sample, np.repeat(sample[:1], 4000, axis=0)])
    family, again = (KMeansFamily.fit(vectors, centroids=40) for vectors in (sample, copies))
    assert dump_family(again) == dump_family(family)


# As many centroids as lie in cells without being told.
SIZE = 800


@pytest.fixture(scope="module")
def stored() -> NDArray[np.float32]:
    return in_many_clusters(12_000, seed=1)


@pytest.fixture(scope="module")
def in_cells(stored: NDArray[np.float32]) -> KMeansFamily:
    return KMeansFamily.fit(stored, centroids=SIZE)


class TestKMeansInCells:
    def test_cells(self, in_cells: KMeansFamily, stored: NDArray[np.float32]) -> None:
        assert in_cells.size == SIZE
        assert len(in_cells.cells) > 20
        assert in_cells.starts[0] == 0
        assert in_cells.starts[-1] == SIZE
        assert (np.diff(in_cells.starts) > 0).all()
        again = KMeansFamily.fit(stored, centroids=SIZE)
        assert dump_family(again) == dump_family(in_cells)

    def test_centroids_are_directions(
        self, in_cells: KMeansFamily, stored: NDArray[np.float32]
    ) -> None:
        """A short mean, of images that differ much, is as near as a long one in its direction."""
        for family in (in_cells, KMeansFamily.fit(stored, centroids=40)):
            lengths = np.linalg.norm(family.points, axis=1)
            np.testing.assert_allclose(lengths, 1, atol=1e-3)

    @pytest.mark.parametrize("count", [1, 7, 64, 799, 800])
    def test_probes_are_distinct_and_start_at_home(
        self, in_cells: KMeansFamily, count: int
    ) -> None:
        vectors = in_many_clusters(200, seed=2)
        probes = in_cells.probes(vectors, count)
        assert probes.shape == (200, 1, count)
        np.testing.assert_array_equal(probes[:, :, 0], in_cells.buckets(vectors))
        assert all(len(np.unique(row)) == count for row in probes[:, 0])

    def test_what_no_axis_sees_has_a_home(self, in_cells: KMeansFamily) -> None:
        dim = in_cells.axes.shape[1]
        flat = replace(in_cells, axes=np.where(np.arange(dim) < 4, 0, in_cells.axes))
        unseen = np.zeros((1, dim), np.float32)
        unseen[0, :4] = 1
        probes = flat.probes(unseen, 8)
        assert len(np.unique(probes)) == 8
        np.testing.assert_array_equal(probes[:, :, 0], flat.buckets(unseen))

    def test_home_is_the_nearest_centroid_but_for_a_few(self, in_cells: KMeansFamily) -> None:
        vectors = in_many_clusters(2000, seed=3)
        home = in_cells.buckets(vectors)[:, 0]
        assert (home == everywhere(in_cells).buckets(vectors)[:, 0]).mean() > 0.97

    @pytest.mark.parametrize("count", [1, 9, 256, 800])
    def test_around_a_bucket_are_itself_and_nearly_all_of_the_nearest(
        self, in_cells: KMeansFamily, count: int
    ) -> None:
        around, exact = in_cells.around(count), everywhere(in_cells).around(count)
        assert around.shape == (SIZE, count)
        assert (around[:, 0] == np.arange(SIZE)).all()
        shared = [len(np.intersect1d(*both)) for both in zip(around, exact, strict=True)]
        assert np.mean(shared) > 0.97 * count
        centroids = in_cells.points.astype(np.float64)
        distances = np.linalg.norm(centroids[:, None] - centroids[exact], axis=2)
        assert (np.diff(distances) > -1e-3).all()
        farther = np.linalg.norm(centroids[:, None] - centroids[None], axis=2)
        assert (np.sort(farther, axis=1)[:, count - 1] > distances[:, -1] - 1e-3).all()

    def test_finds_as_much_as_one_level(
        self, in_cells: KMeansFamily, stored: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lloyd, "FLAT", SIZE)
        flat = KMeansFamily.fit(stored, centroids=SIZE)
        assert len(flat.cells) == 1
        recall, read = found(in_cells, stored, probes=12)
        flat_recall, flat_read = found(flat, stored, probes=12)
        assert recall > flat_recall - 0.02
        assert read < 1.05 * flat_read


def everywhere(family: KMeansFamily) -> KMeansFamily:
    """The same centroids in one cell, so that all are compared."""
    starts = np.array([0, family.size])
    return KMeansFamily.of(family.axes, family.scales, family.centroids, family.cells[:1], starts)


def found(family: HashFamily, stored: NDArray[np.float32], probes: int) -> tuple[float, float]:
    """Recall@10 and the share of the rows that are read."""
    queries = in_many_clusters(300, seed=4)
    nearest = np.argpartition(-(queries @ stored.T), 10, axis=1)[:, :10]
    buckets, probed = family.buckets(stored)[:, 0], family.probes(queries, probes)[:, 0]
    read = np.stack([np.isin(buckets, row) for row in probed])
    return float(np.take_along_axis(read, nearest, axis=1).mean()), float(read.mean())


def test_hyperplanes_halve_the_sample_at_each_bit() -> None:
    sample = clustered(999)
    family = HyperplanesFamily.fit(sample, bits=5, tables=2)
    bits = (family.buckets(sample)[:, :, None] >> np.arange(5, dtype=np.uint32)) & 1
    np.testing.assert_allclose(bits.mean(axis=0), 0.5, atol=0.01)


def test_hyperplanes_are_deterministic_and_differ_between_tables() -> None:
    sample = clustered(500)
    family = HyperplanesFamily.fit(sample, bits=6, tables=2)
    assert dump_family(family) == dump_family(HyperplanesFamily.fit(sample, bits=6, tables=2))
    assert not np.allclose(family.planes[0], family.planes[1])


def test_hyperplanes_cut_what_lies_in_one_corner() -> None:
    """Behind a ReLU, planes through the origin leave most buckets empty; fitted ones do not."""
    generator = np.random.default_rng(0)
    vectors = normalised((1 + generator.random((4000, 64)) ** 8).astype(np.float32))
    largest = {
        kind: np.bincount(
            fit_family(vectors, kind=kind, images=4000, tables=1, size=8).buckets(vectors)[:, 0]
        ).max()
        for kind in ("hyperplanes", "gaussian")
    }
    assert largest["gaussian"] > 10 * largest["hyperplanes"]


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("count", [1, 2, 3, 40])
@pytest.mark.parametrize("equal", [False, True])
def test_every_family_of_a_poor_sample(kind: str, count: int, equal: bool) -> None:
    """One vector, fewer vectors than dimensions, or the same one again and again."""
    sample = np.repeat(clustered(1), count, axis=0) if equal else clustered(count)
    family = fit_family(sample, kind=kind, images=10_000)
    vectors = clustered(5, seed=9)
    probes = family.probes(vectors, 3)
    assert probes.shape == (5, family.tables, min(3, family.size))
    np.testing.assert_array_equal(probes[:, :, 0], family.buckets(vectors))


class TestFitFamily:
    @pytest.mark.parametrize(
        ("kind", "images", "size"),
        [
            ("kmeans", 320, 40),
            ("kmeans", 1_000_000, 125),
            ("hyperplanes", 1, 1),
            ("hyperplanes", 1000, 6),
            ("gaussian", 1024, 6),
            ("gaussian", 1025, 7),
            ("gaussian", 10**12, 24),
        ],
    )
    def test_size_follows_the_collection_and_the_sample(
        self, kind: str, images: int, size: int
    ) -> None:
        family = fit_family(clustered(1000), kind=kind, images=images)
        assert family.kind == kind
        assert family.tables == (1 if kind == "kmeans" else 8)
        assert family.size == (size if kind == "kmeans" else 2**size)

    def test_size_and_tables_as_asked_for(self) -> None:
        sample = clustered(100)
        assert fit_family(sample, images=100, size=99, tables=1).size == 99
        family = fit_family(sample, kind="hyperplanes", images=100, size=5, tables=3)
        assert (family.size, family.tables) == (32, 3)
        assert dump_family(fit_family(sample, images=100, seed=2)) == dump_family(
            KMeansFamily.fit(sample, seed=2)
        )

    @pytest.mark.parametrize(
        ("kind", "size", "tables", "message"),
        [
            ("trees", None, None, "choose one of kmeans, hyperplanes, gaussian"),
            ("kmeans", None, 2, "one table"),
            ("kmeans", 101, None, "size from 1 to 100"),
            ("kmeans", 0, None, "size from 1 to 100"),
            ("hyperplanes", 33, None, "1 to 32"),
            ("gaussian", 0, None, "1 to 32"),
            ("gaussian", None, 0, "at least one table"),
        ],
    )
    def test_impossible_families(
        self, kind: str, size: int | None, tables: int | None, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            fit_family(clustered(100), kind=kind, images=100, size=size, tables=tables)

    def test_nothing_to_fit_on(self) -> None:
        with pytest.raises(UsageError, match="at least one"):
            fit_family(np.empty((0, 8), np.float32), images=100)

    def test_sample_size(self) -> None:
        assert sample_size("kmeans", 10) == 10
        assert sample_size("kmeans", 10**9) >= VECTORS_A_CENTROID * MAX_CENTROIDS
        assert sample_size("hyperplanes", 10**9) < 10_000
        assert sample_size("gaussian", 10**9) == 1
        assert sample_size("kmeans", 0) == 1
        with pytest.raises(UsageError, match="choose one of"):
            sample_size("trees", 1)

    @pytest.mark.parametrize("images", [1, 100, 25_000, 10**6, 10**9])
    def test_the_sample_is_enough_for_its_centroids(self, images: int) -> None:
        assert sample_size("kmeans", images) >= centroids_for(images)


def test_gaussian_bits_are_the_signs_of_the_projections() -> None:
    family = GaussianFamily.draw(dim=32, bits=7, tables=2, seed=3)
    [vector] = clustered(1)
    for table, planes in enumerate(family.planes):
        bits = "".join("1" if plane @ vector > 0 else "0" for plane in planes)
        assert family.buckets(vector[None])[0, table] == int(bits, 2)


def test_gaussian_probes_cost_more_and_more() -> None:
    family = GaussianFamily.draw(dim=32, bits=8, tables=1, seed=3)
    [vector] = clustered(1)
    projections = family.planes[0] @ vector
    home = family.buckets(vector[None])[0, 0]
    flips = family.probes(vector[None], 256)[0, 0] ^ home
    masks = (flips[:, None] >> np.arange(8, dtype=np.uint32)[::-1]) & 1
    costs = masks @ projections**2
    assert (np.diff(costs) >= -1e-12).all()


def test_ranking_is_that_of_all_sets_of_bits() -> None:
    distances = np.random.default_rng(0).standard_normal((20, 2, 10))
    masks = (np.arange(1024)[:, None] >> np.arange(10)[::-1]) & 1
    costs = np.sort(np.einsum("ntb,sb->nts", distances**2, masks), axis=2)[:, :, :37]
    flips = ranked_buckets(distances, 37) ^ ranked_buckets(distances, 1)
    probed = (flips[..., None] >> np.arange(10, dtype=np.uint32)[::-1]) & 1
    np.testing.assert_allclose(np.einsum("ntpb,ntb->ntp", probed, distances**2), costs)


@pytest.mark.parametrize("bits", [0, 33])
def test_impossible_numbers_of_bits(bits: int) -> None:
    with pytest.raises(UsageError, match="1 to 32"):
        GaussianFamily.draw(dim=4, bits=bits, tables=1)
    with pytest.raises(UsageError, match="1 to 32"):
        HyperplanesFamily.fit(clustered(9), bits=bits, tables=1)


def test_a_family_of_a_newer_version_is_refused() -> None:
    with pytest.raises(CollectionError, match="update simdist"):
        load_family(b"graph\0...", dim=32)
