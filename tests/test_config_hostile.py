"""Paths, files and sizes that nobody means: a ConfigError each, soon and with little memory."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support.config import HOW_TO, IMAP, SECRET

from exo_imap_oauth import load_config
from exo_imap_oauth._cmsbs import keys
from exo_imap_oauth.config import Setting
from exo_imap_oauth.errors import ConfigError

if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from pathlib import Path

# Reads the configurations that are named as arguments, as a user without rights and with 100 MB
# more than it has; prints what became of each. Paths are relative, so that the folders above
# need not be searchable for that user.
CHILD = """
import json, os, resource, sys
from exo_imap_oauth.config import load_config
from exo_imap_oauth.errors import ConfigError
size = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (size + 100_000_000,) * 2)
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        load_config(path, environ={})
        print(json.dumps(["accepted", ""]))
    except ConfigError as error:
        print(json.dumps(["ConfigError", str(error)]))
    except BaseException as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def a_pipe(place: Path) -> str:
    os.mkfifo(place / "thing.properties", 0o666)
    return "thing.properties"


def an_endless_device(place: Path) -> str:
    place.joinpath("thing.properties").symlink_to("/dev/zero")
    return "thing.properties"


def a_file_of_ten_gigabytes(place: Path) -> str:
    with place.joinpath("thing.properties").open("wb") as file:
        file.truncate(10_000_000_000)
    return "thing.properties"


def something_in_a_locked_folder(place: Path) -> str:
    locked = place / "locked"
    locked.joinpath("thing.properties").mkdir(parents=True)
    locked.chmod(0)
    return "locked/thing.properties"


def a_name_of_300_characters(place: Path) -> str:
    assert place.is_dir()
    return "x" * 289 + ".properties"


THINGS: dict[Callable[[Path], str], str] = {
    a_pipe: "not a file",
    an_endless_device: "not a file",
    a_file_of_ten_gigabytes: "larger than",
    something_in_a_locked_folder: "Permission denied",
    a_name_of_300_characters: "File name too long",
}


