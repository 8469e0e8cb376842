# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import tomllib
import typing as t

import pytest
import tomlkit
import yaml
from ansible_collections.homelab.containerd.plugins.module_utils._docker import daemon_config
from ansible_collections.homelab.containerd.plugins.module_utils._host import sanitize
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import clean
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import describe
from hypothesis import given
from hypothesis import strategies as st

ANY = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain, ünïcode 漢字 <b>&amp;", "plain, ünïcode 漢字 <b>&amp;"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("two\r\nlines\tand a tab", "two\\r\\nlines and a tab"),
        ("\u202egpj.exe\u2066\u200b", "\\u202egpj.exe\\u2066\\u200b"),
        ("half \ud800", "half \\ud800"),
        ("no-break\u00a0space", "no-break space"),
        ("line\u2028paragraph\u2029next\x85", "line\\u2028paragraph\\u2029next\\x85"),
    ],
)
def test_what_a_terminal_would_act_on_is_shown_instead(given_text, shown):
    assert clean(given_text) == shown


@given(ANY)
def test_the_result_is_printable_and_stays_so(text):
    once = clean(text)
    assert once.isprintable()
    assert clean(once) == once
    once.encode("utf-8")


def test_it_goes_into_lists_and_dictionaries_and_changes_no_other_value():
    value = {"\x1b": ["\x07", {"n": 1, "f": 1.5, "b": True, "none": None}], "t": ("\n",)}
    assert clean(value) == {
        "\\x1b": ["\\x07", {"n": 1, "f": 1.5, "b": True, "none": None}],
        "t": ["\\n"],
    }


def test_what_json_does_not_know_becomes_text():
    found = clean({"nan": float("nan"), "inf": float("-inf"), 1: {2}})
    assert found == {"nan": "nan", "inf": "-inf", "1": "{2}"}
    json.dumps(found, allow_nan=False)


def test_a_described_finding_cannot_act_on_a_terminal():
    evidence = {"node": "n1", "file": "/x\x1b[2J", "key": "k\u202e", "value": ["\x07"]}
    finding: t.Any = {"code": "HC299", "text": "\x1bc", "evidence": evidence, "remedy": "none"}
    assert describe(finding).isprintable()


# --- secrets --------------------------------------------------------------------------------------

HEAD, TAIL = "Zq7xK", "Wv3bN"


def between(characters: str) -> st.SearchStrategy[str]:
    """Secrets that are found again whole or in part, with anything in their middle."""
    return st.text(st.sampled_from(characters), max_size=8).map(lambda text: HEAD + text + TAIL)


SECRET = between("ab9/:@#?&'\"\\,=;.+-_~%!$(){}[]<>|^*` ")
#: Without quotes and spaces, which end a value where no quotes are around it.
WORD = between("ab9/:@#?,=;.+-_~%!$(){}[]<>|^*")
SETTINGS = st.sampled_from(
    [
        *("password", "auth", "identitytoken", "splunk-token", "dd-apikey", "newrelic-license-key"),
        *("authkey", "auth_header", "logdna.api.key", "accessKey", "client_secret", "PASSWD"),
        *("DB_PASSWORD", "Authorization", "aws_secret_access_key", "registryToken", "pwd"),
    ]
)


def hidden(shown: t.Any) -> bool:
    text = shown if isinstance(shown, str) else json.dumps(shown)
    return HEAD not in text and TAIL not in text


@pytest.mark.parametrize(
    "harmless",
    [
        *("user@host", "https://host/path@2", "nginx:1.2@sha256:abc", "unix:///run/docker.sock"),
        *("https://m:5000/x/app@sha256:0a1", "docker-pullable://m:5000/x@sha256:0a1"),
        *("--anonymous-auth=false", "--authentication-token-webhook=true", "--v=2"),
        *("--token-file=/etc/x", "401 Unauthorized: no basic auth credentials", "12:30:05 ready"),
        "failed to fetch anonymous token: unexpected status: 401 Unauthorized",
    ],
)
def test_what_is_no_secret_stays(harmless):
    assert sanitize.blank_text(harmless) == harmless
    assert sanitize.blank([harmless]) == [harmless]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:pass@proxy:3128", "http://***@proxy:3128"),
        ("http://user:p@ss@proxy:3128/x", "http://***@proxy:3128/x"),
        ("https://user:ab/pass@m", "https://***@m"),
        ("user:pass@proxy:3128", "***@proxy:3128"),
        ("--http-proxy=user:pass@proxy:3128", "--http-proxy=***@proxy:3128"),
        ("--log-opt=splunk-token=abc", "--log-opt=splunk-token=***"),
        ("https://m/v2/?token=abc", "https://m/v2/?token=***"),
        ('{"auth": "dTpw", "x": 1}', '{"auth": "***", "x": 1}'),
        ("curl -H Authorization: Bearer abcDEF123", "curl -H Authorization: ***"),
        ("login --password abc -u me", "login --password *** -u me"),
    ],
)
def test_a_secret_in_a_text_is_blanked(text, expected):
    assert sanitize.blank_text(text) == expected
    assert sanitize.blank_text(expected) == expected


