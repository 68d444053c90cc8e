from __future__ import annotations

from pathlib import Path

import pytest

from simdist.settings import Settings

VARIABLES = {
    "SIMDIST_REDIS_URL": "redis://from-environment",
    "RAY_ADDRESS": "ray://from-environment",
    "SIMDIST_DATA_DIR": "/from/environment",
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)


def test_defaults_start_simdists_own_below_the_users_data_folder(tmp_path: Path) -> None:
    settings = Settings.resolve()
    assert settings.redis_url is None
    assert settings.ray_address is None
    assert settings.data_dir == tmp_path / ".local" / "share" / "simdist"


@pytest.mark.usefixtures("environment")
def test_the_environment_comes_before_the_defaults() -> None:
    assert Settings.resolve() == Settings(
        redis_url="redis://from-environment",
        ray_address="ray://from-environment",
        data_dir=Path("/from/environment"),
    )


@pytest.mark.usefixtures("environment")
def test_a_flag_comes_before_the_environment() -> None:
    flags = Settings("redis://flag", "ray://flag", Path("/flag"))
    assert (
        Settings.resolve(redis_url="redis://flag", ray_address="ray://flag", data_dir=Path("/flag"))
        == flags
    )


@pytest.mark.usefixtures("environment")
def test_each_setting_is_resolved_on_its_own() -> None:
    settings = Settings.resolve(redis_url="redis://flag")
    assert settings.redis_url == "redis://flag"
    assert settings.ray_address == "ray://from-environment"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    defaults = Settings.resolve()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    assert Settings.resolve() == defaults


@pytest.mark.parametrize("given", ["flag", "environment"])
@pytest.mark.parametrize(
    ("folder", "expected"), [("~/data", "home/data"), ("data", "here/data"), ("./", "here")]
)
def test_the_data_folder_becomes_absolute(
    given: str, folder: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if given == "environment":
        monkeypatch.setenv("SIMDIST_DATA_DIR", folder)
        settings = Settings.resolve()
    else:
        settings = Settings.resolve(data_dir=Path(folder))
    assert settings.data_dir == tmp_path / expected