@pytest.mark.skipif(sys.platform != "linux", reason="devices, limits and users as Linux has them")
@pytest.mark.parametrize("make", THINGS, ids=lambda make: make.__name__)
def test_wherever_it_stands_it_is_a_configuration_error(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    tmp_path.chmod(0o755)
    as_path = make(tmp_path)
    places = {name: tmp_path / name for name in ("as-main", "as-layer", "as-conf-d", "as-value")}
    for place in places.values():
        place.mkdir()
    main = places["as-main"] / "cmsbs.properties"
    main.symlink_to(f"../{as_path}")
    (places["as-layer"] / "conf.d").mkdir()
    layer = make(places["as-layer"])
    (places["as-layer"] / "conf.d" / "x.properties").symlink_to(f"../{layer}")
    (places["as-layer"] / "cmsbs.properties").write_text(HOW_TO)
    folder = make(places["as-conf-d"])
    (places["as-conf-d"] / "cmsbs.properties").write_text(
        f"{HOW_TO}cmsbs.directory.confd = {folder}\n"
    )
    value = make(places["as-value"])
    (places["as-value"] / "cmsbs.properties").write_text(
        HOW_TO.replace(f"clientSecret = {SECRET}", f"clientSecret$file = {value}")
    )
    done = subprocess.run(
        [sys.executable, "-c", CHILD, as_path, *places],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,  # it hangs
    )
    for locked in tmp_path.rglob("locked"):
        locked.chmod(0o700)
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [kind for kind, _ in outcomes] == ["ConfigError"] * 5
    for _, text in outcomes[:3] + outcomes[4:]:
        assert THINGS[make] in text
    assert "the folder" in outcomes[3][1]


@pytest.mark.skipif(sys.platform != "linux", reason="users as Linux has them")
def test_a_conf_d_that_may_not_be_listed_is_told_as_such(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    folder = tmp_path / "conf.d"
    folder.mkdir(mode=0)
    tmp_path.joinpath("cmsbs.properties").write_text(HOW_TO)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "."],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    folder.chmod(0o700)
    kind, text = json.loads(done.stdout)
    assert kind == "ConfigError"
    assert "mistakes found: 1" in text
    told = (
        "the folder conf.d cannot be read: Permission denied. Allow the user that runs this"
        " program to list and to enter it."
    )
    assert told in text


@pytest.mark.parametrize("what", ["stat", "open"])
def test_a_failure_of_the_system_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_text(HOW_TO)
    own = getattr(os, what)

    def fail(path: object, *args: object, **options: object) -> object:
        if str(path) == str(file):
            raise OSError(5, "Input/output error")
        return own(path, *args, **options)

    monkeypatch.setattr(os, what, fail)
    with pytest.raises(ConfigError, match="Input/output error"):
        load_config(tmp_path, environ={})


@pytest.mark.parametrize("path", ["x\0y", "\ud800"])
def test_a_path_that_no_system_has_is_a_configuration_error(path: str) -> None:
    with pytest.raises(ConfigError, match="no path can hold"):
        load_config(path, environ={})


def test_a_file_of_one_mebibyte_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_bytes(HOW_TO.encode().ljust(1_048_576, b"\n"))
    assert load_config(file, environ={}).warnings == ()
    file.write_bytes(HOW_TO.encode().ljust(1_048_577, b"\n"))
    with pytest.raises(ConfigError, match="larger than 1,048,576 bytes"):
        load_config(file, environ={})


def test_a_value_file_that_is_too_large_is_not_cut(tmp_path: Path) -> None:
    tmp_path.joinpath("secret").write_text("x" * 65_537)
    tmp_path.joinpath("cmsbs.properties").write_text(f"{HOW_TO}{IMAP}folder.inbox$file = secret\n")
    with pytest.raises(ConfigError, match="larger than 65,536 bytes"):
        load_config(tmp_path, environ={})


@pytest.mark.parametrize("name", ["punycode", "idna", "unicode_escape", "raw_unicode_escape"])
def test_an_encoding_that_is_none_of_files_is_not_used(tmp_path: Path, name: str) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_text(f"# Pinuts File Encoding: {name}\n# \\q \\N{{x}}\n{HOW_TO}")
    (warning,) = load_config(file, environ={}).warnings
    assert name in warning.message


def test_a_key_that_is_overridden_a_thousand_times_can_be_shown_and_compared(
    tmp_path: Path,
) -> None:
    file = tmp_path / "cmsbs.properties"
    file.write_text(HOW_TO + f"{IMAP}folder.inbox = x\n" * 1_000)
    config, again = (load_config(file, environ={}) for _ in range(2))
    setting = config.settings[f"{IMAP}folder.inbox"]
    assert repr(setting).startswith(f"Setting(key='{IMAP}folder.inbox', source=")
    assert config.settings == again.settings
    assert hash(setting) == hash(again.settings[f"{IMAP}folder.inbox"])
    overridden, earlier = 0, setting.overrode
    while isinstance(earlier, Setting):
        overridden, earlier = overridden + 1, earlier.overrode
    assert overridden == 999


@pytest.mark.parametrize("name", ["secret-desk", "x" * 100])
def test_a_value_file_is_read_whatever_the_listener_is_called(tmp_path: Path, name: str) -> None:
    prefix = f"cmsbs.bouncelistener.{name}."
    tmp_path.joinpath("folder").write_text("Orders\n")
    tmp_path.joinpath("cmsbs.properties").write_text(
        f"{HOW_TO}cmsbs.bounce.listeners = {name}\n{prefix}mail.imap.user = x@contoso.example\n"
        f"{prefix}mail.imap.server = imap.contoso.example\n"
        f"{prefix}mail.imap.folder.inbox$file = folder\n"
    )
    assert load_config(tmp_path, environ={})[name].folder == "Orders"


# ---- time ------------------------------------------------------------------------------------


def near_misses(count: int) -> str:
    return HOW_TO + "".join(f"{IMAP}oauth2.clientId{number} = x\n" for number in range(count))


def unknown_keys(count: int) -> str:
    return HOW_TO + "".join(f"{IMAP}{'x' * 61}{number} = x\n" for number in range(count))


def listeners(count: int) -> str:
    names = [f"l{number}" for number in range(count)]
    blocks = (
        f"cmsbs.bouncelistener.{name}.mail.imap.user = {name}@contoso.example\n"
        f"cmsbs.bouncelistener.{name}.mail.imap.server = outlook.office365.com\n"
        for name in names
    )
    return f"{HOW_TO}cmsbs.bounce.listeners = {' '.join(names)}\n{''.join(blocks)}"


def names_without_keys(count: int) -> str:
    names = " ".join(f"l{number}" for number in range(count))
    return f"{HOW_TO}cmsbs.bounce.listeners = {names}\n"


def listeners_whose_names_begin_alike(count: int) -> str:
    return listeners(count).replace("listener.l", "listener.a.l").replace(" l", " a.l")


def listeners_without_a_user(count: int) -> str:
    return listeners(count).replace(".mail.imap.user", ".mail.imap.usr")


def overridden(count: int) -> str:
    return HOW_TO + f"{IMAP}folder.inbox = x\n" * count


def dotted_listener(count: int) -> str:
    name = "a." * count + "b"
    keys = f"cmsbs.bouncelistener.{name}.x = y\ncmsbs.bouncelistener.{'b.' * count}x = y\n"
    return f"{HOW_TO}cmsbs.bounce.listeners = {name}\n{keys}"


def value_of(unit: str) -> Callable[[int], str]:
    def text(count: int) -> str:
        return f"{HOW_TO}{IMAP}user = {unit * count}\n"

    return text


def listeners_that_inherit_a_long_value(count: int) -> str:
    return f"{listeners(count)}{IMAP}folder.inbox = {'<' * count * 100}\n"


def test_only_so_many_spellings_are_looked_up_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    own = difflib.get_close_matches

    def counted(word: str, names: dict[str, str], *, n: int, cutoff: float) -> list[str]:
        looked_up.append(word)
        return own(word, names, n=n, cutoff=cutoff)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    file = tmp_path / "cmsbs.properties"
    file.write_text(listeners_without_a_user(100))
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ={})
    assert looked_up == ["usr"]
    assert len(caught.value.problems) == 101  # the primary inbox too
    looked_up.clear()
    file.write_text(near_misses(2_000) + f"{IMAP}oauth2.clientid = x\n")
    warnings = load_config(file, environ={}).warnings
    assert len(warnings) == 2_001
    assert len(looked_up) == 500
    fixes = [warning.fix for warning in warnings]
    assert fixes[0] == fixes[499] == fixes[-1] == f"Did you mean {IMAP}oauth2.clientId?"


