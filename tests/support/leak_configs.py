"""Configurations for the leak tests: damaged around the secret, or with one where none belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_imap_oauth import load_config
from support.leak_paths import USER, LeakPath, World
from support.leaks import FILE_SECRET, SECRET
from support.token_endpoint import CLIENT, TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "cmsbs.mail.imap."
_VALUES = {
    "server": "outlook.office365.com",
    "port": "993",
    "ssl": "true",
    "user": USER,
    "authenticationMethod": "oauth2",
    "oauth2.accessTokenUri": f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token",
    "oauth2.clientId": CLIENT,
    "oauth2.clientSecret": "%s",
    "oauth2.scope": "https://outlook.office365.com/.default",
    "oauth2.grantType": "client_credentials",
    "oauth2.debug": "true",
}
_OTHERS = ("folder.inbox", "protocol", "password")
_GLOBALS = ("cmsbs.bounce.listeners", "cmsbs.directory.confd", "cmsbs.mail.imap.unknown")


def _line(name: str, value: str) -> str:
    return f"{_PREFIX}{name} = {value}\n"


_TEXT = "".join(_line(name, value) for name, value in _VALUES.items())
_AROUND = (
    "%s", '"%s"', "'%s'", "\u201c%s\u201d", "%s  ", "<%s>", "\ufeff%s", "\\%s", "%s\\", "\u00a0%s",
    "/%s", "%s = 1", "\\u00zz%s", "%s\\u12", "%s # and a comment", "\x1b%s",
)  # fmt: skip


def config_paths() -> Iterator[LeakPath]:
    """Files as they should be, with damage around the secret, and with a secret elsewhere."""
    yield LeakPath("load_config", _loaded)
    yield LeakPath("load_config, its inbox", _its_inbox)
    yield LeakPath("load_config, a setting", _a_setting)
    yield LeakPath("load_config, $file", _with_secret_file, (FILE_SECRET,))
    plain = SECRET.replace("%", "")
    for around in _AROUND:
        value = around.replace("%s", plain)
        yield _config(f"secret as {around!r}", _TEXT.replace("%s", value))
        yield _config(f"secret as {around!r}, quoted", _TEXT.replace("%s", f'"{value}"'))
        yield LeakPath(f"$file with {around!r}", _with_secret_file, (value,))
        yield LeakPath(f"$file named {around!r}", _with_secret_file, (None, value))
    for name in (*_VALUES, *_OTHERS):
        good = _TEXT.replace("%s", plain)
        mine = _line(name, _VALUES.get(name, "x").replace("%s", plain))
        others = good.replace(mine, "")
        yield _config(f"{name} is the secret", others + _line(name, plain))
        yield _config(
            f"{name} in a file named as the secret", others + _line(f"{name}$file", plain)
        )
        for end in ("\\", " \\", "\\\\\\"):
            broken = mine.rstrip("\n") + end + "\n" + _line("oauth2.clientSecret", plain)
            yield _config(f"{name} runs on into the secret by {end!r}", others + broken)
        yield _config(
            f"{name} and the secret on a line",
            others + mine.rstrip("\n") + " " + _line("oauth2.clientSecret", plain),
        )
        yield _config(
            f"the secret and {name} on a line",
            others + _line("oauth2.clientSecret", plain).rstrip("\n") + " " + mine,
        )
        yield _config(f"{name} without a separator", others + f"{_PREFIX}{name}{plain}\n")
        yield _config(f"{name} wrapped", others + f"{_PREFIX}{name} =\n{plain}\n")
        for secret in (plain, FILE_SECRET, f"{plain[:20]} {plain[20:]}"):
            yield _config(f"{name} was {secret[:3]}…", _line(name, secret) + others + mine)
            yield _config(
                f"{name} was in {secret[:3]}…", _line(f"{name}$file", f"/{secret}") + good
            )
        yield _config(f"{name} misspelt", others + _line(f"{name[:-1]}x", plain))
        variable = f"{_PREFIX}{name}".replace(".", "__")
        yield LeakPath(
            f"environment: {name} is the secret", _with_environment, ({variable: plain},)
        )
    for name in _GLOBALS:
        for value in (
            plain,
            f"/{plain}",
            f"a {plain}",
            f"C:\\um\\\n{_PREFIX}oauth2.clientSecret = {plain}",
        ):
            yield _config(
                f"{name} = {value[:3]!r}…", _TEXT.replace("%s", plain) + f"{name} = {value}\n"
            )


def _config(name: str, text: str) -> LeakPath:
    return LeakPath(f"load_config, {name}", _findings_of, (text,))


def _findings_of(world: World, text: str) -> object:
    return _only_findings(_written(world, text), {})


def _its_inbox(world: World) -> object:
    return _loaded(world).default


def _a_setting(world: World) -> object:
    return _loaded(world).settings[f"{_PREFIX}oauth2.clientSecret"]


def _with_environment(world: World, environ: dict[str, str]) -> object:
    return _only_findings(_written(world, _TEXT.replace("%s", SECRET)), environ)


def _only_findings(path: Any, environ: dict[str, str]) -> object:
    """Its warnings and HTML; the repr of an inbox rightly shows what stands as its user or host."""
    config = load_config(path, environ=environ)
    return config.warnings, config._repr_html_()


def _written(world: World, text: str) -> Any:
    path = world.folder / "cmsbs.properties"
    path.write_bytes(text.encode("latin-1", "backslashreplace"))
    return path


def _loaded(world: World) -> Any:
    return load_config(_written(world, _TEXT.replace("%s", SECRET)), environ={})


def _with_secret_file(world: World, secret: str | None, name: str = "") -> object:
    path = world.folder / "secret"
    path.write_bytes((secret or "").encode("latin-1", "backslashreplace"))
    key = f"{_PREFIX}oauth2.clientSecret = %s"
    text = _TEXT.replace(key, f"{_PREFIX}oauth2.clientSecret$file = {name or path}")
    return load_config(_written(world, text), environ={})
