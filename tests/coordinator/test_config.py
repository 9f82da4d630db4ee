"""The coordinator's settings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.coordinator.config import (
    ENVELOPE_BYTES,
    ConfigError,
    CoordinatorConfig,
    default_data_dir,
    is_loopback,
    load,
    normal_host,
    split_listen,
)
from provider_agent.protocol.frames import MAX_MESSAGE_BYTES

EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - nothing is bound here


def box() -> str:
    """The name of the machine."""
    return "Box"


def test_without_any_setting_it_listens_on_loopback_and_keeps_a_database() -> None:
    """The ordinary case."""
    config = load({}, {}, hostname=box)

    assert (config.listen_host, config.listen_port) == ("127.0.0.1", 8700)
    assert config.data_dir == default_data_dir()
    assert config.server_names == ("127.0.0.1", "box", "localhost", "::1")


def test_every_setting_can_come_from_the_environment() -> None:
    """Under its own name; lists are separated by commas."""
    config = load(
        {},
        {
            "PROVIDER_COORDINATOR__LISTEN": "0.0.0.0:9000",
            "PROVIDER_COORDINATOR__DATA": "/srv/coordinator",
            "PROVIDER_COORDINATOR__SERVER_NAMES": "A.example, b.example",
            "PROVIDER_COORDINATOR__QUEUE_MAX_WAIT_S": "2.5",
            "PROVIDER_COORDINATOR__ALLOW_LEGACY_AUTH": "true",
            "PROVIDER_COORDINATOR__CORS_ORIGINS": "https://chat.example, app://obsidian.md",
            "PROVIDER_AGENT__COORDINATOR__URL": "not ours",
        },
    )

    assert (config.listen_host, config.listen_port) == (EVERY_INTERFACE, 9000)
    assert config.data_dir == Path("/srv/coordinator")
    assert config.server_names == ("a.example", "b.example")
    assert config.queue_max_wait_s == 2.5
    assert config.allow_legacy_auth
    assert config.cors_origins == ("https://chat.example", "app://obsidian.md")


def test_a_flag_wins_over_the_environment() -> None:
    """One that was not given does not."""
    environ = {"PROVIDER_COORDINATOR__LISTEN": ":1", "PROVIDER_COORDINATOR__DATA": "/srv"}

    config = load({"listen": "127.0.0.1:2", "data": None}, environ)

    assert config.listen_port == 2
    assert config.data_dir == Path("/srv")


def test_dev_keeps_nothing_unless_told_where() -> None:
    """None is a store in memory."""
    assert load({"dev": True}, {}).data_dir is None
    assert load({"dev": True, "data": Path("/srv")}, {}).data_dir == Path("/srv")


@pytest.mark.parametrize("listen", ["0.0.0.0:8700", ":8700", "192.0.2.1:1", "coordinator.example:1"])
def test_dev_listens_on_loopback_only(listen: str) -> None:
    """It lets anybody in."""
    with pytest.raises(ConfigError, match="leave out --dev, or listen on loopback"):
        load({"dev": True, "listen": listen}, {})


def test_names_given_by_the_operator_replace_the_default_ones() -> None:
    """What agents really dial is then known."""
    assert load({"server_names": ["Bücher.example:443", "b"]}, {}).server_names == (
        "xn--bcher-kva.example",
        "b",
    )


def test_every_interface_is_no_name_of_the_server() -> None:
    """Nobody dials 0.0.0.0."""
    assert load({"listen": "0.0.0.0:1"}, {}, hostname=box).server_names == (
        "box",
        "localhost",
        "127.0.0.1",
        "::1",
    )


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"PROVIDER_COORDINATOR__LISTN": "x"},
            "PROVIDER_COORDINATOR__LISTN names no setting; did you mean PROVIDER_COORDINATOR__LISTEN?",
        ),
        (
            {"PROVIDER_COORDINATOR__ZZZZ": "x"},
            "PROVIDER_COORDINATOR__ZZZZ names no setting; take it out of the environment",
        ),
        (
            {"PROVIDER_COORDINATOR__TLS_CERT_FILE": "/cert.pem"},
            "TLS needs a certificate and its key; give --tls-key, too",
        ),
        (
            {"PROVIDER_COORDINATOR__TLS_KEY_FILE": "/key.pem"},
            "TLS needs a certificate and its key; give --tls-cert, too",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(environ: dict[str, str], sentence: str) -> None:
    """Field note 50: a typo does not pass silently."""
    with pytest.raises(ConfigError) as caught:
        load({}, environ)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("LISTEN_PORT", "99999", "expected a whole number from 0 to 65535"),
        ("QUEUE_MAX_JOBS", "many", "expected a whole number of at least 0"),
        ("queue_max_jobs", "many", "expected a whole number of at least 0"),
        ("DATA", "", "expected a path"),
        ("DATA_DIR", "", "expected a path"),
        ("DATA_DIR", "~nobody-here", "the home directory in ~nobody-here is not known"),
        ("DEV", "maybe", "expected true or false"),
        ("LOG_LEVEL", "loud", "expected one of debug, error, info, warning"),
        ("QUEUE_MAX_WAIT_S", "inf", "expected a number above 0, up to 86400"),
        ("KEEPALIVE_S", "0", "expected a number above 0, up to 86400"),
        ("LISTEN_HOST", "", "expected some text"),
        ("LISTEN", "a:b:c", "'a:b:c' is no address to listen on; give HOST:PORT, such as 127.0.0.1:8700"),
        (
            "CORS_ORIGINS",
            "*,https://chat.example/",
            "'https://chat.example/' is no origin; give it as https://chat.example.org, without a path",
        ),
        ("SERVER_NAMES", "[x", "'[x' is no host name; give it as coordinator.example.org"),
    ],
)
def test_a_wrong_value_names_the_variable_that_holds_it(name: str, text: str, problem: str) -> None:
    """The operator has to find where it stands, and a service may have it from a file of variables."""
    variable = f"PROVIDER_COORDINATOR__{name}"
    with pytest.raises(ConfigError) as caught:
        load({}, {variable: text})
    assert str(caught.value) == f"environment variable {variable}: {problem}"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"queue_max_jobs": "few"}, "queue_max_jobs: expected a whole number of at least 0"),
        (
            {"listen": "a:b:c"},
            "listen: 'a:b:c' is no address to listen on; give HOST:PORT, such as 127.0.0.1:8700",
        ),
        ({"data": Path("~nobody-here/x")}, "data_dir: the home directory in ~nobody-here/x is not known"),
    ],
)
def test_a_wrong_flag_is_not_blamed_on_the_environment(flags: dict[str, object], sentence: str) -> None:
    """It won over the variable of its name."""
    environ = {"PROVIDER_COORDINATOR__QUEUE_MAX_JOBS": "1", "PROVIDER_COORDINATOR__LISTEN": "h:1"}
    with pytest.raises(ConfigError) as caught:
        load(flags, {**environ, "PROVIDER_COORDINATOR__DATA": "/data"})
    assert str(caught.value) == sentence


def test_no_body_is_taken_that_no_agent_could_be_sent() -> None:
    """It would end the session, and with it the jobs of others (field note 19)."""
    most = MAX_MESSAGE_BYTES - ENVELOPE_BYTES

    assert load({"max_body_bytes": most}, {}).max_body_bytes == most
    with pytest.raises(ConfigError, match="max_body_bytes: expected a whole number from 1 to "):
        load({"max_body_bytes": most + 1}, {})


def test_a_missing_tls_file_is_named(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(ConfigError, match=r"the TLS file .*cert\.pem does not exist"):
        load({"tls_cert_file": tmp_path / "cert.pem", "tls_key_file": tmp_path / "key.pem"}, {})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:5", ("192.0.2.1", 5)),
        ("[::1]:80", ("::1", 80)),
        ("host", ("host", 8700)),
        (":80", (EVERY_INTERFACE, 80)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("8900", ("127.0.0.1", 8900)),
    ],
)
def test_an_address_to_listen_on_may_leave_out_a_part(text: str, address: tuple[str, int]) -> None:
    """No host is every interface, no port the usual one."""
    assert split_listen(text) == address


@pytest.mark.parametrize("text", ["::1", "a:b", "http://x", "x:80/p", "[::1", "x:70000", "user@x:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigError):
        split_listen(text)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("Foo.example:80", "foo.example"),
        ("[::1]:8700", "::1"),
        ("::1", "::1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("", ""),
        ("[x", ""),
        ("::\x80", ""),
    ],
)
def test_a_host_is_compared_without_port_case_and_brackets(header: str, host: str) -> None:
    """As `protocol.auth` signs it."""
    assert normal_host(header) == host


@given(st.text(max_size=80))
def test_no_host_header_makes_trouble(header: str) -> None:
    """Whatever a peer sends is a host or none."""
    assert normal_host(header).isascii()


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        (EVERY_INTERFACE, False),
        ("x", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, answer: bool) -> None:
    """A name could be anything."""
    assert is_loopback(host) is answer


def test_the_config_is_frozen() -> None:
    """What was decided at start stays."""
    with pytest.raises(AttributeError):
        CoordinatorConfig().dev = True  # type: ignore[misc]
