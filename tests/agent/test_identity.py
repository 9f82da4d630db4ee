"""The key file through starts, crashes and careless hands."""

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from provider_agent.agent.identity import Identity, IdentityError
from provider_agent.protocol.auth import signed_bytes
from provider_agent.protocol.frames import Scheme


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "identity.key"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def told(path: Path) -> str:
    """What the operator is told of this file."""
    with pytest.raises(IdentityError) as caught:
        Identity.load_or_create(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "KEY")


def write(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_bytes(content)
    return content


def test_the_same_identity_comes_back_at_every_start(path: Path) -> None:
    """Made once, and then read; what it signs its public key confirms."""
    first = Identity.load_or_create(path)
    second = Identity.load_or_create(path)

    assert first.public_key_b64 == second.public_key_b64
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(first.public_key_b64))
    public.verify(second.sign(b"nonce"), b"nonce")


def test_a_signature_for_one_coordinator_is_worthless_at_another(path: Path) -> None:
    """A hostile server that relays the real one's challenge cannot log in as us (field note 42)."""
    identity, nonce = Identity.load_or_create(path), bytes(32)
    public = Ed25519PublicKey.from_public_bytes(identity.public_key)
    signature = identity.sign(signed_bytes(Scheme.BOUND, "hostile.example", nonce))

    public.verify(signature, signed_bytes(Scheme.BOUND, "hostile.example", nonce))
    with pytest.raises(InvalidSignature):
        public.verify(signature, signed_bytes(Scheme.BOUND, "real.example", nonce))


def test_the_key_is_for_its_owner_only(path: Path) -> None:
    """File 0600, directory 0700, whatever the umask."""
    before = os.umask(0)
    try:
        Identity.load_or_create(path)
    finally:
        os.umask(before)

    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_nothing_but_the_key_is_left_in_the_directory(path: Path) -> None:
    """The file that it was written to first is gone."""
    Identity.load_or_create(path)

    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


FULL_DISK = """
import resource, sys
from pathlib import Path
from provider_agent.agent.identity import Identity, IdentityError

identity = Identity.load_or_create(Path(sys.argv[2])) if sys.argv[2:] else None
resource.setrlimit(resource.RLIMIT_FSIZE, (7, 7))  # no file may grow any longer than this
try:
    if identity is None:
        Identity.load_or_create(Path(sys.argv[1]))
    else:
        identity.remember_provider_id("a.example", "prov-2")
except IdentityError as error:
    sys.exit(78)
"""
"""A start on a disk that is full in the middle of the first write."""


def on_a_full_disk(*arguments: Path) -> int:
    """The exit code of such a start."""
    command = (sys.executable, "-c", FULL_DISK, *map(str, arguments))
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode


def test_a_key_is_there_as_a_whole_or_not_at_all(path: Path) -> None:
    """A crash amid its birth leaves no half of it, and the next start makes one (field note 43)."""
    assert on_a_full_disk(path) == 78
    assert list(path.parent.iterdir()) == []

    assert Identity.load_or_create(path).public_key_b64


WATCHED = """
import os, sys
from pathlib import Path
from provider_agent.agent.identity import Identity

opened = []
sys.addaudithook(lambda event, facts: event == "open" and opened.append(facts))
Identity.load_or_create(Path(sys.argv[1]))
writing = os.O_WRONLY | os.O_RDWR
sys.exit(any(str(path) == sys.argv[1] and flags & writing for path, _, flags in opened))
"""
"""A first start that fails if the key's own place was ever opened to be written."""


def test_a_key_file_is_never_written_in_its_place(path: Path) -> None:
    """So it is neither open to others nor half there for a moment (field note 43)."""
    subprocess.run((sys.executable, "-c", WATCHED, str(path)), check=True, timeout=30)

    assert path.is_file()


def test_of_two_starts_at_once_one_key_remains_and_both_use_it(path: Path) -> None:
    """Neither overwrites the other's (field note 43)."""
    barrier = threading.Barrier(4)
    keys: list[str] = []

    def start() -> None:
        barrier.wait(timeout=10)
        keys.append(Identity.load_or_create(path).public_key_b64)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert keys == [Identity.load_or_create(path).public_key_b64] * 4


def test_a_raw_seed_is_accepted(path: Path) -> None:
    """As other agents in the field keep it: 32 bytes."""
    seed = write(path, bytes(range(32)))

    identity = Identity.load_or_create(path)

    assert identity.public_key == Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_may_use_is_refused_with_the_remedy(path: Path, loose: int) -> None:
    """An existing 0644 does not stay (field note 43)."""
    Identity.load_or_create(path)
    path.chmod(loose)

    assert told(path) == f"KEY may be used by others (mode {loose:04o}); run: chmod 600 KEY"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_key_is_named_and_never_overwritten(path: Path, share: float) -> None:
    """The operator may have a backup; a new key over it would end the identity (field note 43)."""
    Identity.load_or_create(path)
    content = path.read_bytes().strip()
    part = write(path, content[: int(len(content) * share)])

    assert told(path) == (
        "KEY is no private key, or only a part of one; "
        "restore it from a backup, or move it away to start with a new identity"
    )
    assert path.read_bytes() == part


def test_a_key_of_another_kind_is_named(path: Path) -> None:
    """A TLS key, say."""
    key = generate_private_key(SECP256R1())
    write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    assert told(path).startswith("KEY is no Ed25519 key; ")


def test_an_encrypted_key_is_named(path: Path) -> None:
    """A service has nobody to ask for a passphrase."""
    key = Ed25519PrivateKey.generate()
    write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))

    assert told(path).startswith("KEY is encrypted; ")


