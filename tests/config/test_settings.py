"""Settings come from an environment, or the start stops with one line."""

import dataclasses
import hashlib
from pathlib import Path

import certifi
import pytest

from gpt_oss_proxy.config.settings import EFFORTS, Settings, SettingsError
from tests.upstreams.certificates import Authority


def read(**environ: str) -> Settings:
    return Settings.from_environ(environ)


def test_the_contract_s_names_and_defaults() -> None:
    settings = read()
    assert settings == Settings()
    assert (settings.base_url, settings.default_model) == ("https://api.gpt-oss.com", "gpt-oss-120b")
    assert (settings.request_timeout_seconds, settings.reasoning_effort_default) == (30, "high")
    assert settings.vercel_minimal_api_url == "https://minimal-chatbot.vercel.app/api/chat"
    assert (settings.vercel_session_prefix, settings.port) == ("", 3000)


def test_the_contracts_limits() -> None:
    settings = read()
    assert (settings.connect_timeout_seconds, settings.total_timeout_seconds) == (5, 600)
    assert (settings.keepalive_seconds, settings.max_body_bytes) == (15, 32 * 1024 * 1024)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("BASE_URL", "http://localhost:8080/", "http://localhost:8080"),
        ("BASE_URL", " https://a.example/x ", "https://a.example/x"),
        ("BASE_URL", "http://[::1]:9", "http://[::1]:9"),
        ("BASE_URL", "off", ""),
        ("VERCEL_MINIMAL_API_URL", "off", ""),
        ("OPENAI_BASE_URL", "off", ""),
        ("DEFAULT_MODEL", "org/model:7b", "org/model:7b"),
        ("REQUEST_TIMEOUT_SECONDS", "0.1", 0.1),
        ("REQUEST_TIMEOUT_SECONDS", "1e3", 1000.0),
        ("REQUEST_TIMEOUT_SECONDS", "3600", 3600.0),
        ("REASONING_EFFORT_DEFAULT", "none", "none"),
        ("REASONING_EFFORT_DEFAULT", "max", "max"),
        ("VERCEL_SESSION_PREFIX", "team-", "team-"),
        ("PORT", "65535", 65535),
        ("PORT", "0080", 80),
        ("OPENAI_BASE_URL", "http://localhost:11434/v1/", "http://localhost:11434/v1"),
        ("OPENAI_MODELS", "a, org/b ,, a", ("a", "org/b")),
        ("OPENAI_MODELS", " , ", ()),
        ("REASONING_FIELDS", "think-tags", "think-tags"),
        ("CHATKIT_DIALECT", "published", "published"),
        ("API_KEYS", "sk-1, sk-2", tuple(hashlib.sha256(key).hexdigest() for key in (b"sk-1", b"sk-2"))),
        ("API_KEYS", "sk-1\r\n,sk-1\n", (hashlib.sha256(b"sk-1").hexdigest(),) * 2),
        ("API_KEYS", "sha256:" + "0" * 64, ("0" * 64,)),
        ("API_KEYS", "sha256:" + "A1" * 32, ("a1" * 32,)),
        ("API_KEYS", f"sha256:{'0' * 64}  -, sha256:{'1' * 64} *-", ("0" * 64, "1" * 64)),
        ("BREAKER_FAILURES", "0", 0),
        ("FAILOVER", "a=openai", (("a", "openai", "a"),)),
        (
            "FAILOVER",
            "org/a=openai+https://b.example/v1/#c, x=chatkit",
            (("org/a", "openai+https://b.example/v1", "c"), ("x", "chatkit", "x")),
        ),
        ("CA_FILE", certifi.where(), certifi.where()),
        ("SSL_CERT_FILE", f" {certifi.where()} ", certifi.where()),
        ("REQUESTS_CA_BUNDLE", certifi.where(), certifi.where()),
        ("UPSTREAM_PROXY", "http://ada:s%40cret@proxy:3128/", "http://ada:s%40cret@proxy:3128"),
        ("UPSTREAM_PROXY", "http://[::1]:80", "http://[::1]:80"),
        ("DEMONSTRATION", "Ein Modell für Übungen", "Ein Modell für Übungen"),
    ],
)
def test_a_variable_becomes_its_value(name: str, text: str, value: object) -> None:
    assert getattr(read(**{name: text}), name.lower()) == value


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_counts_as_not_set(field: "dataclasses.Field[object]", text: str) -> None:
    assert read(**{field.name.upper(): text}) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("BASE_URL", text)
            for text in (
                "api.example.com",
                "ftp://a.example",
                "http://",
                "http://:80",
                "http://a b",
                "http://a\nb",
                "http://a.example/?x=1",
                "http://a.example/#x",
                "http://a:port",
                "http://a:65536",
                "http://[::1",
                "http://bücher.example",
                "http://a.example/ü",
            )
        ),
        ("VERCEL_MINIMAL_API_URL", "/api/chat"),
        ("OPENAI_BASE_URL", "localhost:1"),
        ("DEFAULT_MODEL", "ü"),
        ("DEFAULT_MODEL", "a\nb"),
        *(
            ("REQUEST_TIMEOUT_SECONDS", text)
            for text in ("soon", "0", "0.09", "3601", "-1", "nan", "inf", "1e999", "30s", "1,5")
        ),
        *(("PORT", text) for text in ("0", "65536", "-1", "+1", "3000.0", "0x10", "3_000", "٣", "9" * 5000)),
        ("REASONING_EFFORT_DEFAULT", "HIGH"),
        ("REASONING_FIELDS", "none"),
        ("CHATKIT_DIALECT", "new"),
        ("AI_SDK_IMAGE_FORMAT", "file"),
        ("AI_SDK_MESSAGE_FORMAT", "text"),
        ("OPENAI_MODELS", "a,ü"),
        ("MAX_REQUESTS", "0"),
        ("RETRIES", "11"),
        ("MAX_BODY_BYTES", "1023"),
        ("MAX_EVENT_BYTES", "16M"),
        ("WEB_CONCURRENCY", "auto"),
        ("GRACEFUL_TIMEOUT_SECONDS", "0.5"),
    ],
)
def test_an_unusable_value_is_one_line_with_its_name_and_what_is_allowed(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(**{name: text})
    field = next(field for field in dataclasses.fields(Settings) if field.name == name.lower())
    line = str(raised.value)
    assert line == f"{name} holds {text[:100]!r}; allowed: {field.metadata['kind'].allowed}"
    assert line.isprintable()


def test_what_is_allowed_is_told_in_words() -> None:
    with pytest.raises(SettingsError) as raised:
        read(REASONING_EFFORT_DEFAULT="much")
    assert str(raised.value) == (
        "REASONING_EFFORT_DEFAULT holds 'much'; allowed: one of none, minimal, low, medium, high, xhigh, max"
    )
    with pytest.raises(SettingsError) as raised:
        read(PORT="http")
    assert str(raised.value) == "PORT holds 'http'; allowed: a whole number from 1 to 65535"


@pytest.mark.parametrize(
    ("environ", "held"),
    [({"MAX_BODIES_BYTES": "4095", "MAX_BODY_BYTES": "4096"}, "4095"), ({"MAX_BODY_BYTES": "268435457"}, "268435456")],
)
def test_one_body_must_find_room_among_all(environ: dict[str, str], held: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(**environ)
    allowed = f"a whole number that is not below MAX_BODY_BYTES, {environ['MAX_BODY_BYTES']}"
    assert str(raised.value) == f"MAX_BODIES_BYTES holds '{held}'; allowed: {allowed}"
    assert read(MAX_BODIES_BYTES="4096", MAX_BODY_BYTES="4096").max_bodies_bytes == 4096


def test_a_secret_is_not_told() -> None:
    with pytest.raises(SettingsError) as raised:
        read(OPENAI_API_KEY="sk-sécret")
    assert str(raised.value) == "OPENAI_API_KEY holds something unusable; allowed: text of visible ASCII characters"


@pytest.mark.parametrize(
    "text",
    [
        "proxy:3128",
        "http://proxy",
        "http://proxy:0x50",
        "http://proxy:3128/path",
        "http://proxy:3128?x",
        "https://ada:secret@proxy:3128",
        "socks5://proxy:1080",
        "http://ada:sécret@proxy:3128",
        "http://ada:sec ret@proxy:3128",
    ],
)
def test_a_proxy_that_cannot_be_spoken_to_stops_the_start_without_being_shown(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(UPSTREAM_PROXY=text)
    assert str(raised.value) == (
        "UPSTREAM_PROXY holds something unusable; allowed: http://host:port or http://name:password@host:port, "
        "percent-encoded; a proxy that itself wants TLS (https://) is not supported"
    )


FILES = ("CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
FOLDERS = ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files that are of no use, and two folders: `hashed` is as `openssl rehash` makes them."""
    pem = Authority(tmp_path, "good").pem
    (tmp_path / "empty.pem").touch()
    (tmp_path / "other.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    (tmp_path / "loop.pem").symlink_to("loop.pem")  # cannot be read, by root either
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/good.pem").write_bytes(pem)
    (tmp_path / "plain/01234567.0").write_text("no certificate")
    (tmp_path / "hashed").mkdir()
    (tmp_path / "hashed/01234567.0").write_text("no certificate")
    (tmp_path / "hashed/89abcdef.0").write_bytes(pem)
    return tmp_path


def refused(folder: Path, name: str, file: str) -> bool:
    """Return whether that file or folder stops the start, in the usual line."""
    text = str(folder / file)
    try:
        return getattr(read(**{name: text}), name.lower()) != text
    except SettingsError as error:
        return str(error).startswith(f"{name} holds {text[:100]!r}; allowed: ")


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_certificates_stops_the_start(name: str, folder: Path) -> None:
    files = ("missing.pem", "empty.pem", "other.pem", "loop.pem", "good.pem")
    assert [refused(folder, name, file) for file in files] == [True, True, True, True, False]


@pytest.mark.parametrize("name", ["CA_FILE", "SSL_CERT_FILE"])
def test_a_folder_is_no_file(name: str, folder: Path) -> None:
    assert refused(folder, name, "hashed")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_in_which_openssl_finds_nothing_stops_the_start(name: str, folder: Path) -> None:
    folders = ("missing", "plain", "hashed")
    assert [refused(folder, name, entry) for entry in folders] == [True, True, False]


def test_each_of_several_folders_must_be_of_use(folder: Path) -> None:
    lists = (f"hashed:{folder}/hashed", f"hashed:{folder}/plain", "good.pem")
    assert [refused(folder, "SSL_CERT_DIR", folders) for folders in lists] == [False, True, True]


def test_a_list_of_what_is_revoked_is_no_certificate(folder: Path) -> None:
    (folder / "revoked.pem").write_bytes(Authority(folder, "revoking").revoked())
    assert refused(folder, "CA_FILE", "revoked.pem")


def test_what_is_not_ours_is_not_read() -> None:
    assert read(PATH="/bin", base_url="http://a.example", Port="1", PORT_FILE="/missing") == Settings()


@pytest.mark.parametrize(
    ("environ", "model"),
    [
        ({}, "gpt-oss-120b"),
        ({"BASE_URL": "off"}, ""),
        ({"BASE_URL": "off", "DEFAULT_MODEL": "gpt-4o"}, "gpt-4o"),
        ({"BASE_URL": "off", "DEFAULT_MODEL": "gpt-oss-120b"}, "gpt-oss-120b"),
        ({"VERCEL_MINIMAL_API_URL": "off"}, "gpt-oss-120b"),
        ({"BASE_URL": "http://a.example"}, "gpt-oss-120b"),
    ],
)
def test_only_without_its_upstream_the_default_model_has_no_default(environ: dict[str, str], model: str) -> None:
    assert read(**environ).default_model == model


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_every_default_is_a_value_that_its_variable_allows(field: "dataclasses.Field[object]") -> None:
    default = ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)
    assert getattr(read(**{field.name.upper(): default}), field.name) == field.default


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_the_efforts_are_the_contracts() -> None:
    assert EFFORTS == ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sk-1,ü", "holds something unusable as entry 2 of 2"),
        ("sk-1,,sk 2\nsk-3", "holds something unusable as entry 2 of 3"),
        ("sk\t1", "holds something unusable as entry 1 of 1"),
        ("sha256:abc", "holds something unusable as entry 1 of 1"),
        ("sha256:" + "G" * 64, "holds something unusable as entry 1 of 1"),
        ("sha256:" + "0" * 65, "holds something unusable as entry 1 of 1"),
        (f"sha256:{'0' * 64}  key.txt", "holds something unusable as entry 1 of 1"),
        (",", "holds no key"),
    ],
)
def test_keys_that_could_never_fit_stop_the_start_without_being_shown(text: str, wrong: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(API_KEYS=text)
    assert str(raised.value).startswith(f"API_KEYS {wrong}; allowed: keys of visible ASCII")


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("b", "holds 'b'"),
        ("b=", "holds 'b='"),
        ("=openai", "holds '=openai'"),
        ("b=#c", "holds 'b=#c'"),
        ("b=openai+", "names the upstream 'openai+'"),
        ("b=openai+ftp://x", "names the upstream 'openai+ftp://x'"),
        ("ü=openai", "names the model 'ü'"),
        ("b=openai#ü", "names the model 'ü'"),
        ("b=openai#c\x7f", "names the model 'c\\x7f'"),
    ],
)
def test_a_wrong_failover_is_shown_alone(entry: str, wrong: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(FAILOVER=f"a=openai, {entry}, c=chatkit")
    assert str(raised.value).startswith(f"FAILOVER {wrong}; allowed: MODEL=UPSTREAM")


SECRETS = ["OPENAI_API_KEY", "UPSTREAM_PROXY", "API_KEYS"]


def test_every_secret_can_be_in_a_file() -> None:
    extra = set(Settings.variables()) - {field.name.upper() for field in dataclasses.fields(Settings)}
    assert extra == {f"{name}_FILE" for name in SECRETS}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_s_file_has_its_value(tmp_path: Path, end: str) -> None:
    file = tmp_path / "secret"
    for name, text in (
        ("OPENAI_API_KEY", "sk-1"),
        ("UPSTREAM_PROXY", "http://a:b@c:1"),
        ("API_KEYS", "sk-1\nsk-2,sk-3"),
    ):
        file.write_text(text + end, newline="")
        assert read(**{f"{name}_FILE": f" {file} "}) == read(**{name: text}) != Settings()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_s_file_that_is_of_no_use_stops_the_start_without_being_shown(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "other").write_text("sécret")
    refused = {}
    for file in ("missing", "empty", "binary", "other"):
        with pytest.raises(SettingsError) as raised:
            read(**{f"{name}_FILE": str(tmp_path / file)})
        refused[file] = str(raised.value)
    assert refused.pop("other").startswith(f"{name}_FILE holds something unusable")
    assert refused == {
        "missing": f"{name}_FILE names a file that cannot be read: No such file or directory",
        "empty": f"{name}_FILE names an empty file",
        "binary": f"{name}_FILE names a file that cannot be read: it is not UTF-8",
    }


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_set_once(name: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(**{name: "x", f"{name}_FILE": "/missing"})
    assert str(raised.value) == f"{name} and {name}_FILE are both set; allowed: one of them"


@pytest.mark.parametrize("name", ["BASE_URL", "OPENAI_BASE_URL", "FAILOVER"])
def test_an_error_shows_no_password_of_a_url(name: str) -> None:
    held = "http://ada:hunter2@llm.example/v1?x=1"
    with pytest.raises(SettingsError) as raised:
        Settings.from_environ({name: f"m=openai+{held}" if name == "FAILOVER" else held})
    assert "hunter2" not in str(raised.value)