def test_a_list_of_names_is_searched_once_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    class Counting:
        @staticmethod
        def search(text: str) -> re.Match[str] | None:
            searched.append(text)
            return setting.search(text)

    setting = keys._SETTING
    monkeypatch.setattr(keys, "_SETTING", Counting)
    file = tmp_path / "cmsbs.properties"
    file.write_text(names_without_keys(2_000))
    warnings = load_config(file, environ={}).warnings
    assert len(warnings) == 2_000
    assert "l1999" in warnings[-1].message
    assert sum(map(len, searched)) <= file.stat().st_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param(unknown_keys, 250, id="unknown keys"),
        pytest.param(listeners, 64, id="listeners"),
        pytest.param(names_without_keys, 250, id="names without keys"),
        pytest.param(listeners_whose_names_begin_alike, 64, id="listeners that begin alike"),
        pytest.param(listeners_without_a_user, 64, id="listeners without a user"),
        pytest.param(listeners_that_inherit_a_long_value, 64, id="listeners with a long value"),
        pytest.param(overridden, 500, id="overridden"),
        pytest.param(dotted_listener, 4_000, id="dots"),
        *(
            pytest.param(value_of(unit), 5_000 // len(unit), id=repr(unit))
            for unit in (
                "[[",
                "{{",
                "${",
                "<",
                "cmsbs.mail.imap.a.",
                "cmsbs.mail.imap.a ",
                "a.",
                "@",
            )
        ),
    ],
)
def test_time_grows_with_the_size_and_not_faster(
    tmp_path: Path, text: Callable[[int], str], count: int
) -> None:
    def seconds(size: int) -> float:
        file = tmp_path / f"{size}.properties"
        file.write_text(text(size))
        started = time.thread_time()
        with contextlib.suppress(ConfigError):
            load_config(file, environ={})
        return time.thread_time() - started

    small = min(seconds(count) for _ in range(3))
    most = 16 * 3 * small + 0.02  # quadratic would be 256 times
    assert any(seconds(16 * count) < most for _ in range(3))