def test_random_bytes_are_no_key(path: Path) -> None:
    """Neither is a file of any size."""
    write(path, b"\x00\xff" * 20_000)

    assert told(path).startswith("KEY is no private key")


def test_a_directory_in_place_of_the_key_is_named(path: Path) -> None:
    """As when a container mounts a file that does not exist."""
    path.mkdir(parents=True)

    assert told(path) == "KEY cannot be read (is a directory); correct its owner or permissions"


def test_a_device_in_place_of_the_key_is_named() -> None:
    """Reading one could take for ever."""
    assert told(Path("/dev/null")) == "KEY is no file; name a file as identity.key_path"


def test_a_directory_that_cannot_be_written_is_named() -> None:
    """With the setting that helps."""
    told_of = told(Path("/proc/provider-agent/identity.key"))

    assert told_of.startswith("KEY cannot be made (")
    assert told_of.endswith("); make its directory writable, or set identity.key_path")


def test_the_repr_shows_the_public_key_only(path: Path) -> None:
    """It may end up in a traceback."""
    identity = Identity.load_or_create(path)

    assert repr(identity) == f"<Identity {identity.public_key_b64}>"


# --- provider ids ------------------------------------------------------------------------


def test_a_provider_id_is_kept_for_each_coordinator(path: Path) -> None:
    """By the host that was dialled, over restarts."""
    identity = Identity.load_or_create(path)
    assert identity.provider_id("a.example") is None
    identity.remember_provider_id("a.example", "prov-1")
    identity.remember_provider_id("b.example", "prov-2")
    identity.remember_provider_id("a.example", "prov-3")

    again = Identity.load_or_create(path)
    assert (again.provider_id("a.example"), again.provider_id("b.example")) == ("prov-3", "prov-2")


def test_a_coordinator_that_forgot_us_is_forgotten(path: Path) -> None:
    """Only there the next start may use an enrolment code again."""
    identity = Identity.load_or_create(path)
    identity.remember_provider_id("a.example", "prov-1")
    identity.remember_provider_id("b.example", "prov-2")
    identity.forget_provider_id("a.example")
    identity.forget_provider_id("c.example")

    again = Identity.load_or_create(path)
    assert (again.provider_id("a.example"), again.provider_id("b.example")) == (None, "prov-2")


def test_the_ids_file_is_replaced_as_a_whole(path: Path) -> None:
    """A crash leaves the old one or the new one; nothing else stays behind."""
    identity = Identity.load_or_create(path)
    identity.remember_provider_id("a.example", "prov-1")

    ids = path.with_name("identity.key.providers.json")
    assert json.loads(ids.read_bytes()) == {"a.example": "prov-1"}
    assert mode(ids) == 0o600
    assert sorted(path.parent.iterdir()) == [path, ids]


def test_provider_ids_survive_a_write_that_fails(path: Path) -> None:
    """The old ones stay, whole, and nothing half-written beside them (field note 43)."""
    Identity.load_or_create(path).remember_provider_id("a.example", "prov-1")

    assert on_a_full_disk(path, path) == 0

    assert Identity.load_or_create(path).provider_id("a.example") == "prov-1"
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b'{"a.example": "pro', b"[]", b'{"a": 1}', b"\xff\xfe"])
def test_a_broken_ids_file_is_moved_aside_and_stops_nothing(path: Path, content: bytes) -> None:
    """A truncated state file must not brick the agent (field note 43)."""
    identity = Identity.load_or_create(path)
    ids = path.with_name("identity.key.providers.json")
    ids.write_bytes(content)

    assert identity.provider_id("a.example") is None
    assert ids.with_suffix(".broken").read_bytes() == content
    identity.remember_provider_id("a.example", "prov-1")
    assert identity.provider_id("a.example") == "prov-1"


def test_an_ids_file_that_cannot_be_used_stops_nothing(path: Path) -> None:
    """The session is worth more than the note of its name."""
    identity = Identity.load_or_create(path)
    path.with_name("identity.key.providers.json").mkdir()

    assert identity.provider_id("a.example") is None
    identity.remember_provider_id("a.example", "prov-1")
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "identity.key",
        "identity.key.providers.json",
    ]


# --- looking without touching ------------------------------------------------------------


def test_a_look_finds_the_key_and_makes_none(path: Path) -> None:
    """Whoever only asks changes nothing."""
    assert Identity.look(path) is None
    assert not path.parent.exists()

    made = Identity.load_or_create(path)
    looked = Identity.look(path)
    assert looked is not None
    assert looked.public_key == made.public_key


def test_a_look_says_what_a_start_would_say(path: Path) -> None:
    """A broken key, and a place where none can be made."""
    write(path, b"rubbish")
    with pytest.raises(IdentityError, match="no private key"):
        Identity.look(path)

    with pytest.raises(IdentityError, match="cannot be read"):
        Identity.look(path / "identity.key")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_look_sees_that_no_key_can_be_made(path: Path) -> None:
    """The directory is another's."""
    path.parent.mkdir(mode=0o500)

    with pytest.raises(IdentityError, match="cannot be made"):
        Identity.look(path)


def test_a_look_leaves_a_broken_ids_file_where_it_is(path: Path) -> None:
    """It is moved aside by a start only."""
    identity = Identity.load_or_create(path)
    assert not identity.is_known_at("a.example")
    identity.remember_provider_id("a.example", "prov-1")
    assert identity.is_known_at("a.example")

    ids = path.with_name("identity.key.providers.json")
    ids.write_bytes(b"[]")
    assert not identity.is_known_at("a.example")
    assert ids.read_bytes() == b"[]"