TEXTS: list[t.Callable[[str, str], str]] = [
    lambda _name, secret: "https://user:%s@m.lab:5000/v2" % secret,
    lambda _name, secret: "failed: http://user:ab/%s@proxy: refused" % secret,
    lambda _name, secret: "user:%s@proxy:3128" % secret,
    lambda _name, secret: "HTTP_PROXY=user:%s@proxy:3128" % secret,
    lambda name, secret: "https://m/?a=b&%s=%s" % (name, secret),
    lambda name, secret: "--%s=%s" % (name, secret),
    lambda name, secret: "run --%s %s now" % (name, secret),
    lambda name, secret: "export %s=%s" % (name, secret),
    lambda name, secret: "#  %s: %s" % (name, secret),
    lambda name, secret: "sent " + json.dumps({"a": 1, name: secret}),
    lambda name, secret: "sent " + json.dumps(json.dumps({"a": 1, name: secret})),
    lambda _name, secret: "> Authorization: Bearer " + secret,
    lambda _name, secret: "-----BEGIN RSA PRIVATE KEY-----\n%s\nxx" % secret,
]


@pytest.mark.parametrize("written", TEXTS)
@given(name=SETTINGS, secret=WORD)
def test_no_secret_is_left_in_a_text(written, name, secret):
    assert hidden(sanitize.blank_text(written(name, secret)))


@given(name=SETTINGS, secret=SECRET)
def test_no_secret_is_left_in_values(name, secret):
    assert hidden(sanitize.blank({name: secret}))
    assert hidden(sanitize.blank({name: [secret, {"a": secret}]}))
    assert hidden(sanitize.blank(["--" + name, secret]))


@given(secret=WORD)
def test_no_secret_is_left_in_keys(secret):
    assert hidden(sanitize.blank({"https://user:%s@m" % secret: {}}))


@given(option=st.text(min_size=1), secret=SECRET)
def test_a_logging_option_of_a_driver_is_never_shown(option, secret):
    if option in daemon_config.LOG_OPTIONS or "=" in option:
        return
    assert hidden(daemon_config.shown({"log-opts": {option: secret, "max-size": "1m"}}))
    words = ["dockerd", "--log-opt", option + "=" + secret, "--log-opt=%s=%s" % (option, secret)]
    assert hidden(daemon_config.shown({"log-opt": [words[2]]}))
    assert hidden(daemon_config.shown_words(words))


def toml_forms(name: str, secret: str) -> list[str]:
    """The ways to write a setting in TOML; tomlkit writes what it can."""
    key, basic = json.dumps(name), json.dumps(secret)
    literal = basic if "'" in secret else "'%s'" % secret
    block = '"""\n%s"""' % basic[1:-1]
    escaped = '"%s"' % "".join("\\u%04x" % ord(char) for char in secret)
    url = json.dumps("https://u:%s@m" % secret)
    table = '[plugins."io.containerd.grpc.v1.cri".registry.configs."m.lab:5000"'
    return [
        '%s.auth]\n"username" = "u"\n%s = %s\n' % (table, key, basic),
        "%s]\nauth = { username = 'u', %s = %s }\n" % (table, key, literal),
        "%s]\nauth.%s = %s # %s\n" % (table, key, block, secret),
        "# %s = %s\nversion = 2\n" % (name, secret),
        "[a]\n%s = [\n  %s, # x\n  %s,\n]\nb = 1\n" % (key, basic, escaped),
        '[host."https://m".header]\nx-any = [%s]\n' % basic,
        "[[a.b]]\n%s = %s\n" % (key, escaped),
        tomlkit.dumps({"a": {name: secret, "b": [{name: secret}]}}),
        "[a]\n%s = '''%s" % (key, secret),  # it never ends, so it is no TOML
    ] + (
        ["[a]\nendpoint = ['https://m', %s]\n[host.%s]\n" % (url, url)] if " " not in secret else []
    )


@given(name=SETTINGS, secret=SECRET)
def test_no_secret_is_left_in_toml_and_the_rest_stays(name, secret):
    for text in toml_forms(name, secret):
        blanked = sanitize.blank_toml(text)
        assert hidden(blanked), text
        assert sanitize.blank_toml(blanked) == blanked
        try:
            before = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        after = tomllib.loads(blanked)
        assert after.get("version") == before.get("version")
        assert list(after) == list(before)


@given(st.text(st.sampled_from("a.=\"'[]{},#\n\\ 1")))
def test_toml_without_a_secret_means_the_same(text):
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        sanitize.blank_toml(text)
        return
    assert tomllib.loads(sanitize.blank_toml(text)) == before


@given(ANY)
def test_any_text_can_be_blanked(text):
    for blanked in (sanitize.blank_text, sanitize.blank_toml, sanitize.blank_yaml):
        blanked(text)


@given(secret=WORD, style=st.sampled_from([None, True, False]), indent=st.sampled_from([2, 4]))
def test_no_secret_is_left_in_the_kubelets_configuration(secret, style, indent):
    config = {
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}},
        "staticPodURL": "https://u:%s@m/" % secret,
        "staticPodURLHeader": {"X-Any": [secret], "Authorization": ["Basic " + secret]},
        "zone": "a",
    }
    for text in (
        yaml.safe_dump(config, default_flow_style=style, indent=indent, width=10000),
        json.dumps(config),
        json.dumps(config, indent=indent),
    ):
        blanked = sanitize.blank_yaml(text)
        assert hidden(blanked), text
        try:
            assert yaml.safe_load(blanked)["zone"] == "a"
        except yaml.YAMLError:
            assert style is True  # all on one line and no JSON: the plan says that it is no YAML
