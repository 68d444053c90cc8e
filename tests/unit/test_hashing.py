"""Hash families: buckets, probes, and their bytes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.errors import CollectionError, UsageError
from simdist.hashing import GaussianFamily, HashFamily, KMeansFamily, dump_family, load_family
from simdist.vectors import normalised


def clustered(count: int, *, dim: int = 32, seed: int = 1) -> NDArray[np.float32]:
    """Unit vectors around 20 centres."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((20, dim))
    vectors = centres[generator.integers(0, 20, count)] + generator.standard_normal((count, dim))
    return normalised(vectors.astype(np.float32))


def families() -> list[HashFamily]:
    return [
        KMeansFamily.fit(clustered(1000)),
        GaussianFamily.draw(dim=32, bits=6, tables=3),
    ]


@pytest.mark.parametrize("family", families(), ids=lambda family: str(family.kind))
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
        vectors = clustered(50, seed=4)
        many, few = family.probes(vectors, 12), family.probes(vectors, 3)
        np.testing.assert_array_equal(many[:, :, :3], few)

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
        again = load_family(dump_family(family))
        vectors = clustered(100, seed=7)
        np.testing.assert_array_equal(again.probes(vectors, 8), family.probes(vectors, 8))

    def test_no_vectors(self, family: HashFamily) -> None:
        none = np.empty((0, 32), np.float32)
        assert family.buckets(none).shape == (0, family.tables)
        assert family.probes(none, 4).shape == (0, family.tables, 4)


def test_kmeans_is_deterministic_and_puts_a_vector_at_its_nearest_centroid() -> None:
    sample = clustered(800)
    family, again = KMeansFamily.fit(sample), KMeansFamily.fit(sample)
    np.testing.assert_array_equal(family.centroids, again.centroids)
    assert family.size == 800 // 16
    points = (sample - family.mean) @ family.basis
    distances = np.linalg.norm(points[:, None] - family.centroids[None], axis=2)
    own = np.take_along_axis(distances, family.buckets(sample).astype(np.intp), axis=1)
    np.testing.assert_allclose(own[:, 0], distances.min(axis=1), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 33])
def test_kmeans_of_few_images(count: int) -> None:
    family = KMeansFamily.fit(clustered(count))
    assert family.size == max(1, count // 16)
    assert family.buckets(clustered(5)).max() < family.size


def test_kmeans_of_equal_images() -> None:
    family = KMeansFamily.fit(np.repeat(clustered(1), 64, axis=0))
    assert np.isfinite(family.centroids).all()


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


@pytest.mark.parametrize("bits", [0, 33])
def test_gaussian_refuses_impossible_sizes(bits: int) -> None:
    with pytest.raises(UsageError, match="1 to 32"):
        GaussianFamily.draw(dim=4, bits=bits, tables=1)


def test_a_family_of_tomorrow() -> None:
    with pytest.raises(CollectionError, match="update simdist"):
        load_family(b"graph\0...")
