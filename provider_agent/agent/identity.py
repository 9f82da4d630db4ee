"""The agent's Ed25519 key and what coordinators call it; knows no wire and no handshake.

Rules:

1. A key file is born with its final permissions and its whole content, or not at all: it is written
   beside its place, synced, and linked there. Of two starts at once one wins, and both use its key.
2. A key file that exists is never written again: what cannot be read is the operator's to judge.
3. The provider ids are worth less than a start: a broken file of them is moved aside.
"""

import base64
import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from provider_agent.telemetry.logs import get_logger

SEED_BYTES = 32
"""A file of this length is a raw seed, as other agents in the field keep it."""

_MAX_KEY_FILE_BYTES = 16 * 1024
_IDS_SUFFIX = ".providers.json"

_log = get_logger(__name__)


class IdentityError(Exception):
    """The key file cannot be used.

    Attributes:
        path: the file or directory at fault.
        problem: what is wrong; reads after the path.
        remedy: what to do.
    """

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.path} {self.problem}; {self.remedy}"


class Identity:
    """Who this agent is.

    Attributes:
        path: the key file.
    """

    def __init__(self, path: Path, key: Ed25519PrivateKey) -> None:
        self.path = path
        self._key = key
        self._ids_path = path.with_name(path.name + _IDS_SUFFIX)

    def __repr__(self) -> str:
        return f"<Identity {self.public_key_b64}>"

    @classmethod
    def load_or_create(cls, path: Path) -> "Identity":
        """The key in this file, which is made when there is none.

        Raises:
            IdentityError: it cannot be read or made, is not a key, or others may read it.
        """
        try:
            return cls(path, _load(path))
        except FileNotFoundError:
            _create(path)
            return cls(path, _load(path))

    @classmethod
    def look(cls, path: Path) -> "Identity | None":
        """The key in this file, or None where it would be made; changes nothing.

        Raises:
            IdentityError: as far as it can be told beforehand, `load_or_create` would raise it, too.
        """
        try:
            return cls(path, _load(path))
        except FileNotFoundError:
            _check_can_be_made(path)
            return None

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_key_b64(self) -> str:
        return base64.b64encode(self.public_key).decode()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def provider_id(self, server_host: str) -> str | None:
        """What the coordinator on this host calls us; None before the first contact."""
        return self._read_ids().get(server_host)

    def is_known_at(self, server_host: str) -> bool:
        """Whether that coordinator knows us already; changes nothing."""
        try:
            return server_host in _ids(self._ids_path.read_bytes())
        except (OSError, ValueError):
            return False

    def remember_provider_id(self, server_host: str, provider_id: str) -> None:
        """Keep what the coordinator calls us; a disk that refuses costs a warning, not the session."""
        ids = self._read_ids()
        if ids.get(server_host) != provider_id:
            self._write_ids(ids | {server_host: provider_id})

    def forget_provider_id(self, server_host: str) -> None:
        """The coordinator does not know us any more: from now on an enrolment code is of use again."""
        ids = self._read_ids()
        if ids.pop(server_host, None) is not None:
            self._write_ids(ids)

    def _write_ids(self, ids: Mapping[str, str]) -> None:
        try:
            _replace(self._ids_path, json.dumps(ids, indent=2, sort_keys=True).encode() + b"\n")
        except OSError as error:
            _log.warning("provider_id_not_kept", path=self._ids_path, reason=error.strerror)

    def _read_ids(self) -> dict[str, str]:
        try:
            return _ids(self._ids_path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            _log.warning("provider_ids_unreadable", path=self._ids_path, reason=error.strerror)
            return {}
        except ValueError:
            aside = self._ids_path.with_suffix(".broken")
            with contextlib.suppress(OSError):
                self._ids_path.replace(aside)
            _log.warning("provider_ids_broken", path=self._ids_path, moved_to=aside)
            return {}


def _ids(content: bytes) -> dict[str, str]:
    """Provider ids by host; raises ValueError when it is anything else."""
    ids = json.loads(content)
    if not isinstance(ids, dict) or not all(isinstance(name, str) for name in ids.values()):
        raise ValueError("not a table of texts")
    return ids


# --- the key file ------------------------------------------------------------------------


def _load(path: Path) -> Ed25519PrivateKey:
    """The key in the file; raises FileNotFoundError when there is none."""
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            content = file.read(_MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IdentityError(
            path, f"cannot be read ({_reason(error)})", "correct its owner or permissions"
        ) from error
    return _parse(path, content)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise IdentityError(path, "is no file", "name a file as identity.key_path")
    loose = stat.S_IMODE(status.st_mode) & 0o077
    if loose and os.name == "posix":
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise IdentityError(path, f"may be used by others (mode {mode})", f"run: chmod 600 {path}")


def _parse(path: Path, content: bytes) -> Ed25519PrivateKey:
    if len(content) == SEED_BYTES:
        return Ed25519PrivateKey.from_private_bytes(content)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        problem = (
            "is encrypted" if isinstance(error, TypeError) else "is no private key, or only a part of one"
        )
        raise IdentityError(path, problem, _RESTORE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(path, "is no Ed25519 key", _RESTORE)
    return key


_MAKE_ROOM = "make its directory writable, or set identity.key_path"
_RESTORE = "restore it from a backup, or move it away to start with a new identity"


def _check_can_be_made(path: Path) -> None:
    place = next(folder for folder in path.absolute().parents if folder.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise IdentityError(path, f"cannot be made (no writing in {place})", _MAKE_ROOM)


def _create(path: Path) -> None:
    """Make a key file, unless another start is quicker."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = _write_beside(path, pem)
        try:
            _claim(fresh, path)
        except FileExistsError:
            return
        finally:
            fresh.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise IdentityError(path, f"cannot be made ({_reason(error)})", _MAKE_ROOM) from error
    _log.info("identity_created", path=path)


def _claim(fresh: Path, path: Path) -> None:
    """Give the file its name; raises FileExistsError when that is taken, as a rename would not."""
    try:
        os.link(fresh, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
        fresh.rename(path)


_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})
"""How a file system says that it has no hard links: FAT, and some network and container mounts."""


def _replace(path: Path, content: bytes) -> None:
    fresh = _write_beside(path, content)
    try:
        fresh.replace(path)
    except OSError:
        fresh.unlink()
        raise
    _sync_directory(path.parent)


def _write_beside(path: Path, content: bytes) -> Path:
    """A synced file in the same directory, 0600 from its birth on."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        fresh.unlink()
        raise
    return fresh


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
