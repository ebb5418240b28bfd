"""Where a token comes from, and which files are refused; what is this machine's own."""

from __future__ import annotations

import os

import pytest

from tuner import tokens
from tuner.errors import UsageError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path, text, mode=0o600):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_is_looked_for_in_rays_own_order(home, monkeypatch):
    assert tokens.find_token() is None
    usual = write(home / ".ray" / "auth_token", "usual\n")
    assert tokens.find_token() == tokens.Token("usual", str(usual))
    named = write(home / "named", "named")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert tokens.find_token() == tokens.Token("named", str(named))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert tokens.find_token() == tokens.Token("given", "RAY_AUTH_TOKEN")


def test_ray_finds_the_same_token(home, monkeypatch):
    """The order above is Ray's own, asked of the Ray that is installed."""
    from ray._raylet import AuthenticationTokenLoader

    loader = AuthenticationTokenLoader.instance()
    usual, named = write(home / ".ray" / "auth_token", "usual"), write(home / "named", "named")
    try:
        for name, value in (("RAY_AUTH_TOKEN_PATH", str(named)), ("RAY_AUTH_TOKEN", "given"), ("RAY_AUTH_TOKEN", "")):
            monkeypatch.setenv(name, value)
            loader.reset_cache()
            assert loader.get_raw_token(ignore_auth_mode=True) == tokens.find_token().value
    finally:
        usual.unlink()
        monkeypatch.undo()
        loader.reset_cache()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused_with_the_command(home, mode):
    file = write(home / ".ray" / "auth_token", "secret", mode)
    with pytest.raises(UsageError, match=f"only its owner may read.*chmod 600 {file}$") as caught:
        tokens.find_token()
    assert "secret" not in str(caught.value)


def test_an_empty_or_missing_file_is_refused(home, monkeypatch):
    write(home / ".ray" / "auth_token", " \n")
    with pytest.raises(UsageError, match="it is empty"):
        tokens.find_token()
    # Ray itself aborts the whole process here.
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "nowhere"))
    with pytest.raises(UsageError, match=r"RAY_AUTH_TOKEN_PATH: .*No such file"):
        tokens.find_token()


def test_a_token_is_never_printed():
    assert "secret" not in repr(tokens.Token("secret", "RAY_AUTH_TOKEN"))


def test_the_private_token_is_new_each_time_and_is_taken_back(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the cluster's")
    seen = []
    for _ in range(2):
        with tokens.private_token():
            assert os.environ["RAY_AUTH_MODE"] == "token"
            seen.append(os.environ["RAY_AUTH_TOKEN"])
    assert len({*seen, "the cluster's"}) == 3 and all(len(token) == 64 for token in seen)
    assert os.environ["RAY_AUTH_TOKEN"] == "the cluster's" and "RAY_AUTH_MODE" not in os.environ


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "192.0.2.1", "nowhere.invalid", "")],
    ],
)
def test_what_is_this_machines_own(host, loopback):
    assert tokens.is_loopback(host) is loopback
