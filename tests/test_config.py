"""Reading the configuration: what wins, what is refused, and what a refusal says."""

from pathlib import Path

import pytest

from app.config import DEVELOPMENT_SECRET, AuthConfig, Config, ServerConfig, load_config
from app.errors import ConfigError

SECRET = "a-secret-of-this-test-that-is-long-enough"


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return path

    return write


def fault(path=None, environ=None, overrides=None) -> str:
    """Return the message of the refusal."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {}, overrides)
    assert SECRET not in caught.value.message
    return caught.value.message


def test_nothing_at_all_is_a_configuration():
    assert load_config(None, {}) == Config()


def test_flags_win_over_the_environment_over_the_file_over_defaults(write):
    path = write("[server]\nport = 1\nworkers = 1\nlog_level = 'error'\nbody_limit = 7\n")
    environ = {"GATEWAY_SERVER__PORT": "2", "GATEWAY_SERVER__LOG_LEVEL": "debug"}
    server = load_config(path, environ, {"server.port": 3, "server.host": None}).server
    assert (server.port, server.log_level, server.body_limit, server.host) == (3, "debug", 7, "127.0.0.1")


def test_flags_may_be_nested():
    assert load_config(None, {}, {"server": {"port": 4, "host": None}}).server.port == 4


def test_variables_stand_in_texts(write):
    path = write('[server]\nport = "${PORT:-9}"\nhost = "${HOST}"\nallowed_origins = ["https://${NAME:-a}.example"]\n')
    server = load_config(path, {"HOST": "h", "NAME": ""}).server
    assert (server.port, server.host, server.allowed_origins) == (9, "h", ("https://a.example",))


def test_a_dollar_can_be_written(write):
    assert load_config(write("[server]\nhost = '$${HOST}'\n"), {}).server.host == "${HOST}"


def test_a_variables_own_content_is_not_expanded(write):
    path = write("[auth]\nsecret = '${SECRET}'\n")
    assert load_config(path, {"SECRET": "${HOME}" + SECRET}).auth.secret.get_secret_value() == "${HOME}" + SECRET


def test_a_missing_variable_is_named_with_its_cure(write):
    path = write("[auth]\nsecret = '${JWT_SECRET}'\n")
    assert fault(path) == (
        f"{path}: auth.secret needs the variable JWT_SECRET of the environment. "
        "Set it, or write ${JWT_SECRET:-default}."
    )


def test_a_missing_variable_does_not_matter_where_the_environment_sets_the_key(write):
    path = write("[auth]\nsecret = '${JWT_SECRET}'\n")
    assert load_config(path, {"GATEWAY_AUTH__SECRET": SECRET}).auth.secret.get_secret_value() == SECRET


@pytest.mark.parametrize("text", ["${", "${1A}", "${A", "${A:default}"])
def test_a_malformed_variable_is_refused(write, text):
    assert "is not of the form ${NAME}" in fault(write(f"[server]\nhost = '{text}'\n"), {"A": "x"})


def test_every_scalar_can_come_from_the_environment():
    config = load_config(
        None,
        {
            "GATEWAY_REALTIME__NAMESPACES__CHAT__HISTORY_SIZE": "5",
            "GATEWAY_REALTIME__CHANNEL__ALLOW_SUBSCRIBE": "true",
            "GATEWAY_UPSTREAMS__CHAT__TARGETS": '["http://a:1", "http://b:2"]',
            "GATEWAY_UPSTREAMS__CHAT__HEADERS__X_API_KEY": SECRET,
            "GATEWAY_GENERATIONS__KINDS__CHAT__UPSTREAM": "chat",
            "GATEWAY_ROUTES__0__PATH": "/v1/*",
            "GATEWAY_ROUTES__0__METHODS": "get, post",
            "GATEWAY_ROUTES__0__UPSTREAM": "chat",
            "GATEWAY_AUTH__LEEWAY": "1.5",
        },
    )
    assert config.realtime.namespaces["chat"].history_size == 5
    assert config.realtime.channel.allow_subscribe is True
    assert config.upstreams["chat"].targets == ("http://a:1", "http://b:2")
    assert config.upstreams["chat"].headers["x-api-key"].get_secret_value() == SECRET
    assert config.generations.kinds["chat"].upstream == "chat"
    assert (config.routes[0].path, config.routes[0].methods) == ("/v1/*", ("GET", "POST"))
    assert config.auth.leeway == 1.5


def test_a_name_of_the_file_is_found_in_any_case(write):
    path = write("[upstreams.Chat-Service]\ntargets = ['http://a']\n")
    environ = {"GATEWAY_UPSTREAMS__CHAT_SERVICE__TARGETS": "http://b"}
    assert load_config(path, environ).upstreams["Chat-Service"].targets == ("http://b",)


def test_an_empty_variable_means_none_where_a_value_may_be_missing():
    assert load_config(None, {"GATEWAY_BROKER__REDIS_URL": ""}).broker.redis_url is None


def test_variables_of_others_are_left_alone():
    environ = {
        "GATEWAY_PORT": "tcp://10.0.0.1:8080",
        "GATEWAY_SERVER_PORT": "tcp://10.0.0.1:8080",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_JWT_SECRET": SECRET,
        "PATH": "/bin",
    }
    assert load_config(None, environ) == Config()


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("GATEWAY_SERVER__PRT", "Did you mean GATEWAY_SERVER__PORT?"),
        ("GATEWAY_SEVER__PORT", "Did you mean GATEWAY_SERVER__PORT?"),
        ("GATEWAY_SERVER_PORT", "Did you mean GATEWAY_SERVER__PORT?"),
        ("GATEWAY_SERVER", "is a table, not a value"),
        ("GATEWAY_REALTIME__CHANNEL", "is a table, not a value"),
        ("GATEWAY_ROUTES__3__PATH", "by its number"),
        ("GATEWAY_SERVER__PORT__X", "is not a setting"),
    ],
)
def test_a_misspelt_variable_is_an_error(variable, says):
    message = fault(environ={variable: "1"})
    assert message.startswith(f"{variable}, a variable of the environment, ")
    assert says in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nprot = 1", "server.prot is not a setting. Did you mean server.port?"),
        ("[sever]\nport = 1", "sever is not a setting. Did you mean server?"),
        ("[server]\nredis_url = 'x'", "server.redis_url is not a setting. Did you mean broker.redis_url?"),
        ("[server]\nzzz = 1", "server.zzz is not a setting. Remove it"),
        ("[broker]\nredis_url = 'http://h'", "broker.redis_url must begin with redis://"),
        ("[broker]\nredis_url = 'unix://'", "broker.redis_url must begin with redis://"),
        (
            "[broker]\nredis_url = 'redis://h:many/0'",
            "broker.redis_url names a server that is not of the form host:port",
        ),
        (
            "[broker]\nredis_url = 'redis://h:70000'",
            "broker.redis_url names a server that is not of the form host:port",
        ),
        ("[broker]\nredis_url = 'redis+cluster://a:1,b:x'", "broker.redis_url names a server that is not"),
        ("[broker]\nredis_url = 'redis://h/first'", "broker.redis_url must end with the number of a database"),
        (
            "[upstreams.a]\ntargets = ['http://h:0']",
            "upstreams.a.targets holds 'http://h:0', whose port is not one of 1",
        ),
        ("[upstreams.a]\ntargets = ['http://h:70000/x']", "whose port is not one of 1 to 65535"),
        ("[server]\nport = 'many'", "server.port must be a whole number, not 'many'."),
        ("[server]\nport = 1.5", "server.port must be a whole number, not 1.5."),
        ("[server]\nport = true", "server.port must not be true."),
        ("[server]\nport = 70000", "server.port must be less than or equal to 65535, not 70000."),
        ("[server]\nplayground = 1", "server.playground must be true or false."),
        ("[server]\nhost = 1", "server.host must be a text in quotes, not 1."),
        ("[server]\nenvironment = 'prodution'", "Did you mean 'production'?"),
        ("[server]\nallowed_origins = '[\"a'", "server.allowed_origins begins like a JSON list and is none."),
        ("[server]\nallowed_origins = 3", "server.allowed_origins must be a list"),
        ("server = 3", "server must be a table"),
        ("[auth]\nleeway = inf", "auth.leeway must be a finite number"),
        (
            "[auth]\nalgorithms = ['none']",
            "auth.algorithms[0] must be 'HS256', 'RS256', 'RS384'",
        ),
        ("[auth]\nalgorithms = []", "auth.algorithms is empty."),
        ("[auth]\nalgorithms = ['HS256', 'RS256']", "auth.algorithms mixes HS256 with RS256"),
        ("[auth]\nalgorithms = ['RS256']", "auth.public_key is missing, and RS256 needs it."),
        ("[auth]\nalgorithms = ['ES256']\npublic_key = ''", "auth.public_key is missing, and ES256 needs it."),
        ("[auth]\nsecret = ''", "auth.secret is empty, and HS256 needs it."),
        ("[generations]\non_last_disconnect = 'stop'", "generations.on_last_disconnect must be continue, cancel"),
        ("[generations.kinds.chat]\nupstream = 'x'", "generations.kinds.chat.upstream names 'x'"),
        ("[upstreams.a]\n", "upstreams.a.targets is missing."),
        ("[upstreams.a]\ntargets = []", "upstreams.a.targets is empty."),
        ("[upstreams.a]\ntargets = ['a:1']", "upstreams.a.targets holds 'a:1'"),
        (
            "[upstreams.a]\noptional = true\n[generations.kinds.chat]\nupstream = 'a'",
            "generations.kinds.chat.upstream is optional",
        ),
        (
            "[upstreams.a]\ntargets = ['http://a']\n"
            "[[routes]]\npath = '/v1'\nupstream = 'a'\nauth = 'upstream'\nwebsocket = true",
            "routes[0].auth is upstream, which sockets know nothing of",
        ),
        ("[server.health]\npaths = ['/healthz/']", "server.health.paths holds '/healthz/'"),
        ("[auth]\nenabled = false\n[[auth.issuers]]\nenabled = false", "auth.enabled is false for every issuer"),
        ("[[routes]]\npath = 'v1'\nupstream = 'a'", "routes[0].path must start with /"),
        ("[[routes]]\npath = '/v1'\nupstream = 'a'", "routes[0].upstream names 'a', which is not under [upstreams]"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_file_and_key(write, text, says):
    path = write(text)
    message = fault(path)
    assert message.startswith(f"{path}: ")
    assert says in message


def test_what_is_off_may_be_incomplete(write):
    text = (
        "[auth]\nsecret = 's'\n[[auth.issuers]]\nprovider = 'azure'\nenabled = '${if TENANT then true else false}'\n"
        "tenant = '${TENANT:-}'\nclient_id = '${CLIENT:-}'\n[upstreams.a]\ntargets = '${A:-}'\noptional = true\n"
    )
    config = load_config(write(text), {})
    assert ([key for key, _ in config.auth.all_issuers()], config.upstreams["a"].targets) == ([()], ())
    assert "auth.issuers[0].client_id is missing" in fault(write(text), {"TENANT": "t"})
    assert len(load_config(write(text), {"TENANT": "t", "CLIENT": "c"}).auth.all_issuers()) == 2


@pytest.mark.parametrize("environment", ["staging", "Production"])
def test_a_secret_that_everybody_knows_is_refused_where_others_come(write, environment):
    path = write(
        f"[server]\nenvironment = '{environment}'\n[auth]\nsecret = '{SECRET}'\nservice_keys = {{ a = '${{K}}' }}"
    )
    assert "auth.service_keys.a is a key that everybody knows" in fault(path, {"K": "gateway-secret-key-2024"})
    assert load_config(path, {"K": SECRET}).server.guarded
    known = load_config(path, {"K": "gateway-secret-key-2024", "GATEWAY_SERVER__ENVIRONMENT": "testing"})
    assert known.known_secrets() == [("auth", "service_keys", "a")]


def test_all_faults_are_told_at_once(write):
    path = write("[server]\nprot = 1\nport = 'x'\n[auth]\nsecret = '${NONE}'\n")
    lines = fault(path, {"GATEWAY_SERVER__WORKERS": "x"}, {"server.host": 1}).splitlines()
    assert len(lines) == 5
    assert sum(line.startswith(f"{path}: ") for line in lines) == 3
    assert any(
        line.startswith("GATEWAY_SERVER__WORKERS, a variable of the environment: server.workers") for line in lines
    )
    assert any(line.startswith("the command line: server.host") for line in lines)


def test_a_syntax_error_is_located(write):
    path = write("[server]\nport = \n")
    message = fault(path)
    assert message.startswith(f"{path}: is not TOML: ")
    assert "line 2" in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert "there is no such file" in fault(tmp_path / "none.toml")
    assert "cannot be read" in fault(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    assert "is not UTF-8" in fault(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    "url",
    [
        *("redis://", "redis://h", "redis://h:1", "redis://h:1/", "redis://h:1/15", "redis://u:p%2F@h:1/0?timeout=1"),
        *("rediss://[::1]:6380/0", "unix:///run/redis.sock?db=1", "redis+cluster://u:p@a:1,b:2", "rediss+cluster://a"),
    ],
)
def test_every_form_of_a_redis_url_is_taken(url):
    assert load_config(None, {"GATEWAY_BROKER__REDIS_URL": url}).broker.redis_url.get_secret_value() == url


def test_several_workers_may_have_any_shared_log():
    assert load_config(None, {}, {"server.workers": 2}).server.workers == 2
    assert load_config(None, {}, {"server.workers": 2, "broker.embedded": True}).server.workers == 2
    assert load_config(None, {}, {"server.workers": 2, "broker.redis_url": "redis://h"}).server.workers == 2


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "auth.secret is the development secret"),
        ({"GATEWAY_AUTH__SECRET": "short"}, "auth.secret is shorter than 32 bytes"),
        (
            {"GATEWAY_AUTH__SECRET": SECRET, "GATEWAY_REALTIME__INSECURE": "true"},
            "realtime.insecure is for development",
        ),
    ],
)
def test_production_refuses_what_is_for_development(environ, says):
    assert says in fault(environ=environ | {"GATEWAY_SERVER__ENVIRONMENT": "production"})


def test_production_with_a_secret_of_its_own_is_right():
    environ = {"GATEWAY_SERVER__ENVIRONMENT": "production", "GATEWAY_AUTH__SECRET": SECRET}
    assert load_config(None, environ).server.environment == "production"


def test_a_rule_holds_for_whoever_builds_a_configuration():
    with pytest.raises(ValueError, match="development secret"):
        Config(server=ServerConfig(environment="production"))


def test_a_public_key_is_read_from_a_file_beside_the_configuration(write, tmp_path):
    (tmp_path / "key.pem").write_text("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n")
    path = write("[auth]\nalgorithms = ['RS256']\npublic_key = 'key.pem'\n")
    assert load_config(path, {}).auth.public_key.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert "names a file that cannot be read" in fault(write("[auth]\nalgorithms = ['RS256']\npublic_key = 'none.pem'"))


def test_a_public_key_in_one_line_gets_its_line_breaks():
    environ = {"GATEWAY_AUTH__ALGORITHMS": "es256", "GATEWAY_AUTH__PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\\nx"}
    assert load_config(None, environ).auth.public_key == "-----BEGIN PUBLIC KEY-----\nx"


def test_a_private_key_is_refused(write):
    text = f"-----BEGIN PRIVATE KEY-----\\n{SECRET}"
    assert "auth.public_key is a private key" in fault(write(f'[auth]\nalgorithms = ["RS256"]\npublic_key = "{text}"'))


@pytest.mark.parametrize(
    "text",
    [
        f"[auth]\nsecret = ['{SECRET}']",
        f"[auth]\nsecert = '{SECRET}'",
        f"[broker]\nredis_url = ['redis://:{SECRET}@h']",
        f"[broker]\nredis_url = 'redis://:{SECRET}@h:many'",
        f"[upstreams.a]\ntargets = ['http://u:{SECRET}@h']",
        f"[upstreams.a]\ntargets = ['http://h']\nheaders = {{ authorization = ['{SECRET}'] }}",
        f"[auth]\nsecret = '{SECRET}",
    ],
)
def test_no_refusal_shows_a_secret(write, text):
    assert fault(write(text))  # which looks for it


def test_a_configuration_does_not_print_its_secrets():
    config = load_config(
        None,
        {
            "GATEWAY_AUTH__SECRET": SECRET,
            "GATEWAY_BROKER__REDIS_URL": f"redis://:{SECRET}@h",
            "GATEWAY_UPSTREAMS__A__TARGETS": "http://a",
            "GATEWAY_UPSTREAMS__A__HEADERS__AUTHORIZATION": SECRET,
        },
    )
    assert SECRET not in repr(config) + str(config) + config.model_dump_json()


def test_the_development_secret_is_long_enough_for_its_algorithm():
    assert len(DEVELOPMENT_SECRET.encode()) >= 32
    assert AuthConfig().algorithms == ("HS256",)


def test_the_demos_configuration_is_right():
    assert load_config(None, {}, preset="demo").upstreams["chat"].targets == ("http://127.0.0.1:8002",)
    assert load_config(None, {"CHAT_PORT": "9"}, preset="demo").upstreams["chat"].targets == ("http://127.0.0.1:9",)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('failover = "restart"\nfailover_to = ["nobody"]', "nobody"),
        ('failover = "continue"\nformat = "vercel-ai"', "Set restart"),
        ('failover = "restart"\nfailover_models = { other = "m" }', "neither upstream nor one of failover_to"),
        ('failover = "restart"\n[generations.kinds.chat.job]\nsource = "stream"\nformat = "comfyui"', "job"),
    ],
)
def test_a_failover_that_cannot_work_is_refused_with_the_key_to_mend(tmp_path: Path, lines: str, words: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        "[upstreams.chat]\ntargets = ['http://127.0.0.1:1']\n[generations.kinds.chat]\nupstream = 'chat'\n" + lines
    )
    with pytest.raises(ConfigError, match=r"generations\.kinds\.chat\..*" + words):
        load_config(path, {})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("path = '$.urls[*].x y z..'", "path.*must be a path into the answer"),
        ("path = 'jobs/{id}'", "path.*must say where the job is asked for"),
        ("path = '$.urls.get'\nupstream = 'other'", "upstream.*other"),
        ("source = 'push'\nupstream = 'chat'", "upstream.*goes with source = poll or stream"),
        ("source = 'websocket'\nformat = 'comfyui'\npath = '$.urls.get'", "path.*must start with /"),
        ("source = 'poll'\nformat = 'comfyui'", "format.*goes not with source = poll"),
    ],
)
def test_a_job_that_cannot_be_followed_is_refused_with_the_key_to_mend(tmp_path: Path, lines: str, words: str) -> None:
    path = tmp_path / "gateway.toml"
    job = "[generations.kinds.image]\nupstream = 'chat'\npath = '/jobs'\n[generations.kinds.image.job]\n"
    path.write_text(f"[upstreams.chat]\ntargets = ['http://127.0.0.1:1']\n{job}{lines}")
    with pytest.raises(ConfigError, match=r"generations\.kinds\.image\.job\." + words):
        load_config(path, {})
