# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused of options and groups, with the collection's own specs."""

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.plugin_utils import options
from support import ROOT

ALL_SPECS = {
    name: spec
    for role in ["playbooks", *(path.parents[1].name for path in ROOT.glob("roles/*/meta/a*s.yml"))]
    for name, spec in options.read_specs(role).items()
}


def refusal(name, value):
    """The sentence about a value, or None."""
    try:
        options.check_value(name, ALL_SPECS[name], value)
    except options.BadValueError as exc:
        return str(exc)
    return None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        # -e name=value gives strings, which Ansible's own check takes apart at commas.
        ("assess_overrides", "HC112", '-e \'{"assess_overrides": ["a", "b"]}\''),
        ("containerd_cni_bin_dirs", "/opt/cni/bin", "is not a list"),
        ("containerd_environment", "A=b", "is not a dictionary"),
        ("containerd_registries", [{"host": "a", "mirrors": "b"}], "[0].mirrors is 'b'"),
        ("containerd_registries", [{"host": "a", "insecur": True}], "no key insecur"),
        ("containerd_registries", [{"insecure": True}], "missing required arguments: host"),
        ("containerd_registries", ["a"], "[0] is 'a': that is not a dictionary"),
        ("switch_runtime_drain_args", [["a"]], "is not a string"),
        ("verify_buildkit", "flase", "true or false"),
        # The argument spec takes it for true, the filter `bool` for false.
        ("verify_buildkit", "y", "true or false"),
        ("verify_timeout", "abc", "whole number from 0"),
        ("verify_timeout", -1, "whole number from 0"),
        ("verify_timeout", True, "whole number from 0"),
        ("verify_timeout", None, "no value"),
        ("containerd_install", "tar", "must be one of: keep, package"),
        ("assess_overrides", ["HC212"], "HC212 is no code of a blocker"),
        ("migrate_serial", 0, "number from 1"),
        ("migrate_serial", "abc", "number from 1"),
        ("migrate_serial", "0%", "from 1% to 100%"),
        ("migrate_serial", "120%", "from 1% to 100%"),
        ("migrate_serial", [1, "x"], "number from 1"),
        ("migrate_serial", [], "empty"),
        ("migrate_serial", True, "number from 1"),
    ],
)
def test_what_is_refused(name, value, words):
    assert words in (refusal(name, value) or "taken")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("assess_overrides", ["HC112"]),
        ("assess_overrides", []),
        ("verify_buildkit", "false"),
        ("verify_buildkit", "no"),
        ("verify_buildkit", 0),
        ("verify_timeout", "60"),
        ("containerd_version", 1.7),
        ("containerd_registries", [{"host": "a", "mirrors": ["https://b"], "tls": {"b": {}}}]),
        ("containerd_environment", {"NO_PROXY": "a"}),
        *(("migrate_serial", value) for value in (1, "2", "50%", [1, "50%"])),
    ],
)
def test_what_is_taken(name, value):
    assert refusal(name, value) is None


def test_every_default_is_taken():
    """What is computed is a string here, whatever comes of it."""
    for name, spec in ALL_SPECS.items():
        if "default" in spec and "{{" not in str(spec["default"]):
            assert refusal(name, spec["default"]) is None, name


def test_every_whole_number_has_bounds_and_its_description_says_them():
    numbers = {name for name, spec in ALL_SPECS.items() if spec["type"] == "int"}
    assert set(options.BOUNDS) == numbers
    for name, (least, most) in options.BOUNDS.items():
        said = ALL_SPECS[name]["description"]
        text = " ".join((said if isinstance(said, str) else " ".join(said)).split())
        assert "From %d to %d." % (least, most) in text, name
        assert refusal(name, least) is refusal(name, str(most)) is None, name
        for value in {least - 1, most + 1, 10**30} - {-1}:
            assert "it has to be from %d to %d." % (least, most) in refusal(name, value), name


def test_a_string_is_no_list_and_no_dictionary():
    """What -e name=value gives, for every option there is."""
    for name, spec in ALL_SPECS.items():
        if spec["type"] in ("list", "dict"):
            assert "that is not a" in (refusal(name, "a,b") or ""), name


@pytest.mark.parametrize("name", sorted(options.SECRET))
@pytest.mark.parametrize("value", ["s3cret", [{"a": "s3cret"}], {"s3cret": None}])
def test_secrets_are_not_shown(name, value):
    assert "s3cret" not in (refusal(name, value) or "")
    assert name in ALL_SPECS


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("switch_runtime_graceseconds", "Did you mean switch_runtime_grace_seconds?"),
        ("migrate_verfy", "Did you mean migrate_verify?"),
        ("containerd_registry", None),
        ("containerd_registrys", "Did you mean containerd_registries?"),
        ("carry_images_never_heard_of", "Those that begin so are carry_images_"),
        # Facts of the roles, others' variables, and an option of another role.
        ("carry_images_result", None),
        ("containerd_docker_proxies", None),
        ("containerd_storage_dir", None),
        ("containerd_oom_score", None),
        ("containerd_insecure_registries", None),
        ("verify_timout", None),
    ],
)
def test_misspelt_names(variable, said):
    roles = ["containerd", "carry_images", "switch_runtime", "migrate"]
    problems = options.unknown_options(roles, [variable, "other"], options.all_names())
    assert len(problems) == (said is not None)
    assert said is None or (variable in problems[0] and said in problems[0])


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"kube_control_plane": ["a"]}, None),
        ({"kube_control_plane": ["a"], "kube_node": []}, None),
        ({"kube_control_plane": ["a"], "kube_node": ["b"], "nas": ["c"]}, None),
        # One that holds the right groups, as kubespray's k8s_cluster does.
        ({"kube_control_plane": ["a"], "kube_node": ["b"], "kube_nodes": ["a", "b"]}, None),
        ({"kube_control_plane": ["a"], "kube_nodes": ["a", "b"]}, "kube_nodes (a, b)"),
        ({"kube_control_plane": ["a"], "kube-node": ["b"]}, "Rename it to kube_node"),
        ({"kube_control_plane": ["a"], "kube_nodes": ["a"]}, "Rename it to kube_node"),
        ({"kube_control_plane": ["a"], "kube_node": ["a"], "kube_nod": ["b"]}, "kube_nod (b)"),
        ({"kube_control_plan": ["a"], "kube_node": ["a"]}, "Rename it to kube_control_plane"),
        ({"kube_node": ["a"]}, "no group kube_control_plane with a host"),
        ({"kube_control_plane": [], "kube_node": ["a"]}, "no group kube_control_plane with a host"),
    ],
)
def test_groups(groups, words):
    hosts = [host for members in groups.values() for host in members]
    problems = options.group_problems({"all": hosts, "ungrouped": [], **groups})
    assert bool(problems) == (words is not None)
    assert words is None or words in problems[0]
